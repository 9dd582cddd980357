"""Plugins: the exchangeable parts of a run, everything that ``Trainer(plugins=...)`` takes."""

from typing import Union

import fulmen.precision as _precisions
from fulmen.plugins.environments import ClusterEnvironment
from fulmen.plugins.io import AsyncCheckpointIO, CheckpointIO, NativeCheckpointIO, TorchCheckpointIO
from fulmen.plugins.layer_sync import LayerSync, TorchSyncBatchNorm
from fulmen.plugins.precision import *  # noqa: F403 (every name: which they are is said in fulmen.precision)

# a value that scripts import by name: `X | Y` of classes would be of another type on Python 3.10
_PLUGIN_INPUT = Union[_precisions.Precision, ClusterEnvironment, CheckpointIO, LayerSync]  # noqa: UP007 (see above)

__all__ = [
    "AsyncCheckpointIO",
    "CheckpointIO",
    "LayerSync",
    "NativeCheckpointIO",
    "TorchCheckpointIO",
    "TorchSyncBatchNorm",
]
__all__ += _precisions.__all__
