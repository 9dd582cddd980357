"""`BaseFinetuning`: parts of a network stay frozen first, and join the optimizer later."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from fulmen.callbacks.callback import Callback
from fulmen.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["BaseFinetuning"]

Modules: TypeAlias = nn.Module | Iterable[Any]
"""A module, or an iterable of modules and such iterables."""


class BaseFinetuning(Callback):
    """Base of callbacks that freeze parts of a module and let them train later.

    A subclass overrides :meth:`freeze_before_training` and :meth:`finetune_function`. The module's
    ``configure_optimizers`` must leave the frozen parameters out::

        torch.optim.Adam(filter(lambda p: p.requires_grad, self.parameters()))

    Parameter groups that are added on the way are kept in checkpoints by the names of their parameters, so that a
    resumed run has them before the optimizer's state is loaded.
    """

    def __init__(self) -> None:
        self._internal_optimizer_metadata: dict[int, list[dict[str, Any]]] = {}
        self._restarting = False

    # ---- to be overridden --------------------------------------------------------------------------------------------

    def freeze_before_training(self, pl_module: L.LightningModule) -> None:
        """Freezes what should not train from the start; called before the optimizers are made."""
        raise NotImplementedError

    def finetune_function(self, pl_module: L.LightningModule, epoch: int, optimizer: Optimizer) -> None:
        """Unfreezes what is due; called for every optimizer when a training epoch starts."""
        raise NotImplementedError

    # ---- hooks -------------------------------------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Freezes.

        Raises:
            NotImplementedError: the strategy keeps its own copy of the optimizer's groups.
        """
        if getattr(trainer.strategy, "strategy_name", "").startswith("deepspeed"):
            raise NotImplementedError(
                f"{type(self).__name__} does not support running with the DeepSpeed strategy: it adds parameter groups "
                "during the training. Use another strategy."
            )
        self.freeze_before_training(pl_module)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gives a resumed run's new optimizers the groups that the checkpoint's had."""
        if not self._restarting:
            return
        parameters = dict(pl_module.named_parameters())
        for number, optimizer in enumerate(trainer.optimizers):
            if number in self._internal_optimizer_metadata:
                optimizer.param_groups = [
                    {**group, "params": [parameters[name] for name in group["params"]]}
                    for group in self._internal_optimizer_metadata[number]
                ]
        self._restarting = False

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Asks :meth:`finetune_function`, and notes which groups it added."""
        names = {parameter: name for name, parameter in pl_module.named_parameters()}
        for number, optimizer in enumerate(trainer.optimizers):
            before = len(optimizer.param_groups)
            self.finetune_function(pl_module, trainer.current_epoch, optimizer)
            known = self._internal_optimizer_metadata.setdefault(number, [])
            fresh = optimizer.param_groups[before:] if known else optimizer.param_groups
            known += [{**group, "params": [names[p] for p in group["params"]]} for group in fresh]

    def state_dict(self) -> dict[str, Any]:
        """The parameter groups, with names in place of parameters."""
        return {"internal_optimizer_metadata": self._internal_optimizer_metadata}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the groups back; states of early Lightning versions are the groups themselves."""
        self._restarting = True
        self._internal_optimizer_metadata = state_dict.get("internal_optimizer_metadata", state_dict)

    # ---- tools -------------------------------------------------------------------------------------------------------

    @staticmethod
    def flatten_modules(modules: Modules) -> list[nn.Module]:
        """All modules below ``modules`` that are leaves or hold parameters of their own."""
        return [m for m in _walk(modules) if not any(True for _ in m.children()) or m._parameters]

    @staticmethod
    def filter_params(modules: Modules, train_bn: bool = True, requires_grad: bool = True) -> Generator[nn.Parameter]:
        """The parameters below ``modules`` that do (or do not) require gradients.

        Args:
            modules: a module, or a nested iterable of modules.
            train_bn: count those of batch norms.
            requires_grad: which ones to give.
        """
        for module in BaseFinetuning.flatten_modules(modules):
            if isinstance(module, _BatchNorm) and not train_bn:
                continue
            yield from (p for p in module.parameters(recurse=False) if p.requires_grad == requires_grad)

    @staticmethod
    def make_trainable(modules: Modules) -> None:
        """Lets everything below ``modules`` train, batch norms' statistics included."""
        for module in BaseFinetuning.flatten_modules(modules):
            _set_trainable(module, True)

    @staticmethod
    def freeze_module(module: nn.Module) -> None:
        """Freezes the module's own parameters, not its children's, and a batch norm's statistics."""
        _set_trainable(module, False)

    @staticmethod
    def freeze(modules: Modules, train_bn: bool = True) -> None:
        """Freezes everything below ``modules``.

        Args:
            modules: a module, or a nested iterable of modules.
            train_bn: leave batch norms trainable.
        """
        for module in BaseFinetuning.flatten_modules(modules):
            _set_trainable(module, train_bn and isinstance(module, _BatchNorm))

    @staticmethod
    def filter_on_optimizer(optimizer: Optimizer, params: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """Those of ``params`` that the optimizer does not have yet; a warning if it has some."""
        present = {id(p) for group in optimizer.param_groups for p in group["params"]}
        params = list(params)
        fresh = [p for p in params if id(p) not in present]
        if len(fresh) < len(params):
            rank_zero_warn(
                "The provided params to be frozen already exist within another group of this optimizer. Those parameters "
                "will be skipped. Did you init your optimizer in `configure_optimizers` with the parameters that require "
                "gradients only? `optimizer = SGD(filter(lambda p: p.requires_grad, self.parameters()), ...)`"
            )
        return fresh

    @staticmethod
    def unfreeze_and_add_param_group(
        modules: Modules,
        optimizer: Optimizer,
        lr: float | None = None,
        initial_denom_lr: float = 10.0,
        train_bn: bool = True,
    ) -> None:
        """Lets ``modules`` train, as a new parameter group of the optimizer.

        Args:
            modules: a module, or a nested iterable of modules.
            optimizer: gets the group.
            lr: the group's learning rate. None: the first group's, divided by ``initial_denom_lr``.
            initial_denom_lr: that divisor.
            train_bn: add batch norms' parameters too.
        """
        BaseFinetuning.make_trainable(modules)
        rate = optimizer.param_groups[0]["lr"] / initial_denom_lr if lr is None else float(lr)
        params = BaseFinetuning.filter_on_optimizer(
            optimizer, BaseFinetuning.filter_params(modules, train_bn=train_bn, requires_grad=True)
        )
        if params:
            optimizer.add_param_group({"params": params, "lr": rate})


def _walk(modules: Modules) -> Iterator[nn.Module]:
    """Every module below, parents first."""
    # containers such as ModuleList are modules and iterable: modules() gives their children once
    if isinstance(modules, nn.Module):
        yield from modules.modules()
        return
    for entry in modules:
        yield from _walk(entry)


def _set_trainable(module: nn.Module, trainable: bool) -> None:
    if isinstance(module, _BatchNorm):
        module.track_running_stats = trainable
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad = trainable
