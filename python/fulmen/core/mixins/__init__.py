"""Mixins that modules and data modules share."""

from fulmen.core.mixins.hparams_mixin import HyperparametersMixin

__all__ = ["HyperparametersMixin"]
