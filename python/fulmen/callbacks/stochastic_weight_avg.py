"""`StochasticWeightAveraging`: the mean of the weights over the last epochs, which generalises better than the last ones.

::

    epochs before swa_start          as ever
    swa_start ... swa_end            the learning rate goes to swa_lrs, each epoch's first weights join the mean
    one more epoch                   only with batch norm: the mean's statistics, by forward passes alone

P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import SWALR

from fulmen import errors
from fulmen.callbacks.callback import Callback
from fulmen.utilities.rank_zero import rank_zero_info, rank_zero_warn
from fulmen.utilities.types import LRSchedulerConfig

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["StochasticWeightAveraging"]

_AVG_FN = Callable[[Tensor, Tensor, Tensor], Tensor]


class StochasticWeightAveraging(Callback):
    """Averages the weights of the last epochs, and leaves the module with the mean.

    Args:
        swa_lrs: the learning rate of the averaged epochs, one for all parameter groups or one each.
        swa_epoch_start: the first averaged epoch, from 1; or a share of ``max_epochs``.
        annealing_epochs: over how many epochs the rate goes there.
        annealing_strategy: "cos" or "linear".
        avg_fn: (mean so far, weights, how many so far) to the new mean; default: all the same weight.
        device: where the mean lies; None: with the module.

    Raises:
        MisconfigurationException: an argument makes no sense; or, when the fit starts, several optimizers or schedulers.
    """

    def __init__(
        self,
        swa_lrs: float | list[float],
        swa_epoch_start: int | float = 0.8,
        annealing_epochs: int = 10,
        annealing_strategy: Literal["cos", "linear"] = "cos",
        avg_fn: _AVG_FN | None = None,
        device: torch.device | str | None = torch.device("cpu"),  # noqa: B008 (nothing changes it)
    ) -> None:
        _check_arguments(swa_lrs, swa_epoch_start, avg_fn, device)
        self.n_averaged: Tensor | None = None
        self._swa_epoch_start = swa_epoch_start
        self._swa_lrs = swa_lrs
        self._annealing_epochs = annealing_epochs
        self._annealing_strategy = annealing_strategy
        self._avg_fn: _AVG_FN = avg_fn or self.avg_fn
        self._device = device
        self._max_epochs = 0
        self._average_model: L.LightningModule | None = None
        self._model_contains_batch_norm = False
        self._initialized = False
        self._swa_scheduler: Any = None
        self._scheduler_state: dict[str, Any] | None = None
        self._init_n_averaged = 0
        self._latest_update_epoch = -1
        self._accumulation: int | None = None
        self.momenta: dict[_BatchNorm, float | None] = {}

    @property
    def swa_start(self) -> int:
        """The first averaged epoch, from 0."""
        assert isinstance(self._swa_epoch_start, int)
        return max(self._swa_epoch_start - 1, 0)

    @property
    def swa_end(self) -> int:
        """The last averaged epoch, from 0."""
        return self._max_epochs - 1

    @staticmethod
    def pl_module_contains_batch_norm(pl_module: L.LightningModule) -> bool:
        """Has the module a batch norm, whose statistics do not fit averaged weights?"""
        return any(True for _ in _batch_norms(pl_module))

    # ---- hooks -------------------------------------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Makes the mean.

        Raises:
            MisconfigurationException: the strategy shards the weights.
        """
        if stage != "fit":
            return
        name = getattr(trainer.strategy, "strategy_name", "")
        if name.startswith(("fsdp", "deepspeed")):
            raise errors.misconfiguration(
                "StochasticWeightAveraging",
                "SWA does not currently support sharded models",
                name,
                "Use another strategy",
            )
        self._average_model = deepcopy(pl_module)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fixes the epochs; a batch norm asks for one more."""
        for what, have in (("optimizer", trainer.optimizers), ("lr_scheduler", trainer.lr_scheduler_configs)):
            if len(have) > 1 or (what == "optimizer" and not have):
                raise errors.misconfiguration(
                    "StochasticWeightAveraging",
                    f"SWA currently works with 1 `{what}`",
                    errors.Words(str(len(have))),
                    f"Return one {what} from `configure_optimizers`",
                )
        limit = trainer.max_epochs
        if limit is None or limit < 0:
            raise errors.misconfiguration(
                "Trainer(max_epochs)", "a number: SWA averages the last epochs", limit, "Set `max_epochs`"
            )
        if isinstance(self._swa_epoch_start, float):
            self._swa_epoch_start = int(limit * self._swa_epoch_start)
        self._model_contains_batch_norm = self.pl_module_contains_batch_norm(pl_module)
        self._max_epochs = limit
        if self._model_contains_batch_norm:
            trainer.fit_loop.max_epochs += 1
        if self._scheduler_state is not None:
            # a resumed run's checkpoint holds the state of the scheduler that took the user's place
            trainer.lr_scheduler_configs.clear()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A run that was resumed within an averaged epoch, or that of statistics, goes on with it."""
        if self._goes_on_within(trainer.current_epoch):
            self._begin(trainer, pl_module)
        if self._model_contains_batch_norm and trainer.current_epoch == self.swa_end + 1:
            self._forward_only(trainer, pl_module)

    def _goes_on_within(self, epoch: int) -> bool:
        """Has an averaged epoch begun in another run?"""
        averaged = self.swa_start <= epoch <= self.swa_end
        return averaged and not self._initialized and self._latest_update_epoch == epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Adds the weights to the mean, or starts the epoch of statistics."""
        epoch = trainer.current_epoch
        averaged = self.swa_start <= epoch <= self.swa_end
        if averaged and not self._initialized:
            self._begin(trainer, pl_module)
        if averaged and epoch > self._latest_update_epoch:
            assert self.n_averaged is not None
            assert self._average_model is not None
            self.update_parameters(self._average_model, pl_module, self.n_averaged, self._avg_fn)
            self._latest_update_epoch = epoch
        if epoch == self.swa_end + 1:
            assert self._average_model is not None
            self.transfer_weights(self._average_model, pl_module)
            self.reset_batch_norm_and_save_state(pl_module)
            self._forward_only(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Ends the epoch of statistics."""
        trainer.fit_loop.forward_only = False

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leaves the module with the mean, and the trainer with the user's settings."""
        last = trainer.current_epoch - 1
        if self._model_contains_batch_norm and last == self.swa_end + 1:
            if self._accumulation is not None:
                trainer.accumulate_grad_batches, self._accumulation = self._accumulation, None
            trainer.fit_loop.max_epochs -= 1
            self.reset_momenta()
        elif last == self.swa_end:
            assert self._average_model is not None
            self.transfer_weights(self._average_model, pl_module)

    def _forward_only(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes this epoch one of statistics: a single accumulation window, whose end is no real step."""
        self._save_momenta(pl_module)
        if self._accumulation is None:
            self._accumulation = trainer.accumulate_grad_batches
            batches = trainer.num_training_batches
            trainer.accumulate_grad_batches = int(batches) + 1 if batches != float("inf") else sys.maxsize
        trainer.fit_loop.forward_only = True

    def _begin(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The first averaged epoch: the mean's device, and the scheduler that leads to its learning rate."""
        self._initialized = True
        assert self._average_model is not None
        device = self._device or pl_module.device
        self._average_model = self._average_model.to(device)
        optimizer = trainer.optimizers[0]
        now = [group["lr"] for group in optimizer.param_groups]
        rates = self._swa_lrs if isinstance(self._swa_lrs, list) else [self._swa_lrs] * len(optimizer.param_groups)
        for rate, group in zip(rates, optimizer.param_groups, strict=False):
            group["initial_lr"] = rate
        self._swa_scheduler = SWALR(
            optimizer,
            swa_lr=rates,  # type: ignore[arg-type]  # torch takes a list as well
            anneal_epochs=self._annealing_epochs,
            anneal_strategy=self._annealing_strategy,
            # SWALR counts from here; cosine annealing reads it as "the last epoch so far"
            last_epoch=trainer.max_epochs or -1 if self._annealing_strategy == "cos" else -1,
        )
        if self._scheduler_state is not None:
            self._swa_scheduler.load_state_dict(self._scheduler_state)
            # making the scheduler has stepped it
            for rate, group in zip(now, optimizer.param_groups, strict=True):
                group["lr"] = rate
        configs = trainer.lr_scheduler_configs
        if configs:
            found = configs[0]
            if found.interval != "epoch" or found.frequency != 1:
                rank_zero_warn(f"SWA is currently only supported every epoch. Found {found}")
            rank_zero_info(
                f"Swapping scheduler `{type(found.scheduler).__name__}` for `{type(self._swa_scheduler).__name__}`"
            )
            found.scheduler = self._swa_scheduler
        else:
            configs.append(LRSchedulerConfig(self._swa_scheduler))
        if self.n_averaged is None:
            self.n_averaged = torch.tensor(self._init_n_averaged, dtype=torch.long, device=device)

    # ---- weights and statistics --------------------------------------------------------------------------------------

    @staticmethod
    def transfer_weights(src_pl_module: L.LightningModule, dst_pl_module: L.LightningModule) -> None:
        """Copies all parameters."""
        with torch.no_grad():
            for source, target in zip(src_pl_module.parameters(), dst_pl_module.parameters(), strict=True):
                target.copy_(source)

    def reset_batch_norm_and_save_state(self, pl_module: L.LightningModule) -> None:
        """Empties the statistics, which the next forward passes average with equal weights."""
        self._save_momenta(pl_module)
        for norm in _batch_norms(pl_module):
            norm.reset_running_stats()

    def _save_momenta(self, pl_module: L.LightningModule) -> None:
        # without momentum a batch norm averages all batches with equal weights
        for norm in _batch_norms(pl_module):
            self.momenta.setdefault(norm, norm.momentum)
            norm.momentum = None

    def reset_momenta(self) -> None:
        """Gives the batch norms their momentum back."""
        for norm, momentum in self.momenta.items():
            norm.momentum = momentum
        self.momenta = {}

    @staticmethod
    def update_parameters(
        average_model: L.LightningModule, model: L.LightningModule, n_averaged: Tensor, avg_fn: _AVG_FN
    ) -> None:
        """Adds a module's parameters to the mean.

        Args:
            average_model: holds the mean, is changed.
            model: the module to add.
            n_averaged: how many the mean has; is increased. The first one is copied.
            avg_fn: as the callback's argument.
        """
        with torch.no_grad():
            for average, current in zip(average_model.parameters(), model.parameters(), strict=True):
                value = current.detach().to(average.device)
                average.copy_(value if n_averaged == 0 else avg_fn(average, value, n_averaged.to(average.device)))
            n_averaged += 1

    @staticmethod
    def avg_fn(averaged_model_parameter: Tensor, model_parameter: Tensor, num_averaged: Tensor) -> Tensor:
        """The mean of ``num_averaged`` weights and one more."""
        return averaged_model_parameter + (model_parameter - averaged_model_parameter) / (num_averaged + 1)

    # ---- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The mean, how many it has, and the scheduler's state."""
        return {
            "n_averaged": 0 if self.n_averaged is None else self.n_averaged.item(),
            "latest_update_epoch": self._latest_update_epoch,
            "scheduler_state": None if self._swa_scheduler is None else self._swa_scheduler.state_dict(),
            "average_model_state": None if self._average_model is None else self._average_model.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        self._init_n_averaged = state_dict["n_averaged"]
        self._latest_update_epoch = state_dict["latest_update_epoch"]
        self._scheduler_state = state_dict["scheduler_state"]
        self._load_average_model_state(state_dict["average_model_state"])

    def _load_average_model_state(self, model_state: Any) -> None:
        if self._average_model is not None:
            self._average_model.load_state_dict(model_state)


def _batch_norms(module: nn.Module) -> Iterator[_BatchNorm]:
    return (m for m in module.modules() if isinstance(m, _BatchNorm))


def _check_arguments(swa_lrs: Any, swa_epoch_start: Any, avg_fn: Any, device: Any) -> None:
    def wrong(argument: str, expected: str, received: Any, cure: str) -> Exception:
        return errors.misconfiguration(f"StochasticWeightAveraging({argument})", expected, received, cure)

    start_fits = (isinstance(swa_epoch_start, int) and swa_epoch_start >= 1) or (
        isinstance(swa_epoch_start, float) and 0 <= swa_epoch_start <= 1
    )
    if not start_fits:
        raise wrong(
            "swa_epoch_start",
            "swa_epoch_start should be a >0 integer or a float between 0 and 1",
            swa_epoch_start,
            "Give the number of an epoch, counted from 1, or a share of all epochs",
        )
    rates = swa_lrs if isinstance(swa_lrs, list) else [swa_lrs]
    if not rates or not all(isinstance(rate, float) and rate > 0 for rate in rates):
        raise wrong(
            "swa_lrs",
            "The `swa_lrs` should be a positive float, or a list of positive floats",
            swa_lrs,
            "Write 0.05, or one rate for every parameter group",
        )
    if avg_fn is not None and not callable(avg_fn):
        raise wrong("avg_fn", "The `avg_fn` should be callable", avg_fn, "Pass a function of three tensors")
    if device is not None and not isinstance(device, (torch.device, str)):
        raise wrong("device", "device is expected to be a torch.device or a str", device, 'Write "cpu" or "cuda:0"')
