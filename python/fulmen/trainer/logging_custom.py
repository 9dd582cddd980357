"""A logged quantity that a function of the user's reduces, such as ``self.log(..., reduce_fx=torch.median)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from fulmen import errors
from fulmen.trainer.logging_entry import SharedEntry


class CustomEntry(SharedEntry):
    """Keeps the epoch's values, since only the function knows what it makes of them.

    Args:
        reduce: gets the values of the epoch, shape (values,), in the order in which they were logged, and gives one number;
            None: nobody has said it yet, in a run that goes on within an epoch.
        names: as for `Entry`.
    """

    def __init__(self, reduce: Callable[[Tensor], Any] | None, **names: Any) -> None:
        super().__init__(**names)
        self.reduce = reduce
        self._values: list[Tensor] = []
        self._computed: Tensor | None = None
        self._updates = 0

    @override
    def update(self, value: Tensor, weight: float) -> None:
        value = value.detach()
        if not value.is_floating_point():
            value = value.to(torch.get_default_dtype())
        # the user may change the tensor in place after logging it
        own = value.clone().squeeze()
        if self.epoch:
            self._values.append(own)
        else:
            self._values[:] = [own]
        self._updates += 1
        self._computed = None

    @override
    def last(self) -> Tensor | None:
        return self._values[-1] if self._values else None

    @override
    def compute(self) -> Tensor | None:
        if self._computed is None and self._values and self.reduce is not None:
            self._computed = self._reduced(torch.stack(self._values))
        return self._computed

    @override
    def reset(self) -> None:
        self._values.clear()
        self._computed = None
        self._updates = 0

    @override
    def state(self) -> dict[str, Any]:
        return {"values": list(self._values), "updates": self._updates}

    @override
    def restore(self, state: dict[str, Any]) -> None:
        self._values, self._updates, self._computed = list(state["values"]), state["updates"], None

    @override
    def updates(self) -> int:
        return self._updates

    def parts(self, step: bool) -> tuple[float | Tensor, float]:
        """The last value; an epoch's values are more than a part holds, see `values`."""
        return (self._values[-1], 1.0) if step and self._values else (0.0, 0.0)

    def values(self) -> list[float]:
        """The epoch's values, in the order in which they were logged."""
        return torch.stack(self._values).tolist() if self._values else []

    def merge(self, parts: list[tuple[float, float]]) -> Tensor | None:
        """The reduction of the last values of several processes."""
        return self.merge_values([value for value, amount in parts if amount])

    def merge_values(self, values: list[float]) -> Tensor | None:
        """The reduction of the values of several processes; None if there are none."""
        if not values:
            return None
        like = self._values[-1] if self._values else torch.empty(())
        return self._reduced(torch.tensor(values, dtype=like.dtype, device=like.device))

    def _reduced(self, values: Tensor) -> Tensor:
        assert self.reduce is not None
        return _single(self.base_name, self.reduce, values)


def check_custom(name: str, reduce: Callable[[Tensor], Any]) -> None:
    """Does a user's function reduce two values to one? Otherwise the first epoch's end would be the first to know.

    Raises:
        MisconfigurationException: it does not.
    """
    _single(name, reduce, torch.tensor([1.0, 2.0]))


def _single(name: str, reduce: Callable[[Tensor], Any], values: Tensor) -> Tensor:
    try:
        reduced = reduce(values)
        single = torch.as_tensor(reduced, device=values.device).detach()
    except Exception as error:
        raise _refused(name, reduce, f"{type(error).__name__}: {error}") from error
    if single.numel() != 1:
        raise _refused(name, reduce, f"a result of shape {tuple(single.shape)} for {len(values)} values")
    if isinstance(reduced, Tensor) and not single.is_floating_point():
        # such as torch.argmax, which says where a value stands
        raise _refused(name, reduce, f"a result of type {single.dtype}, which is an index or a count")
    return single.squeeze()


def _refused(name: str, reduce: Callable[..., Any], received: str) -> Exception:
    return errors.misconfiguration(
        f"self.log({name!r}, reduce_fx)",
        "'mean', 'sum', 'min', 'max', or a function of a tensor of values, shape (values,), that gives one float",
        errors.Words(f"{getattr(reduce, '__qualname__', reduce)!s}, which gives {received}"),
        "Pass a function that reduces, such as `torch.median`. Only `self.log(..., reduce_fx={min,max,mean,sum})` are "
        "supported without one; for what needs more than the values log a `torchmetrics.Metric`",
    )
