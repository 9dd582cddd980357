"""Logged values on their way from a CUDA device, so that no training step waits for it.

A row of values that lie on a device is copied in one piece for each type, into pinned memory, behind the work that is
queued there. Whoever writes the row, in a thread of its own, waits for the copy; a bar that is drawn between two steps
shows the newest values that have arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def is_late(value: object) -> bool:
    """Would reading this value make the program wait for a device?"""
    return isinstance(value, Tensor) and value.device.type == "cuda"


class Copy:
    """A copy of single values that has been started.

    Args:
        tensors: values by name, each with one element.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        groups: dict[tuple[torch.device, torch.dtype], list[str]] = {}
        for name, tensor in tensors.items():
            groups.setdefault((tensor.device, tensor.dtype), []).append(name)
        self._parts = [
            (names, *_start(torch.stack([tensors[name].detach().reshape(()) for name in names])))
            for names in groups.values()
        ]

    def arrived(self) -> bool:
        """Can `numbers` be had without waiting?"""
        return all(event is None or event.query() for _, _, event in self._parts)

    def numbers(self) -> dict[str, float]:
        """The values as numbers, for which this waits."""
        found: dict[str, float] = {}
        for names, values, event in self._parts:
            if event is not None:
                event.synchronize()
            found.update(zip(names, values.tolist(), strict=True))
        return found


def _start(values: Tensor) -> tuple[Tensor, Any]:
    """Values on the CPU, and the event after which they are there; None: at once."""
    if values.device.type != "cuda":
        return values, None
    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    pinned.copy_(values, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(values.device))
    return pinned, event


class LateRow(dict[str, Any]):
    """A row of numbers of which some are still on their way: tensors stand in their places until `arrive`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        late = {name: value for name, value in values.items() if is_late(value)}
        self._copy: Copy | None = Copy(late) if late else None

    def arrive(self) -> None:
        """Wait for what is not there yet."""
        if self._copy is not None:
            self.update(self._copy.numbers())
            self._copy = None


class Newest:
    """Values for somebody who looks often and must not wait: the newest ones that have arrived."""

    def __init__(self) -> None:
        self._copy: Copy | None = None
        self._shown: dict[str, float] = {}

    def look(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Numbers of the values by name; of those on a device, the ones of an earlier look, or none yet."""
        late = {name: value for name, value in values.items() if is_late(value)}
        if late:
            self._take()
            if self._copy is None:
                self._copy = Copy(late)
        return {
            name: self._shown[name] if name in late else value.item()
            for name, value in values.items()
            if name not in late or name in self._shown
        }

    def _take(self) -> None:
        if self._copy is not None and self._copy.arrived():
            self._shown.update(self._copy.numbers())
            self._copy = None
