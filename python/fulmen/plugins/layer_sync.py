"""Layers whose statistics are taken over all processes."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm


class LayerSync(ABC):
    """Replaces layers of a module by such that communicate between processes, and back."""

    @abstractmethod
    def apply(self, model: Module) -> Module:
        """The module with communicating layers."""

    @abstractmethod
    def revert(self, model: Module) -> Module:
        """The module with ordinary layers again."""


class _BatchNormXd(_BatchNorm):
    """Batch normalisation for any number of dimensions: which one a communicating layer once was, nobody remembers."""

    def _check_input_dim(self, input: Tensor) -> None:
        return


class TorchSyncBatchNorm(LayerSync):
    """Batch normalisation over the batches of all processes, by `torch.nn.SyncBatchNorm`."""

    def apply(self, model: Module) -> Module:
        """The module with every batch normalisation replaced."""
        converted: Module = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted

    def revert(self, model: Module) -> Module:
        """The module with every `torch.nn.SyncBatchNorm` replaced by an ordinary layer with the same state."""
        for name, child in model.named_children():
            model.add_module(name, self.revert(child))
        if not isinstance(model, torch.nn.SyncBatchNorm):
            return model
        plain = _BatchNormXd(
            model.num_features, model.eps, model.momentum, model.affine, model.track_running_stats
        ).train(model.training)
        # the very same tensors: an optimizer may hold them
        plain._parameters = model._parameters
        plain._buffers = model._buffers
        if hasattr(model, "qconfig"):
            plain.qconfig = model.qconfig
        return plain
