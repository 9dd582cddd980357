"""`Timeline`: where the time of a run went, as data, as a line of text, and as a trace for Perfetto.

The loops mark the end of every stretch; the core adds up. Whatever nobody claims is "trainer": the parts' times add up to
the whole. Time on a CUDA device that was still busy when a part ended counts where the program waits for it; how long the
device itself works on the parts of a step is `Timeline.device`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fulmen import _core, errors
from fulmen.plugins.io.atomic import write_text
from fulmen.trainer.device_clock import DeviceClock

WAIT, SETUP, COPY, FORWARD, BACKWARD, OPTIMIZER, LOGGING, HOOKS, VALIDATION, CHECKPOINT, TRAINER, TEARDOWN = range(12)
"""Numbers of the parts that every run has, see ``_core.Timeline.PARTS``."""

#: A warning where the loop waits for data for a larger share of its time, in runs that are long enough to tell.
WAIT_SHARE, WAIT_SECONDS = 0.2, 10.0


class Timeline:
    """The time of the last run of a trainer, split among named parts.

    Parts are what a step consists of ("data wait", "copy to device", "forward", "backward", "optimizer"), "logging",
    "validation", "checkpoint", each callback by its name, and "trainer" for all the rest.

    Attributes:
        core: the clock that the loops mark.
        here: number of the part that time belongs to where nothing closer is known.
        detailed: whether the parts of a step are told apart (``Trainer(timeline=False)``: they are not).
    """

    def __init__(self, detailed: bool = True, keep: int = 8192) -> None:
        self.detailed = detailed
        self.here = TRAINER
        self._keep = keep
        self.reset()

    def __getstate__(self) -> dict[str, Any]:
        # a clock that runs belongs to its process: a copy of the trainer starts with an empty one
        return {"detailed": self.detailed, "_keep": self._keep}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.reset()

    def reset(self) -> None:
        """Forget everything: a run begins."""
        self.core = _core.Timeline(self._keep)
        self.mark = self.core.mark
        self._device: DeviceClock | None = None
        self.here = TRAINER
        self.core.start()

    # ---- for the loops -----------------------------------------------------------------------------------------------

    def part_of(self, owner: object) -> int:
        """The number of a callback's part."""
        return self.core.part(type(owner).__name__)

    @contextmanager
    def within(self, part: int) -> Iterator[None]:
        """Time inside belongs to ``part``, but for what has a name of its own."""
        before = self.here
        self.mark(before)
        self.here = part
        try:
            yield
        finally:
            self.mark(part)
            self.here = before

    def device_clock(self, every: int) -> DeviceClock:
        """What follows the device of this run, see `device`."""
        if self._device is None:
            self._device = DeviceClock(every)
        return self._device

    # ---- for everybody -----------------------------------------------------------------------------------------------

    @property
    def parts(self) -> dict[str, float]:
        """Seconds by part, for those that took any."""
        return {name: seconds for name, (seconds, count) in self.core.totals().items() if count}

    @property
    def counts(self) -> dict[str, int]:
        """How many stretches each part had."""
        return {name: count for name, (_, count) in self.core.totals().items() if count}

    @property
    def device(self) -> dict[str, float]:
        """Seconds that a CUDA device took for the parts of a step, on the average of one step in each log interval.

        Empty without such a device, and for steps that an optimizer runs by a closure.
        """
        return {} if self._device is None else self._device.parts

    @property
    def wall_seconds(self) -> float:
        """Seconds of the run: the sum of all parts."""
        return self.core.wall

    @property
    def steps(self) -> int:
        """Training batches."""
        return self.core.steps

    def share(self, part: str) -> float:
        """The part's share of the run's time, between 0 and 1."""
        wall = self.wall_seconds
        return self.parts.get(part, 0.0) / wall if wall else 0.0

    def summary(self, least: float = 0.005) -> str:
        """One line: the parts' shares, largest first; those below ``least`` are left out, the trainer never is."""
        shares = sorted(((self.share(part), part) for part in self.parts), reverse=True)
        shown = [f"{part} {_percent(share)}" for share, part in shares if share >= least or part == "trainer"]
        line = f"{_seconds(self.wall_seconds)}, {self.steps} steps: " + ", ".join(shown)
        if self.device:
            line += ". On the device, a step: " + ", ".join(f"{n} {s * 1000:.2f} ms" for n, s in self.device.items())
        return line

    def as_dict(self) -> dict[str, Any]:
        """Plain data: ``{"version", "wall_seconds", "steps", "parts": {name: seconds}}``, and "device" where there is one."""
        data = {"version": 1, "wall_seconds": self.wall_seconds, "steps": self.steps, "parts": self.parts}
        return data | {"device": self.device} if self.device else data

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the newest stretches in the Trace Event Format, which https://ui.perfetto.dev and chrome://tracing open.

        Args:
            path: the file, by custom with the ending ``.json``. A step has some eight stretches, of which the last 8192
                are kept.

        Raises:
            RuntimeError: there was no run yet.
        """
        stretches = self.core.stretches()
        if not stretches:
            raise errors.runtime_error("There is no timeline: nothing has run yet", "Call `trainer.fit` first")
        origin, pid = min(start for _, _, start, _ in stretches), os.getpid()
        # complete events ("X"): ts and dur in microseconds
        events: list[dict[str, Any]] = [
            {"name": "process_name", "ph": "M", "pid": pid, "tid": 1, "args": {"name": "fulmen"}},
            {"name": "thread_name", "ph": "M", "pid": pid, "tid": 1, "args": {"name": "training"}},
        ]
        events += [
            {
                "name": part, "cat": "step", "ph": "X", "ts": (start - origin) * 1e6, "dur": seconds * 1e6,
                "pid": pid, "tid": 1, "args": {"step": step},
            }
            for part, step, start, seconds in stretches
        ]  # fmt: skip
        write_text(Path(path), json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))

    def advice(self) -> str | None:
        """What to do where the loop waits for its data; None if it does not, or the run was too short to tell."""
        busy = self.wall_seconds - self.parts.get("setup", 0.0) - self.parts.get("teardown", 0.0)
        wait = self.parts.get("data wait", 0.0)
        if busy < WAIT_SECONDS or wait < WAIT_SHARE * busy:
            return None
        return (
            f"The training waited for its data {wait / busy:.0%} of the time ({_seconds(wait)} of {_seconds(busy)}). Give the "
            "DataLoader more workers (`num_workers`), do less for each sample, or keep the data in memory. "
            "`trainer.timeline.save('trace.json')` shows the single steps."
        )

    def __repr__(self) -> str:
        return f"<Timeline {self.summary()}>"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.0995 else f"{share:.0%}"


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min"
