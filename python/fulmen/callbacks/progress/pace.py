"""How often a bar may show itself: on a terminal often enough to look alive, in a file seldom enough to stay small.

On a terminal a bar is drawn at most ten times a second, and down to once where drawing takes more than half a percent of the time.

Elsewhere (a file, a pipe, a job's log) a bar is a plain line now and then, without control characters: one every five
seconds at most, one at an epoch's end at most, and never more than about 3 bytes a step, so that a thousand steps stay
below 5 KB however fast or slow they are.
"""

from __future__ import annotations

from time import perf_counter
from typing import IO, Any

_DRAW_SECONDS = 0.1
_DRAW_SHARE = 0.005
_LONGEST_STANDSTILL = 1.0
_LINE_SECONDS = 5.0
_EPOCH_LINE_SECONDS = 1.0
_LONGEST_SILENCE = 300.0
_BYTES_PER_STEP = 2.5
_FREE_EPOCH_LINES = 8
_FREE_BYTES = 800


class LivePace:
    """When a bar on a terminal is drawn next.

    Attributes:
        next_draw: the earliest time of the next drawing, on the clock of ``time.perf_counter``.
    """

    def __init__(self) -> None:
        self.next_draw = 0.0

    def drew(self, began: float) -> None:
        """A drawing is done, that began at the time ``began``."""
        # once in a while drawing takes long for reasons of its own, the first time above all
        cost = min((perf_counter() - began) / _DRAW_SHARE, _LONGEST_STANDSTILL)
        self.next_draw = began + max(_DRAW_SECONDS, cost)


class LinePace:
    """When a bar outside of a terminal writes its next line.

    Attributes:
        next_draw: the earliest time of the next line within an epoch, on the clock of ``time.perf_counter``.
    """

    def __init__(self) -> None:
        self._last = perf_counter()
        self._debt = 0.0
        self._free = _FREE_EPOCH_LINES
        self._free_bytes = _FREE_BYTES
        self.next_draw = self._last + _LINE_SECONDS

    def is_due(self, at_end: bool) -> bool:
        """Whether a line may be written now.

        Args:
            at_end: it is an epoch's last one. The first few of a run are always due, so that a short run shows each
                of its epochs.
        """
        if not at_end:
            return perf_counter() >= self.next_draw
        if self._free > 0 and self._free_bytes > 0:
            self._free -= 1
            return True
        return perf_counter() - self._last >= max(_EPOCH_LINE_SECONDS, self._debt)

    def wrote(self, line: str, speed: float) -> None:
        """A line is written.

        Args:
            line: the line.
            speed: batches per second; 0: not known.
        """
        self._last = perf_counter()
        self._free_bytes -= len(line)
        self._debt = min(len(line) / _BYTES_PER_STEP / speed, _LONGEST_SILENCE) if speed else 0.0
        self.next_draw = self._last + max(_LINE_SECONDS, self._debt)


def is_notebook(file: IO[str] | Any) -> bool:
    """Whether a file is the output of a notebook's cell: one line can be redrawn there, and no line above it."""
    return type(file).__module__.startswith(("ipykernel", "google.colab"))


def is_live(file: IO[str] | Any) -> bool:
    """Whether a bar can be redrawn in place in a file: a terminal, or the output of a notebook's cell."""
    if is_notebook(file):
        return True
    try:
        return bool(file.isatty())
    except (AttributeError, ValueError):
        # no real file, or a closed one
        return False


def plain_line(
    description: str, done: float, total: float | None, elapsed: float, metrics: str, fit_left: float | None = None
) -> str:
    """``Epoch 3: 120/938 (13%), 0:03 elapsed, 0:20 left, fit 12:07 left, 40.1 it/s, loss=0.5``.

    Args:
        description: what is going on.
        done: batches done.
        total: batches in all; None: not known.
        elapsed: seconds since the first of them.
        metrics: values to show, as text.
        fit_left: seconds until the end of the whole fit; None: not known, or no fit.
    """
    speed = done / elapsed if elapsed > 0 else 0.0
    parts = [f"{int(done)}/{int(total)} ({done / total:.0%})" if total else f"{int(done)} batches"]
    parts.append(f"{clock(elapsed)} elapsed")
    if total and speed and done < total:
        parts.append(f"{clock((total - done) / speed)} left")
    if fit_left is not None:
        parts.append(f"fit {clock(fit_left)} left")
    parts.append(f"{speed:.3g} it/s" if speed < 100 else f"{speed:.0f} it/s")
    if metrics:
        parts.append(metrics)
    return f"{description.strip().rstrip(':')}: {', '.join(parts)}"


def clock(seconds: float) -> str:
    """``0:03``, ``12:07``, ``3:12:07``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
