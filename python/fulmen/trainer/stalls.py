"""A batch that does not come: said once, while the run still waits for it.

A thread looks after the loop every few seconds. That costs the loop nothing: it marks the timeline anyway, and as long as the
last mark is young the thread goes back to sleep. Where it is old, the stack of the training's thread tells whether the
loop waits for its data: one of our loops stands at the instruction that fetches the next batch.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from opcode import opmap
from types import CodeType, FrameType
from typing import TYPE_CHECKING

from fulmen.trainer import evaluate, feed, fit, predict

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

log = logging.getLogger(__name__)

LEAST_SECONDS, FACTOR = 30.0, 20.0
"""A wait is a stall when it takes so long, and so many times the median wait."""

LOOK_EVERY = 2.0
"""Seconds between two looks."""

MOST_REPORTS = 3
"""In one run."""

_COUNTERS = ("batch", "fit_val", "validate", "test", "predict")
_FOR = opmap["FOR_ITER"]


def _loops() -> frozenset[CodeType]:
    """Functions with a loop over batches."""
    return frozenset(f.__code__ for f in (fit.train_epoch, evaluate._batches, predict._batches))


def _fetches() -> frozenset[CodeType]:
    """Functions that wait for a batch wherever they stand."""
    return frozenset(f.__code__ for f in (feed.Feed.__init__, feed.Feed.skip, feed.StepIterator.__next__))


def waits_for_data(frame: FrameType | None) -> bool:
    """Does a thread wait for a batch?

    Args:
        frame: its innermost frame.
    """
    loops, fetches = _loops(), _fetches()
    while frame is not None:
        code = frame.f_code
        if code in fetches or (code in loops and frame.f_lasti >= 0 and code.co_code[frame.f_lasti] == _FOR):
            return True
        frame = frame.f_back
    return False


class StallWatch:
    """Looks after a run from a thread of its own, from `start` to `stop`.

    Args:
        trainer: whose run; the thread that makes the watch is the one that is looked at.
        least: seconds below which no wait is a stall.
        factor: times the median wait for a training batch, likewise.
        every: seconds between two looks.

    Attributes:
        reports: what was said.
    """

    def __init__(
        self, trainer: Trainer, least: float | None = None, factor: float | None = None, every: float | None = None
    ) -> None:
        self.reports: list[str] = []
        self._trainer = trainer
        self._least = LEAST_SECONDS if least is None else least
        self._factor = FACTOR if factor is None else factor
        self._every = LOOK_EVERY if every is None else every
        self._watched = threading.get_ident()
        self._process = os.getpid()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fulmen-stall-watch", daemon=True)
        self._token: tuple[int, ...] | None = None
        self._since = 0.0
        self._said: tuple[int, ...] | None = None

    def start(self) -> StallWatch:
        """Begin to look."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Look no more; the thread has ended when this returns."""
        if os.getpid() != self._process:
            # the thread stayed in the parent, perhaps with a lock of the event's in hand
            return
        self._end.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._end.wait(self._every):
            try:
                if not self._look():
                    return
            except Exception:
                # whoever watches must not do harm
                log.debug("the watch over stalls has ended", exc_info=True)
                return

    def _look(self) -> bool:
        """One look; False if no further one is wanted."""
        core = self._trainer.timeline.core
        if core.since_mark < self._every or not waits_for_data(sys._current_frames().get(self._watched)):
            self._token = None
            return True
        schedule, now = self._trainer._schedule, time.monotonic()
        token = tuple(schedule.progress(name)["total"]["ready"] for name in _COUNTERS)  # type: ignore[arg-type]  # names of counters
        if token != self._token:
            # an evaluation does not mark each batch: its waits count from the first look that found one
            self._token, self._since = token, now
        waited = core.since_mark if self._trainer.training else min(core.since_mark, now - self._since)
        if token == self._said or waited < max(self._least, self._factor * core.median_wait):
            return True
        from fulmen.trainer.stall_report import describe_stall

        report = describe_stall(self._trainer, self._watched, waited, core.median_wait)
        if not waits_for_data(sys._current_frames().get(self._watched)) or self._end.is_set():
            # it has come meanwhile
            return True
        self._said = token
        self.reports.append(report)
        log.warning(report)
        return len(self.reports) < MOST_REPORTS
