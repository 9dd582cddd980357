"""Plugins: the exchangeable parts of a run, everything that ``Trainer(plugins=...)`` takes."""

from typing import Union

from fulmen.plugins.environments import ClusterEnvironment
from fulmen.plugins.io import AsyncCheckpointIO, CheckpointIO, NativeCheckpointIO, TorchCheckpointIO
from fulmen.plugins.layer_sync import LayerSync, TorchSyncBatchNorm
from fulmen.precision import (
    BitsandbytesPrecision,
    DeepSpeedPrecision,
    DoublePrecision,
    FSDPPrecision,
    HalfPrecision,
    MixedPrecision,
    Precision,
    TransformerEnginePrecision,
)  # fmt: skip

_PLUGIN_INPUT = Union[Precision, ClusterEnvironment, CheckpointIO, LayerSync]  # noqa: UP007

__all__ = [
    "AsyncCheckpointIO", "BitsandbytesPrecision", "CheckpointIO", "DeepSpeedPrecision", "DoublePrecision",
    "FSDPPrecision", "HalfPrecision", "LayerSync", "MixedPrecision", "NativeCheckpointIO", "Precision",
    "TorchCheckpointIO", "TorchSyncBatchNorm", "TransformerEnginePrecision",
]  # fmt: skip
