"""`AdvancedProfiler`: which functions ran inside every action, by `cProfile`."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fulmen import errors
from fulmen.profilers.profiler import Profiler

if TYPE_CHECKING:
    import cProfile

__all__ = ["AdvancedProfiler"]


class AdvancedProfiler(Profiler):
    """Profiles every action with `cProfile`.

    Args:
        dirpath: folder of the report.
        filename: name of the report's file; None: the report goes to the log.
        line_count_restriction: how many functions an action's report lists: a number (int) or a share (float).
        dump_stats: also write each action's raw statistics to a ``.prof`` file, for `pstats` and its viewers.
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        line_count_restriction: float = 1.0,
        dump_stats: bool = False,
    ) -> None:
        super().__init__(dirpath=dirpath, filename=filename)
        self.profiled_actions: dict[str, cProfile.Profile] = {}
        self.line_count_restriction = line_count_restriction
        self.dump_stats = dump_stats
        self._active: str | None = None

    def start(self, action_name: str) -> None:
        """An action begins. Actions inside it (Python has one profiler at a time) are counted to it."""
        if self._active not in (None, action_name):
            return
        import cProfile

        self.profiled_actions.setdefault(action_name, cProfile.Profile()).enable()
        self._active = action_name

    def stop(self, action_name: str) -> None:
        """An action ends.

        Raises:
            ValueError: it was never started.
        """
        if action_name == self._active:
            self.profiled_actions[action_name].disable()
            self._active = None
        elif self._active is None and action_name not in self.profiled_actions:
            raise errors.value_error(
                "action_name", "an action that was started", action_name, "Call `start` before `stop`"
            )

    def summary(self) -> str:
        """Every action with its functions, by cumulative time."""
        import pstats

        texts = []
        for name, profile in self.profiled_actions.items():
            if self.dump_stats:
                self._dump(name, profile)
            stream = io.StringIO()
            statistics = pstats.Stats(profile, stream=stream).strip_dirs().sort_stats("cumulative")
            statistics.print_stats(self.line_count_restriction)
            texts.append(f"Profile stats for: {name}\n{stream.getvalue()}")
        return "\n".join(texts)

    def teardown(self, stage: str | None) -> None:
        """A run ends: closes the file and forgets the statistics."""
        super().teardown(stage=stage)
        self.profiled_actions.clear()

    def _dump(self, name: str, profile: cProfile.Profile) -> None:
        import pstats

        folder = os.fspath(self.dirpath or ".")
        os.makedirs(folder, exist_ok=True)
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
        pstats.Stats(profile).dump_stats(os.path.join(folder, f"{safe}{self._report_name('.prof')}"))
