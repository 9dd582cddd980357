"""Callbacks.

Those that most runs do without are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fulmen.callbacks.batch_size_finder import BatchSizeFinder
from fulmen.callbacks.callback import Callback
from fulmen.callbacks.checkpoint import Checkpoint
from fulmen.callbacks.device_stats_monitor import DeviceStatsMonitor
from fulmen.callbacks.early_stopping import EarlyStopping
from fulmen.callbacks.gradient_accumulation_scheduler import GradientAccumulationScheduler
from fulmen.callbacks.lambda_function import LambdaCallback
from fulmen.callbacks.lr_finder import LearningRateFinder
from fulmen.callbacks.lr_monitor import LearningRateMonitor
from fulmen.callbacks.model_checkpoint import ModelCheckpoint
from fulmen.callbacks.model_summary import ModelSummary
from fulmen.callbacks.on_exception_checkpoint import OnExceptionCheckpoint
from fulmen.callbacks.prediction_writer import BasePredictionWriter
from fulmen.callbacks.progress import ProgressBar, RichProgressBar, TQDMProgressBar
from fulmen.callbacks.rich_model_summary import RichModelSummary
from fulmen.callbacks.timer import Timer

if TYPE_CHECKING:
    from fulmen.callbacks.base_finetuning import BaseFinetuning
    from fulmen.callbacks.finetuning import BackboneFinetuning
    from fulmen.callbacks.pruning import ModelPruning
    from fulmen.callbacks.spike import SpikeDetection
    from fulmen.callbacks.stochastic_weight_avg import StochasticWeightAveraging
    from fulmen.callbacks.throughput_monitor import ThroughputMonitor
    from fulmen.callbacks.weight_averaging import EMAWeightAveraging, WeightAveraging

__all__ = [
    "BackboneFinetuning",
    "BaseFinetuning",
    "ModelPruning",
    "SpikeDetection",
    "StochasticWeightAveraging",
    "ThroughputMonitor",
    "EMAWeightAveraging",
    "WeightAveraging",
    "BatchSizeFinder",
    "DeviceStatsMonitor",
    "LearningRateFinder",
    "BasePredictionWriter",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "LambdaCallback",
    "LearningRateMonitor",
    "ModelCheckpoint",
    "ModelSummary",
    "OnExceptionCheckpoint",
    "ProgressBar",
    "RichModelSummary",
    "RichProgressBar",
    "TQDMProgressBar",
    "Timer",
]

_HOME = {
    "BackboneFinetuning": "fulmen.callbacks.finetuning",
    "BaseFinetuning": "fulmen.callbacks.base_finetuning",
    "EMAWeightAveraging": "fulmen.callbacks.weight_averaging",
    "WeightAveraging": "fulmen.callbacks.weight_averaging",
    "ModelPruning": "fulmen.callbacks.pruning",
    "SpikeDetection": "fulmen.callbacks.spike",
    "StochasticWeightAveraging": "fulmen.callbacks.stochastic_weight_avg",
    "ThroughputMonitor": "fulmen.callbacks.throughput_monitor",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value
    raise AttributeError(f"module 'fulmen.callbacks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
