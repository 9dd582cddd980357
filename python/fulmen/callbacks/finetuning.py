"""`BackboneFinetuning`: the module's ``backbone`` starts to train at a given epoch, with a rate of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.nn import Module
from torch.optim import Optimizer

from fulmen import errors
from fulmen.callbacks.base_finetuning import BaseFinetuning

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["BackboneFinetuning", "BaseFinetuning"]

_log = logging.getLogger(__name__)


def multiplicative(epoch: int) -> float:
    """Doubles the rate with every epoch."""
    return 2.0


class BackboneFinetuning(BaseFinetuning):
    """Freezes ``module.backbone`` until an epoch, then trains it with a learning rate that grows up to the others'.

    Args:
        unfreeze_backbone_at_epoch: from this epoch on (from 0) it trains.
        lambda_func: gives the factor by which the backbone's rate changes, from the number of the next epoch.
        backbone_initial_ratio_lr: the first rate, as a share of the first parameter group's at that time.
        backbone_initial_lr: the first rate itself, in place of a share.
        should_align: stop at the first group's rate once it is reached.
        initial_denom_lr: for subclasses that unfreeze without a rate: the divisor of the first group's.
        train_bn: train the backbone's batch norms too; without it they stay frozen throughout.
        verbose: log both rates at every epoch.
        rounding: digits after the point in that line.

    Raises:
        MisconfigurationException: when the fit starts, if the module has no ``backbone``.
    """

    def __init__(
        self, unfreeze_backbone_at_epoch: int = 10, lambda_func: Callable[[int], float] = multiplicative,
        backbone_initial_ratio_lr: float = 10e-2, backbone_initial_lr: float | None = None, should_align: bool = True,
        initial_denom_lr: float = 10.0, train_bn: bool = True, verbose: bool = False, rounding: int = 12,
    ) -> None:  # fmt: skip
        super().__init__()
        self.unfreeze_backbone_at_epoch, self.train_bn = unfreeze_backbone_at_epoch, train_bn
        self.backbone_initial_lr, self.backbone_initial_ratio_lr = backbone_initial_lr, backbone_initial_ratio_lr
        self.lambda_func, self.should_align, self.initial_denom_lr = lambda_func, should_align, initial_denom_lr
        self.verbose, self.rounding = verbose, rounding
        self.previous_backbone_lr: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """The parameter groups and the backbone's present rate."""
        return {**super().state_dict(), "previous_backbone_lr": self.previous_backbone_lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes both back."""
        self.previous_backbone_lr = state_dict["previous_backbone_lr"]
        super().load_state_dict(state_dict)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Checks that there is a backbone."""
        found = getattr(pl_module, "backbone", None)
        if not isinstance(found, Module):
            raise errors.misconfiguration(
                "BackboneFinetuning",
                "a module as `backbone`: The LightningModule should have a nn.Module `backbone` attribute",
                found,
                f"Set `self.backbone` in {type(pl_module).__name__}",
            )
        super().on_fit_start(trainer, pl_module)

    def freeze_before_training(self, pl_module: L.LightningModule) -> None:
        """Freezes the backbone, with its batch norms."""
        if isinstance(getattr(pl_module, "backbone", None), Module):
            self.freeze(pl_module.backbone)

    def finetune_function(self, pl_module: L.LightningModule, epoch: int, optimizer: Optimizer) -> None:
        """Adds the backbone to the optimizer, and later sets its rate."""
        current = optimizer.param_groups[0]["lr"]
        if epoch == self.unfreeze_backbone_at_epoch:
            first = self.backbone_initial_lr
            rate = current * self.backbone_initial_ratio_lr if first is None else first
            self.unfreeze_and_add_param_group(
                pl_module.backbone,
                optimizer,
                rate,
                train_bn=self.train_bn,
                initial_denom_lr=self.initial_denom_lr,
            )
        elif epoch > self.unfreeze_backbone_at_epoch and self.previous_backbone_lr is not None:
            rate = self.lambda_func(epoch + 1) * self.previous_backbone_lr
            if self.should_align and rate > current:
                rate = current
            optimizer.param_groups[-1]["lr"] = rate
        else:
            return
        self.previous_backbone_lr = rate
        if self.verbose:
            _log.info("Current lr: %s, Backbone lr: %s", round(current, self.rounding), round(rate, self.rounding))
