"""Data for the loops: where it comes from (`Sources`), made ready (`load`), and iterated over (`Feed`)."""

from __future__ import annotations

from fulmen.trainer.data_loaders import Loaders, batch_index_recorders, check_mode, load
from fulmen.trainer.data_sources import Sources
from fulmen.trainer.feed import Feed, StepIterator
from fulmen.trainer.sampler import (
    BatchIndexRecorder,
    DistributedSamplerWrapper,
    UnrepeatedDistributedSampler,
    UnrepeatedDistributedSamplerWrapper,
)

__all__ = [
    "BatchIndexRecorder",
    "DistributedSamplerWrapper",
    "Feed",
    "Loaders",
    "Sources",
    "StepIterator",
    "UnrepeatedDistributedSampler",
    "UnrepeatedDistributedSamplerWrapper",
    "batch_index_recorders",
    "check_mode",
    "load",
]
