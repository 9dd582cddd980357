"""`LightningModule`: a torch module with the hooks of a run."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fulmen import errors
from fulmen.core.device_dtype import DeviceDtypeMixin
from fulmen.core.export import ExportMixin
from fulmen.core.hooks import CheckpointHooks, DataHooks, ModelHooks
from fulmen.core.mixins.hparams_mixin import HyperparametersMixin
from fulmen.core.optimization import OptimizationMixin
from fulmen.utilities.model_helpers import _restricted_classmethod
from fulmen.utilities.rank_zero import WarningCache, rank_zero_warn

if TYPE_CHECKING:
    import fulmen as L
    from fulmen.callbacks.callback import Callback
    from fulmen.loggers.logger import Logger
    from fulmen.utilities.types import STEP_OUTPUT, OptimizerLRScheduler

__all__ = ["LightningModule"]

_warned = WarningCache()


class LightningModule(
    OptimizationMixin,
    ExportMixin,
    DeviceDtypeMixin,
    HyperparametersMixin,
    ModelHooks,
    DataHooks,
    CheckpointHooks,
    nn.Module,
):
    """Base of all modules that a trainer runs: define the steps and ``configure_optimizers``."""

    # TorchScript must not look at these: they reach for the trainer
    __jit_unused_properties__: list[str] = [
        "example_input_array", "on_gpu", "current_epoch", "global_step", "global_rank", "local_rank", "logger", "loggers",
        "automatic_optimization", "trainer", "fabric", "strict_loading", "device_mesh",
    ]  # fmt: skip
    __jit_unused_properties__ += HyperparametersMixin.__jit_unused_properties__
    __jit_unused_properties__ += DeviceDtypeMixin.__jit_unused_properties__
    CHECKPOINT_HYPER_PARAMS_KEY = "hyper_parameters"
    CHECKPOINT_HYPER_PARAMS_NAME = "hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE = "hparams_type"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._trainer: L.Trainer | None = None
        self._log_fast: Callable[..., bool] | None = None
        self._example_input_array: Any = None
        self._automatic_optimization = True
        self._strict_loading: bool | None = None
        self._metric_attributes: dict[int, str] | None = None
        self._jit_is_scripting = False
        self._compiler_ctx: dict[str, Any] | None = None
        self._param_requires_grad_state: dict[Any, bool] = {}
        self._device_mesh: Any = None

    # ---- properties --------------------------------------------------------------------------------------------------

    @property
    def trainer(self) -> L.Trainer:
        """The trainer that runs this module.

        Raises:
            RuntimeError: none has taken it yet.
        """
        if not self._jit_is_scripting and self._trainer is None:
            raise errors.runtime_error(
                f"{type(self).__qualname__} is not attached to a `Trainer`", "Pass it to `trainer.fit(module)` first"
            )
        return self._trainer  # type: ignore[return-value]  # None before a trainer has it, as in Lightning

    @trainer.setter
    def trainer(self, trainer: L.Trainer | None) -> None:
        for child in self.modules():
            if isinstance(child, LightningModule):
                child._trainer = trainer
                child._log_fast = None if trainer is None or trainer.barebones else trainer._ledger.log_fast

    @property
    def fabric(self) -> None:
        """Always None: there is no Fabric here."""
        return None

    @property
    def example_input_array(self) -> Any:
        """An input for summaries, graphs and exports: a tensor, or a tuple or dict of ``forward``'s arguments."""
        return self._example_input_array

    @example_input_array.setter
    def example_input_array(self, example: Any) -> None:
        self._example_input_array = example

    @property
    def automatic_optimization(self) -> bool:
        """Whether the trainer calls backward and step; set to False to do it in ``training_step``."""
        return self._automatic_optimization

    @automatic_optimization.setter
    def automatic_optimization(self, automatic_optimization: bool) -> None:
        self._automatic_optimization = automatic_optimization

    @property
    def strict_loading(self) -> bool:
        """Whether a checkpoint's weights have to match this module's exactly."""
        return self._strict_loading is None or self._strict_loading

    @strict_loading.setter
    def strict_loading(self, strict_loading: bool) -> None:
        self._strict_loading = strict_loading

    @property
    def current_epoch(self) -> int:
        """Epochs done; 0 without a trainer."""
        return self._trainer.current_epoch if self._trainer else 0

    @property
    def global_step(self) -> int:
        """Optimizer steps done; 0 without a trainer."""
        return self._trainer.global_step if self._trainer else 0

    @property
    def global_rank(self) -> int:
        """Index of this process among all."""
        return self._trainer.global_rank if self._trainer else 0

    @property
    def local_rank(self) -> int:
        """Index of this process on its node."""
        return self._trainer.local_rank if self._trainer else 0

    @property
    def on_gpu(self) -> bool:
        """Is the module on a CUDA device?"""
        return self.device.type == "cuda"

    @property
    def device_mesh(self) -> Any:
        """The device mesh of a model-parallel strategy, if there is one."""
        return self._device_mesh

    @property
    def logger(self) -> Logger | None:
        """The trainer's first logger."""
        return self._trainer.logger if self._trainer else None

    @property
    def loggers(self) -> list[Logger]:
        """The trainer's loggers."""
        return self._trainer.loggers if self._trainer else []

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state["_trainer"] = state["_log_fast"] = None
        return state

    # ---- steps -------------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; used by ``predict_step`` unless that is overridden."""
        return super().forward(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Computes the loss of a batch: ``training_step(self, batch, batch_idx)``.

        Returns:
            The loss, a dict with the key "loss", or None to skip the backward pass.
        """
        rank_zero_warn("`training_step` must be implemented to be used with the Lightning Trainer")
        return None

    def validation_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Looks at a validation batch: ``validation_step(self, batch, batch_idx, dataloader_idx=0)``."""

    def test_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Looks at a test batch: ``test_step(self, batch, batch_idx, dataloader_idx=0)``."""

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """The result for a batch: ``predict_step(self, batch, batch_idx, dataloader_idx=0)``; default ``self(batch)``."""
        batch = kwargs.get("batch", args[0] if args else None)
        return self(batch)

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """Callbacks that belong to this module; each replaces the trainer's callbacks of its kind."""
        return []

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizers and learning-rate schedulers.

        Returns:
            An optimizer; a list of them; a dict with "optimizer" and "lr_scheduler"; a pair of lists; or None.
        """
        rank_zero_warn("`configure_optimizers` must be implemented to be used with the Lightning Trainer")
        return None

    # ---- logging -----------------------------------------------------------------------------------------------------

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints on one process only, above the progress bar."""
        if self._trainer is not None:
            self._trainer.print(*args, **kwargs)
        else:
            print(*args, **kwargs)

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str | Callable[[Any], Any] = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any | None = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Logs a value.

        Args:
            name: its name; the same in every process.
            value: a number, a tensor with one element, or a torchmetrics object.
            prog_bar: show it in the progress bar.
            logger: send it to the loggers (default).
            on_step: keep the value of each step; default by the hook that logs.
            on_epoch: reduce over the epoch; default by the hook that logs.
            reduce_fx: "mean" (weighted by batch size), "sum", "min", "max", or a function of a tensor.
            enable_graph: keep the value's graph.
            sync_dist: reduce over processes.
            sync_dist_group: over which of them.
            add_dataloader_idx: append the loader's index to the name where there are several.
            batch_size: weight of the value in the mean; default: found in the batch.
            metric_attribute: name of the attribute that holds the metric object.
            rank_zero_only: only rank 0 logs.

        Raises:
            MisconfigurationException: the hook that runs cannot log, or not so.
            ValueError: the value is not a number.
        """
        trainer = self._trainer
        log_fast = self._log_fast
        if log_fast is not None and log_fast(
            trainer._hook, name, value, prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, sync_dist,  # type: ignore[union-attr]  # with `log_fast` there is a trainer
            sync_dist_group, add_dataloader_idx, batch_size, metric_attribute, rank_zero_only,
        ):  # fmt: skip
            return
        if trainer is None:
            rank_zero_warn(
                "You are trying to `self.log()` but the `self.trainer` reference is not registered on the model yet. "
                "This is most likely because the model hasn't been passed to the `Trainer`"
            )
            return
        if trainer.barebones:
            _warned.warn("You are trying to `self.log()` but `Trainer(barebones=True)` is configured. Logging is off.")
            return
        trainer._ledger.log(
            self, name, value, prog_bar=prog_bar, logger=logger, on_step=on_step, on_epoch=on_epoch, reduce_fx=reduce_fx,
            enable_graph=enable_graph, sync_dist=sync_dist, sync_dist_group=sync_dist_group,
            add_dataloader_idx=add_dataloader_idx, batch_size=batch_size, metric_attribute=metric_attribute,
            rank_zero_only=rank_zero_only,
        )  # fmt: skip

    def log_dict(
        self,
        dictionary: Mapping[str, Any],
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str | Callable[[Any], Any] = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any | None = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Logs several values at once: a dict, or a ``MetricCollection``. Arguments as for :meth:`log`."""
        collection = getattr(sys.modules.get("torchmetrics"), "MetricCollection", ())
        if isinstance(dictionary, collection):
            # the metrics themselves, where those of a compute group would come as copies
            shared = getattr(dictionary, "_enable_compute_groups", True)
            items = dictionary.items(keep_base=False, copy_state=not shared)
        else:
            items = dictionary.items()
        for name, value in items:
            self.log(
                name, value, prog_bar=prog_bar, logger=logger, on_step=on_step, on_epoch=on_epoch, reduce_fx=reduce_fx,
                enable_graph=enable_graph, sync_dist=sync_dist, sync_dist_group=sync_dist_group,
                add_dataloader_idx=add_dataloader_idx, batch_size=batch_size, rank_zero_only=rank_zero_only,
            )  # fmt: skip

    # ---- tools -------------------------------------------------------------------------------------------------------

    def all_gather(self, data: Any, group: Any | None = None, sync_grads: bool = False) -> Any:
        """The tensors of ``data`` from every process, stacked in a new first dimension; unchanged on one process.

        Args:
            data: a number, a tensor, or nested lists, tuples and dicts of such.
            group: the processes.
            sync_grads: let gradients flow back.
        """
        from fulmen.utilities.apply_func import apply_to_collection

        gather = self.trainer.strategy.all_gather

        def one(value: Any) -> Any:
            tensor = value if isinstance(value, Tensor) else torch.tensor(value, device=self.device)
            return gather(tensor, group=group, sync_grads=sync_grads)

        return apply_to_collection(data, (Tensor, numbers.Number), one)

    def freeze(self) -> None:
        """No parameter needs a gradient any more, and the module is in eval mode."""
        for parameter in self.parameters():
            parameter.requires_grad = False
        self.eval()

    def unfreeze(self) -> None:
        """All parameters need gradients, and the module is in train mode."""
        for parameter in self.parameters():
            parameter.requires_grad = True
        self.train()

    @_restricted_classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Builds the module from a checkpoint.

        Args:
            checkpoint_path: a path, a URL, or an open binary file.
            map_location: where tensors go.
            hparams_file: a .yaml or .csv file whose values replace those in the checkpoint.
            strict: whether the weights have to match exactly; None: as ``strict_loading`` says.
            weights_only: whether the file may hold nothing but tensors and plain data; None: torch's default.
            kwargs: arguments of the constructor that replace those in the checkpoint.

        Returns:
            The module, in train mode.
        """
        from fulmen.core.saving import load_module

        return load_module(cls, checkpoint_path, map_location, hparams_file, strict, weights_only, kwargs)
