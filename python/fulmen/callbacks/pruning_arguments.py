"""What `ModelPruning` can be asked for: its arguments' checks, and which parameters there are to prune."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch.nn.utils.prune as torch_prune
from torch import nn

from fulmen import errors

if TYPE_CHECKING:
    import fulmen as L

Pairs = Sequence[tuple[nn.Module, str]]
"""(module, name of its parameter)"""

PARAMETER_NAMES: Final = ("weight", "bias")

FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "ln_structured": torch_prune.ln_structured,
    "l1_unstructured": torch_prune.l1_unstructured,
    "random_structured": torch_prune.random_structured,
    "random_unstructured": torch_prune.random_unstructured,
}
METHODS: Final[dict[str, type[torch_prune.BasePruningMethod]]] = {
    "ln_structured": torch_prune.LnStructured,
    "l1_unstructured": torch_prune.L1Unstructured,
    "random_structured": torch_prune.RandomStructured,
    "random_unstructured": torch_prune.RandomUnstructured,
}


def is_pruning_method(method: Any) -> bool:
    """Is this a class of torch's pruning methods?"""
    return isinstance(method, type) and issubclass(method, torch_prune.BasePruningMethod)


def check_arguments(
    pruning_fn: Any,
    parameter_names: Sequence[str],
    use_global: bool,
    amount: Any,
    dim: int | None,
    norm: int | None,
    verbose: int,
) -> None:
    """Raises MisconfigurationException for what `ModelPruning` cannot do."""

    def wrong(argument: str, expected: str, received: Any, cure: str) -> Exception:
        return errors.misconfiguration(f"ModelPruning({argument})", expected, received, cure)

    for name in parameter_names:
        if name not in PARAMETER_NAMES:
            raise wrong(
                "parameter_names",
                f"The provided `parameter_names` name: {name} isn't in {PARAMETER_NAMES}",
                list(parameter_names),
                'Pass ["weight"], ["bias"] or both',
            )
    if isinstance(pruning_fn, str):
        _check_function(pruning_fn, use_global, dim, norm, wrong)
    elif not is_pruning_method(pruning_fn):
        raise wrong(
            "pruning_fn",
            f"`pruning_fn` is expected to be a str in {list(FUNCTIONS)} or a PyTorch `BasePruningMethod`",
            pruning_fn,
            "If it is a pruning method, pass the class, not an instance",
        )
    elif not use_global:
        raise wrong(
            "use_global_unstructured",
            "PyTorch `BasePruningMethod` is currently only supported with `use_global_unstructured=True`",
            use_global,
            "Pass True, or the name of a function",
        )
    if not isinstance(amount, (int, float)) and not callable(amount):
        raise wrong(
            "amount",
            "`amount` should be provided and be either an int, a float or Callable function",
            amount,
            "Pass 0.5 for half of the entries",
        )
    if verbose not in (0, 1, 2):
        raise wrong("verbose", "`verbose` must be any of (0, 1, 2)", verbose, "Pass 1 to log the share of zeroes")


def _check_function(name: str, use_global: bool, dim: int | None, norm: int | None, wrong: Callable[..., Any]) -> None:
    if name not in FUNCTIONS:
        raise wrong(
            "pruning_fn",
            f"one of {list(FUNCTIONS)}: The provided `pruning_fn` {name} isn't available in PyTorch's built-in functions",
            name,
            "Pass one of them, or a class",
        )
    if not name.endswith("_structured"):
        return
    if dim is None:
        raise wrong(
            "pruning_dim",
            "a dimension: When requesting `structured` pruning, the `pruning_dim` should be provided",
            dim,
            "Pass 0 to prune rows of a Linear's weight",
        )
    if name == "ln_structured" and norm is None:
        raise wrong(
            "pruning_norm",
            "a norm: When requesting `ln_structured` pruning, the `pruning_norm` should be provided",
            norm,
            "Pass 2 for the Euclidean norm",
        )


def sanitize(pl_module: L.LightningModule, pairs: Pairs | None, names: Sequence[str]) -> Pairs:
    """Checks pairs, or finds all that there are. See `ModelPruning.sanitize_parameters_to_prune`."""
    from fulmen.core.module import LightningModule

    skipped = (LightningModule, nn.ModuleDict, nn.ModuleList)
    modules = [m for m in pl_module.modules() if not isinstance(m, skipped)]
    if not pairs:
        return [
            (m, name) for name in names or PARAMETER_NAMES for m in modules if isinstance(_get(m, name), nn.Parameter)
        ]
    well_formed = isinstance(pairs, (list, tuple)) and all(
        isinstance(p, (list, tuple)) and len(p) == 2 and isinstance(p[0], nn.Module) and isinstance(p[1], str)
        for p in pairs
    )
    if not well_formed:
        raise errors.misconfiguration(
            "ModelPruning(parameters_to_prune)",
            "The provided `parameters_to_prune` should either be list of tuple with 2 elements: "
            "(nn.Module, parameter_name_to_prune) or None",
            pairs,
            'For example [(model.layer, "weight")]',
        )
    missing = [m for m, _ in pairs if not any(m is known for known in modules)]
    nameless = [name for m, name in pairs if _get(m, name) is None]
    if missing or nameless:
        raise errors.misconfiguration(
            "ModelPruning(parameters_to_prune)",
            "parameters of the module: Some provided `parameters_to_prune` don't exist in the model",
            errors.Words(f"Found missing modules: {missing} and missing parameters: {nameless}"),
            "Name parameters of the module that is fitted",
        )
    return pairs


def _get(module: nn.Module, name: str) -> Any:
    return getattr(module, name, None)
