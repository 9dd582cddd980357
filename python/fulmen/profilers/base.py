"""`PassThroughProfiler`: measures nothing."""

from __future__ import annotations

from fulmen.profilers.profiler import Profiler

__all__ = ["PassThroughProfiler"]


class PassThroughProfiler(Profiler):
    """What a trainer has where no profiler was asked for."""

    def start(self, action_name: str) -> None:
        """Nothing."""

    def stop(self, action_name: str) -> None:
        """Nothing."""
