"""`ModelPruning`: zeroes a share of the weights during training, by torch's pruning methods."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

import torch
import torch.nn.utils.prune as torch_prune
from torch import nn

from fulmen import errors
from fulmen.callbacks.callback import Callback
from fulmen.callbacks.pruning_arguments import (
    FUNCTIONS,
    METHODS,
    PARAMETER_NAMES,
    Pairs,
    check_arguments,
    is_pruning_method,
    sanitize,
)
from fulmen.utilities.move_data import move_data_to_device

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["ModelPruning"]

_log = logging.getLogger(__name__)
_Amount = int | float


class _Original(TypedDict):
    """A layer as it was before training, and the indices and names of its parameters that are pruned."""

    data: nn.Module
    names: list[tuple[int, str]]


class ModelPruning(Callback):
    """Prunes at the end of epochs.

    Args:
        pruning_fn: name of a function of `torch.nn.utils.prune` ("l1_unstructured", "random_unstructured",
            "ln_structured", "random_structured"), or a subclass of its ``BasePruningMethod``.
        parameters_to_prune: pairs of module and name of the parameter; empty: all that ``parameter_names`` names.
        parameter_names: "weight", "bias", or both (default).
        use_global_unstructured: rank the entries of all parameters together, not each parameter's by themselves.
        amount: a share (float) or a number (int) of the entries that are left to prune, or a function that gives it for
            an epoch; 0: not in this epoch.
        apply_pruning: False: never; a function: asked for every epoch.
        make_pruning_permanent: at the end, and in checkpoints, parameters are plain again, zeroes included; else they
            are kept as ``…_orig`` and ``…_mask``.
        use_lottery_ticket_hypothesis: reset what is left to its values before training, after every pruning; a
            function: asked for every epoch. (Frankle and Carbin, 2019.)
        resample_parameters: reset to newly drawn values in place of those.
        pruning_dim: the dimension, for structured functions.
        pruning_norm: the norm, for "ln_structured".
        verbose: log nothing (0), the share of zeroes (1), or that of every parameter too (2).
        prune_on_train_epoch_end: False: at the end of validation epochs.

    Raises:
        MisconfigurationException: the arguments contradict each other.
    """

    PARAMETER_NAMES = PARAMETER_NAMES

    def __init__(
        self,
        pruning_fn: Callable[..., Any] | str,
        parameters_to_prune: Pairs = (),
        parameter_names: list[str] | None = None,
        use_global_unstructured: bool = True,
        amount: int | float | Callable[[int], int | float] = 0.5,
        apply_pruning: bool | Callable[[int], bool] = True,
        make_pruning_permanent: bool = True,
        use_lottery_ticket_hypothesis: bool | Callable[[int], bool] = True,
        resample_parameters: bool = False,
        pruning_dim: int | None = None,
        pruning_norm: int | None = None,
        verbose: int = 0,
        prune_on_train_epoch_end: bool = True,
    ) -> None:
        self._parameter_names = parameter_names or list(PARAMETER_NAMES)
        check_arguments(
            pruning_fn, self._parameter_names, use_global_unstructured, amount, pruning_dim, pruning_norm, verbose
        )
        self._use_global_unstructured = use_global_unstructured
        self._parameters_to_prune = parameters_to_prune
        self._use_lottery_ticket_hypothesis = use_lottery_ticket_hypothesis
        self._resample_parameters = resample_parameters
        self._prune_on_train_epoch_end = prune_on_train_epoch_end
        self._apply_pruning = apply_pruning
        self._make_pruning_permanent = make_pruning_permanent
        self.amount = amount
        self._verbose = verbose
        self._original_layers: dict[int, _Original] = {}
        self._global_kwargs: dict[str, Any] = {}
        self.pruning_fn: Any = pruning_fn
        if isinstance(pruning_fn, str):
            kwargs: dict[str, Any] = {}
            if pruning_fn.endswith("_structured"):
                kwargs["dim"] = pruning_dim
                if pruning_fn == "ln_structured":
                    kwargs["n"] = pruning_norm
            self.pruning_fn = self._create_pruning_fn(pruning_fn, **kwargs)
        if use_global_unstructured and getattr(self.pruning_fn, "PRUNING_TYPE", None) != "unstructured":
            raise errors.misconfiguration(
                "ModelPruning(pruning_fn)",
                'a method whose PRUNING_TYPE is "unstructured": Only that one is supported with '
                "`use_global_unstructured=True`",
                pruning_fn,
                "Pass `use_global_unstructured=False`, or an unstructured method",
            )

    def filter_parameters_to_prune(self, parameters_to_prune: Pairs = ()) -> Pairs:
        """Override it to leave some of the (module, name) pairs out."""
        return parameters_to_prune

    # ---- the method --------------------------------------------------------------------------------------------------

    def _create_pruning_fn(self, pruning_fn: str, **kwargs: Any) -> Any:
        """The class for global pruning, the function with its arguments for local pruning."""
        if self._use_global_unstructured:
            self._global_kwargs = kwargs
            return METHODS[pruning_fn]
        return self._wrap_pruning_fn(FUNCTIONS[pruning_fn], **kwargs)

    @staticmethod
    def _wrap_pruning_fn(pruning_fn: Callable[..., Any], **kwargs: Any) -> Callable[..., Any]:
        return partial(pruning_fn, **kwargs)

    def _method_name(self) -> str:
        found = self.pruning_fn.func if isinstance(self.pruning_fn, partial) else self.pruning_fn
        return str(found.__name__)

    @staticmethod
    def _is_pruning_method(method: Any) -> bool:
        return is_pruning_method(method)

    def _apply_local_pruning(self, amount: float) -> None:
        for module, name in self._parameters_to_prune:
            self.pruning_fn(module, name=name, amount=amount)

    def _resolve_global_kwargs(self, amount: float) -> dict[str, Any]:
        """Those arguments that the method's class takes."""
        taken = set(inspect.signature(self.pruning_fn).parameters)
        return {k: v for k, v in {**self._global_kwargs, "amount": amount}.items() if k in taken}

    def _apply_global_pruning(self, amount: float) -> None:
        torch_prune.global_unstructured(
            self._parameters_to_prune, pruning_method=self.pruning_fn, **self._resolve_global_kwargs(amount)
        )

    def apply_pruning(self, amount: int | float) -> None:
        """Prunes once.

        Args:
            amount: as the argument of the same name.
        """
        before = self._stats() if self._verbose else []
        if self._use_global_unstructured:
            self._apply_global_pruning(amount)
        else:
            self._apply_local_pruning(amount)
        if self._verbose:
            self._log_sparsity_stats(before, self._stats(), amount=amount)

    def apply_lottery_ticket_hypothesis(self) -> None:
        """Resets what is not pruned to the values before training, or to new ones."""
        for original in self._original_layers.values():
            layer: Any = original["data"]
            if self._resample_parameters and hasattr(layer, "reset_parameters"):
                layer = deepcopy(layer)
                layer.reset_parameters()
            for number, name in original["names"]:
                module, own = self._parameters_to_prune[number]
                assert own == name
                self._copy_param(module, layer, name)

    @staticmethod
    def _copy_param(new: nn.Module, old: nn.Module, name: str) -> None:
        source = getattr(old, name)
        target = getattr(new, f"{name}_orig", None)
        if target is None:
            target = getattr(new, name)
        if isinstance(source, torch.Tensor) and isinstance(target, torch.Tensor):
            target.data = source.data.to(target.device)

    def make_pruning_permanent(self, module: nn.Module) -> None:
        """Makes all pruned parameters below ``module`` plain ones, with zeroes."""
        for each in module.modules():
            for key, hook in list(each._forward_pre_hooks.items()):
                if isinstance(hook, torch_prune.BasePruningMethod):
                    hook.remove(each)
                    del each._forward_pre_hooks[key]

    # ---- what it did -------------------------------------------------------------------------------------------------

    @staticmethod
    def _get_pruned_stats(module: nn.Module, name: str) -> tuple[int, int]:
        """How many entries are pruned, of how many."""
        mask: torch.Tensor | None = getattr(module, f"{name}_mask", None)
        if mask is None:
            parameter: torch.Tensor = getattr(module, name)
            return 0, parameter.numel()
        return int((mask == 0).sum().item()), mask.numel()

    def _stats(self) -> list[tuple[int, int]]:
        return [self._get_pruned_stats(module, name) for module, name in self._parameters_to_prune]

    def _log_sparsity_stats(
        self, prev: list[tuple[int, int]], curr: list[tuple[int, int]], amount: int | float = 0
    ) -> None:
        method = self._method_name()
        total = sum(n for _, n in curr)
        old, new = sum(z for z, _ in prev), sum(z for z, _ in curr)
        _log.info(f"Applied `{method}`. Pruned: {old}/{total} ({old / total:.2%}) -> {new}/{total} ({new / total:.2%})")
        if self._verbose < 2:
            return
        for (module, name), (old, had), (new, has) in zip(self._parameters_to_prune, prev, curr, strict=True):
            _log.info(
                f"Applied `{method}` to `{module!r}.{name}` with amount={amount}. "
                f"Pruned: {old} ({old / had:.2%}) -> {new} ({new / has:.2%})"
            )

    # ---- hooks -------------------------------------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Finds the parameters, and keeps a copy of their layers."""
        found = self.sanitize_parameters_to_prune(pl_module, self._parameters_to_prune, self._parameter_names)
        self._parameters_to_prune = self.filter_parameters_to_prune(found)
        if not self._use_lottery_ticket_hypothesis:
            return
        self._original_layers = {}
        for number, (module, name) in enumerate(self._parameters_to_prune):
            key = id(module)
            if key not in self._original_layers:
                self._original_layers[key] = _Original(data=deepcopy(module), names=[])
            self._original_layers[key]["names"].append((number, name))

    def _run_pruning(self, current_epoch: int) -> None:
        def ask(setting: Any) -> Any:
            return setting(current_epoch) if callable(setting) else setting

        amount = ask(self.amount)
        if not ask(self._apply_pruning) or not amount:
            return
        self.apply_pruning(amount)
        if ask(self._use_lottery_ticket_hypothesis):
            self.apply_lottery_ticket_hypothesis()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prunes."""
        if self._prune_on_train_epoch_end:
            self._run_pruning(trainer.current_epoch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prunes."""
        if not trainer.sanity_checking and not self._prune_on_train_epoch_end:
            self._run_pruning(trainer.current_epoch)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes it permanent."""
        if self._make_pruning_permanent:
            self.make_pruning_permanent(pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Makes it permanent in the file, not in the module, which trains on."""
        if self._make_pruning_permanent:
            checkpoint["state_dict"] = self._make_pruning_permanent_on_state_dict(pl_module)

    def _make_pruning_permanent_on_state_dict(self, pl_module: L.LightningModule) -> dict[str, Any]:
        state = pl_module.state_dict()
        for name in [key.removesuffix("_mask") for key in state if key.endswith("_mask")]:
            if f"{name}_orig" in state:
                original, mask = state.pop(f"{name}_orig"), state.pop(f"{name}_mask")
                state[name] = mask.to(dtype=original.dtype) * original
        return {name: move_data_to_device(value, torch.device("cpu")) for name, value in state.items()}

    @staticmethod
    def sanitize_parameters_to_prune(
        pl_module: L.LightningModule, parameters_to_prune: Pairs = (), parameter_names: Sequence[str] = ()
    ) -> Pairs:
        """Checks pairs, or finds all that there are.

        Args:
            pl_module: the module.
            parameters_to_prune: (module, name) pairs; empty: all parameters of the names below.
            parameter_names: names to look for; empty: "weight" and "bias".

        Raises:
            MisconfigurationException: they are no pairs, or not in the module.
        """
        return sanitize(pl_module, parameters_to_prune, parameter_names)
