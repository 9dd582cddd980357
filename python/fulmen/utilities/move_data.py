"""Moving a batch to a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fulmen.utilities.nested import apply_to_collection
from fulmen.utilities.types import _DEVICE

# a copy to the host must have arrived when it returns; on MPS non-blocking copies race (pytorch/pytorch#83015)
_BLOCKING = ("cpu", "mps")


class _Movable(type):
    """Makes ``isinstance(value, _TransferableDataType)`` ask for a method ``to``."""

    def __instancecheck__(cls, instance: object) -> bool:
        return callable(getattr(type(instance), "to", None))

    def __subclasscheck__(cls, subclass: type) -> bool:
        return callable(getattr(subclass, "to", None))


class _TransferableDataType(metaclass=_Movable):
    """Everything that can be moved with ``.to(device)``."""


def move_data_to_device(batch: Any, device: _DEVICE, copied: Callable[[Tensor], Tensor | None] | None = None) -> Any:
    """Move everything in a batch that has a method ``to(device)``.

    Copies to CUDA devices do not wait for the transfer.

    Args:
        batch: a tensor, an object with ``to``, or nested dictionaries, lists, tuples, named tuples and dataclasses of
            such. Everything else in it is kept as it is.
        device: where to.
        copied: how a tensor gets there; where it gives None, by ``to``.

    Returns:
        The same structure. An object whose ``to`` returns None is taken to have moved itself.
    """
    target = torch.device(device) if isinstance(device, str) else device
    waits = not isinstance(target, torch.device) or target.type in _BLOCKING

    def move(value: Any) -> Any:
        if copied is not None and isinstance(value, Tensor) and (there := copied(value)) is not None:
            return there
        moved = value.to(target) if waits or not isinstance(value, Tensor) else value.to(target, non_blocking=True)
        return value if moved is None else moved

    if isinstance(batch, Tensor):
        return move(batch)
    return apply_to_collection(batch, _TransferableDataType, move)
