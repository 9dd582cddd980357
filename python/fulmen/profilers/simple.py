"""`SimpleProfiler`: how long every action took, and how often it ran."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

from fulmen import errors
from fulmen.profilers.profiler import Profiler

__all__ = ["SimpleProfiler"]


class SimpleProfiler(Profiler):
    """Takes the wall-clock time of every action.

    Args:
        dirpath: folder of the report.
        filename: name of the report's file; None: the report goes to the log.
        extended: add the number of calls and the share of the whole time.
    """

    def __init__(self, dirpath: str | Path | None = None, filename: str | None = None, extended: bool = True) -> None:
        super().__init__(dirpath=dirpath, filename=filename)
        self.current_actions: dict[str, float] = {}
        self.recorded_durations: dict[str, list[float]] = defaultdict(list)
        self.extended = extended
        self.start_time = time.monotonic()

    def start(self, action_name: str) -> None:
        """An action begins.

        Raises:
            ValueError: it is already running.
        """
        if action_name in self.current_actions:
            raise errors.value_error(
                "action_name", "an action that is not running", action_name, "Call `stop` before starting it again"
            )
        self.current_actions[action_name] = time.monotonic()

    def stop(self, action_name: str) -> None:
        """An action ends.

        Raises:
            ValueError: it was never started.
        """
        end = time.monotonic()
        if action_name not in self.current_actions:
            raise errors.value_error(
                "action_name", "an action that was started", action_name, "Call `start` before `stop`"
            )
        self.recorded_durations[action_name].append(end - self.current_actions.pop(action_name))

    def summary(self) -> str:
        """One line per action, the longest first: mean and total seconds; extended: calls and percentage too."""
        whole = time.monotonic() - self.start_time
        rows = [(name, len(times), sum(times)) for name, times in self.recorded_durations.items() if times]
        rows.sort(key=lambda row: row[2], reverse=True)
        width = max([len("Action"), *(len(name) for name, _, _ in rows)])
        lines = ["FIT Profiler Report".replace("FIT", (self._stage or "").upper()).strip()]
        if self.extended:
            heads: tuple[str, ...] = ("Action", "Mean duration (s)", "Num calls", "Total time (s)", "Percentage %")
            total_calls = sum(calls for _, calls, _ in rows)
            table: list[tuple[str, ...]] = [
                (n, f"{t / c:.5g}", str(c), f"{t:.5g}", f"{100 * t / whole:.5g}") for n, c, t in rows
            ]
            table.insert(0, ("Total", "-", str(total_calls), f"{whole:.5g}", "100"))
        else:
            heads = ("Action", "Mean duration (s)", "Total time (s)")
            table = [(n, f"{t / c:.5g}", f"{t:.5g}") for n, c, t in rows]
        line = "-" * (width + 20 * (len(heads) - 1))
        lines += [line, _row(heads, width), line, *(_row(row, width) for row in table), line]
        return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...], width: int) -> str:
    return cells[0].ljust(width) + "".join(f" | {cell:<17}" for cell in cells[1:])
