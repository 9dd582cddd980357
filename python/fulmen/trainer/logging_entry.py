"""One logged quantity: its names, its options, and where its values accumulate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from typing_extensions import override

if TYPE_CHECKING:
    from fulmen._core import MetricStore
    from fulmen.trainer.logging_sync import Synced


class Entry(ABC):
    """What a hook logs under one name for one loader.

    Args:
        name: as the user gave it.
        loader: index of the loader, None where there is one only, or no batch at all.
        suffix: whether the index becomes part of the names.
        step: whether single values count.
        epoch: whether reduced values count.
        prog_bar: whether the bar shows it.
        logger: whether loggers get it.
        weighted: whether the batch size is needed.
    """

    def __init__(
        self,
        name: str,
        loader: int | None,
        suffix: bool,
        step: bool,
        epoch: bool,
        prog_bar: bool,
        logger: bool,
        weighted: bool,
    ) -> None:
        end = f"/dataloader_idx_{loader}" if suffix and loader is not None else ""
        both = step and epoch
        self.names = {
            "name": name, "loader": loader, "suffix": suffix, "step": step, "epoch": epoch, "prog_bar": prog_bar,
            "logger": logger, "weighted": weighted,
        }  # fmt: skip
        self.loader = loader
        self.base_name = name + end
        self.step_name = f"{name}_step{end}" if both else self.base_name
        self.epoch_name = f"{name}_epoch{end}" if both else self.base_name
        self.step, self.epoch, self.both = step, epoch, both
        self.prog_bar, self.logger, self.weighted = prog_bar, logger, weighted

    @abstractmethod
    def update(self, value: Any, weight: float) -> None:
        """Takes a value in."""

    @abstractmethod
    def last(self) -> float | Tensor | None:
        """The last value."""

    @abstractmethod
    def compute(self) -> float | Tensor | None:
        """The values reduced to one."""

    @abstractmethod
    def reset(self) -> None:
        """A new epoch begins."""

    def shown(self, step: bool) -> float | Tensor | None:
        """The value that everybody sees."""
        return self.last() if step else self.compute()

    def begin_epoch(self) -> None:
        """A new epoch begins."""
        self.reset()

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What was accumulated, as plain data."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Takes that back."""

    def tensor(self, value: float | Tensor, device: torch.device) -> Tensor:
        """A value as users see it: a 0-dim tensor."""
        return value.detach() if isinstance(value, Tensor) else torch.tensor(value, device=device)


class SharedEntry(Entry):
    """An entry whose values can be merged with those of other processes.

    Attributes:
        synced: what all processes together have of it; None: each process keeps its own.
    """

    synced: Synced | None = None

    @abstractmethod
    def updates(self) -> int:
        """How many values there are."""

    @abstractmethod
    def parts(self, step: bool) -> tuple[float | Tensor, float]:
        """What this process adds to the last value, or to the epoch's, of all: value and weight (0: nothing)."""

    @abstractmethod
    def merge(self, parts: list[tuple[float, float]]) -> float | Tensor | None:
        """One value of the parts of several processes."""

    @override
    def shown(self, step: bool) -> float | Tensor | None:
        synced = self.synced
        if synced is None or (step and not synced.known):
            return super().shown(step)
        return synced.step if step else synced.epoch

    @override
    def begin_epoch(self) -> None:
        super().begin_epoch()
        if self.synced is not None:
            self.synced.reset()


class NumberEntry(SharedEntry):
    """Numbers and tensors on the CPU: read at the call, accumulated in Rust."""

    def __init__(self, store: MetricStore, reduction: str, double: bool, **names: Any) -> None:
        super().__init__(**names)
        self._store = store
        # under "64-true" sums of 32-bit values are 64-bit as well, as those of new tensors are
        double = double or torch.get_default_dtype() is torch.float64
        self.reduction = reduction
        self.slot = store.add(reduction, double)
        self._dtype = torch.float64 if double else torch.float32

    @override
    def update(self, value: Any, weight: float) -> None:
        self._store.update(self.slot, value, weight)

    @override
    def last(self) -> float | None:
        return self._store.last(self.slot)

    @override
    def compute(self) -> float | None:
        return self._store.compute(self.slot)

    @override
    def reset(self) -> None:
        self._store.reset(self.slot)

    @override
    def updates(self) -> int:
        return self._store.updates(self.slot)

    @override
    def parts(self, step: bool) -> tuple[float, float]:
        return self._store.parts(self.slot, last=step)

    @override
    def merge(self, parts: list[tuple[float, float]]) -> float | None:
        return self._store.merge(self.slot, parts)

    @override
    def state(self) -> dict[str, Any]:
        double = self._dtype is torch.float64
        return {"reduction": self.reduction, "double": double, "slot": self._store.slot_state(self.slot)}

    @override
    def restore(self, state: dict[str, Any]) -> None:
        self._store.restore_slot(self.slot, state["slot"])

    @override
    def tensor(self, value: float | Tensor, device: torch.device) -> Tensor:
        if device.type == "cuda" and not isinstance(value, Tensor):
            # filled there: a copy from the CPU's memory would wait for the device
            return torch.full((), value, dtype=self._dtype, device=device)
        return torch.tensor(value, dtype=self._dtype, device=device)


