"""How long a CUDA device works on the parts of a step, without waiting for it.

The device runs behind the program, so that the program's clock does not see how long its work takes. In one step of every
log interval an event is put into the device's queue at each mark of the timeline; when the device has come by all of them,
a later step takes the times between them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

Marks = tuple[Callable[[], None], ...]


class DeviceClock:
    """The device's part of a timeline.

    Args:
        every: steps from one that is looked at to the next.

    Attributes:
        samples: steps that were looked at.
    """

    def __init__(self, every: int) -> None:
        self._every = max(1, every)
        # the first steps compile kernels and fill caches
        self._left = min(self._every, 5)
        self._totals: dict[str, float] = {}
        self._events: list[tuple[str, Any]] = []
        self._recording = False
        self.samples = 0

    @property
    def parts(self) -> dict[str, float]:
        """Seconds of a step by part, on the average of the steps that were looked at."""
        return {name: total / self.samples for name, total in self._totals.items()}

    def follow(self, marks: Marks) -> Marks:
        """The marks of a step (trainer, forward, backward, optimizer), which put events into the queue from now on."""
        trainer, *others = marks

        def begin() -> None:
            trainer()
            self._begin()

        names = ("forward", "backward", "optimizer")
        return (begin, *(self._recorded(mark, name) for mark, name in zip(others, names, strict=True)))

    def _recorded(self, mark: Callable[[], None], name: str) -> Callable[[], None]:
        def recorded() -> None:
            mark()
            if self._recording:
                self._record(name)

        return recorded

    def _begin(self) -> None:
        self._recording = False
        self._left -= 1
        if self._events:
            if self._events[-1][1].query():
                self._take()
        elif self._left <= 0:
            self._left = self._every
            self._recording = True
            self._record("")

    def _record(self, name: str) -> None:
        event = _event()
        event.record()
        self._events.append((name, event))

    def _take(self) -> None:
        events, self._events = self._events, []
        for (_, before), (name, after) in pairwise(events):
            # milliseconds
            self._totals[name] = self._totals.get(name, 0.0) + before.elapsed_time(after) / 1000
        self.samples += 1


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)
