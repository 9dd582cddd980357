"""Parameters that several modules share."""

from __future__ import annotations

from functools import reduce

from torch import nn


def find_shared_parameters(module: nn.Module) -> list[list[str]]:
    """Find the parameters that a module holds under several names.

    Returns:
        For each such parameter the list of its names (``"decoder.weight"``), in order of the modules.
    """
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return [group for group in names.values() if len(group) > 1]


def set_shared_parameters(module: nn.Module, shared_params: list[list[str]]) -> nn.Module:
    """Tie parameters again, for example after a copy to another device has separated them.

    Args:
        module: the module, changed in place.
        shared_params: what `find_shared_parameters` returned: under all names of a group the first one's parameter
            is set.

    Returns:
        ``module``.
    """
    for first, *others in shared_params:
        parameter = reduce(getattr, first.split("."), module)
        for other in others:
            *path, name = other.split(".")
            setattr(reduce(getattr, path, module), name, parameter)
    return module