class TensorEntry(SharedEntry):
    """Tensors on another device, or with their graph: accumulated there, so that nobody waits for the device."""

    def __init__(self, store: MetricStore, reduction: str, graph: bool, **names: Any) -> None:
        super().__init__(**names)
        self._store = store
        self._reduction, self._graph = reduction, graph
        self._value: Tensor | None = None
        self._last: Tensor | None = None
        self._weight = self._last_weight = 0.0
        self._updates = 0
        self._slot: int | None = None
        self._kind = torch.get_default_dtype(), torch.device("cpu")

    @override
    def update(self, value: Tensor, weight: float) -> None:
        if not value.is_floating_point():
            value = value.to(torch.get_default_dtype())
        elif value.dtype in (torch.float16, torch.bfloat16):
            value = value.float()
        # the user may change the tensor in place after logging it
        own = value.clone().squeeze()
        self._updates += 1
        self._kind = own.dtype, own.device
        self._last_weight = weight
        self._last = own if self._graph else own.detach()
        if not self.epoch:
            # nobody asks for the values together: one kernel less for each
            return
        own = own.detach()
        if self._reduction == "mean":
            self._value = own * weight if self._value is None else self._value + own * weight
            self._weight += weight
        elif self._value is None:
            self._value = own
        elif self._reduction == "sum":
            self._value = self._value + own
        else:
            self._value = (torch.minimum if self._reduction == "min" else torch.maximum)(self._value, own)

    @override
    def last(self) -> Tensor | None:
        return self._last

    @override
    def compute(self) -> Tensor | None:
        if self._value is None or self._reduction != "mean":
            return self._value
        return self._value / self._weight

    @override
    def reset(self) -> None:
        self._value = self._last = None
        self._weight = self._last_weight = 0.0
        self._updates = 0

    @override
    def updates(self) -> int:
        return self._updates

    @override
    def parts(self, step: bool) -> tuple[float | Tensor, float]:
        value = self._last if step else self._value
        if value is None:
            return 0.0, 0.0
        if self._reduction != "mean":
            return value, 1.0
        return (value.detach().double() * self._last_weight, self._last_weight) if step else (value, self._weight)

    @override
    def merge(self, parts: list[tuple[float, float]]) -> Tensor | None:
        slot = self._slot
        if slot is None:
            slot = self._slot = self._store.add(self._reduction, True)
        merged = self._store.merge(slot, parts)
        return None if merged is None else torch.tensor(merged, dtype=self._kind[0], device=self._kind[1])

    @override
    def state(self) -> dict[str, Any]:
        last = None if self._last is None else self._last.detach()
        return {
            "reduction": self._reduction, "graph": self._graph, "tensors": [self._value, last],
            "weights": [self._weight, self._last_weight], "updates": self._updates,
        }  # fmt: skip

    @override
    def restore(self, state: dict[str, Any]) -> None:
        self._value, self._last = state["tensors"]
        self._weight, self._last_weight = state["weights"]
        self._updates = state["updates"]
        if self._last is not None:
            self._kind = self._last.dtype, self._last.device


class MetricEntry(Entry):
    """A torchmetrics object: it accumulates by itself."""

    def __init__(self, metric: Any, **names: Any) -> None:
        super().__init__(**names)
        self.metric = metric
        self._seen = False
        self._last: Tensor | None = None
        self._computed: Tensor | None = None

    @override
    def update(self, value: Any, weight: float) -> None:
        self.metric = value
        # read now: the module may call the object again in this step
        self._last = value._forward_cache
        self._seen = True
        self._computed = None

    @override
    def last(self) -> Tensor | None:
        return self._last

    @override
    def compute(self) -> Tensor | None:
        if self._seen and self._computed is None:
            computed = self.metric.compute()
            if not isinstance(computed, Tensor):
                raise ValueError(
                    f"self.log({self.base_name!r}): The `.compute()` return of the metric logged as {self.base_name!r} must "
                    f"be a tensor. Found {computed}. Log its parts one by one."
                )
            self._computed = computed
        return self._computed

    @override
    def reset(self) -> None:
        self._seen = False
        self._last = self._computed = None

    @override
    def state(self) -> dict[str, Any]:
        return {"metric": True, "seen": self._seen, "last": self._last}

    @override
    def restore(self, state: dict[str, Any]) -> None:
        self._seen, self._last, self._computed = state["seen"], state["last"], None

    def end_epoch(self) -> None:
        """The epoch's value is known and sent: the object starts anew."""
        if self._seen:
            self.compute()
            self.metric.reset()
            self._seen = False
