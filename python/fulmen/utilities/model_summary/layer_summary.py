"""What is known about one layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from weakref import ref

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from fulmen.utilities.rank_zero import WarningCache

UNKNOWN_SIZE = "?"

warning_cache = WarningCache()


class LayerSummary:
    """Type, parameters, and sizes of input and output of a layer.

    The sizes are those of the first forward pass after construction; until then they are ``"?"``. Scripted modules
    cannot be watched, and never have sizes.

    Args:
        module: the layer.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._in_size: str | list[Any] | None = None
        self._out_size: str | list[Any] | None = None
        self._hook_handle = (
            None
            if isinstance(module, torch.jit.ScriptModule)
            else module.register_forward_hook(_recorder(ref(self)), with_kwargs=True)
        )

    def __del__(self) -> None:
        self.detach_hook()

    def _record(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        self.detach_hook()
        inputs = (*args, *kwargs.values())
        self._in_size = parse_batch_shape(inputs[0] if len(inputs) == 1 else inputs)
        self._out_size = parse_batch_shape(output)

    def detach_hook(self) -> None:
        """Stop watching the layer; done by itself after its first forward pass."""
        handle = getattr(self, "_hook_handle", None)
        if handle is not None:
            handle.remove()

    @property
    def in_size(self) -> str | list[Any]:
        """Shape of the input, or the shapes of several."""
        return self._in_size or UNKNOWN_SIZE

    @property
    def out_size(self) -> str | list[Any]:
        """Shape of the output, or the shapes of several."""
        return self._out_size or UNKNOWN_SIZE

    @property
    def layer_type(self) -> str:
        """Name of its class."""
        return type(self._module).__name__

    @property
    def num_parameters(self) -> int:
        """Number of its parameters, all layers within it included."""
        return count(self._module.parameters())

    @property
    def training(self) -> bool:
        """Whether it is in train mode."""
        return self._module.training


def _recorder(summary: ref[LayerSummary]) -> Callable[..., None]:
    """A hook that tells the summary about a forward pass, without keeping the summary alive."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        layer = summary()
        if layer is not None:
            layer._record(args, kwargs, output)

    return hook


def parse_batch_shape(batch: Any) -> str | list[Any]:
    """The shape of a tensor, nested lists of those of lists and tuples; ``"?"`` for anything else.

    Args:
        batch: inputs or outputs of a layer.
    """
    if hasattr(batch, "shape"):
        return list(batch.shape)
    if isinstance(batch, list | tuple):
        return [parse_batch_shape(part) for part in batch]
    return UNKNOWN_SIZE


def count(parameters: Iterable[nn.Parameter], size: Callable[[nn.Parameter], int] = nn.Parameter.numel) -> int:
    """Number of all elements; lazy parameters, whose shapes are not known yet, count nothing.

    Args:
        parameters: the parameters.
        size: how many elements one has.
    """
    return sum(size(parameter) for parameter in parameters if _has_known_shape(parameter))


def _has_known_shape(parameter: nn.Parameter) -> bool:
    # a sharded parameter counts as an instance too, but knows its shape
    if not isinstance(parameter, UninitializedParameter) or _is_dtensor(parameter):
        return True
    warning_cache.warn(
        "The total number of parameters detected may be inaccurate. The model has lazy layers, whose parameters have "
        "no shape yet; set `self.example_input_array` in your LightningModule to have them counted."
    )
    return False


def _is_dtensor(parameter: Any) -> bool:
    return type(parameter).__name__ == "DTensor" or any(base.__name__ == "DTensor" for base in type(parameter).__mro__)
