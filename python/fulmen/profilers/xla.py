"""`XLAProfiler`: the profiler of TPUs."""

from __future__ import annotations

from typing import Final

from fulmen import errors
from fulmen.profilers.profiler import Profiler

__all__ = ["XLAProfiler"]


class XLAProfiler(Profiler):
    """Not available: constructing one raises `fulmen.errors.NotYet`.

    Args:
        port: where the profiling server would listen.
    """

    STEP_FUNCTIONS: Final = {"validation_step", "test_step", "predict_step"}
    RECORD_FUNCTIONS: Final = {"training_step", "backward", *STEP_FUNCTIONS}

    port: int = 9012

    def __init__(self, port: int = 9012) -> None:
        super().__init__(dirpath=None, filename=None)
        raise errors.NotYet("XLAProfiler", "Use `torch_xla.debug.profiler` around the call of `trainer.fit`")

    def start(self, action_name: str) -> None:
        """An action begins."""

    def stop(self, action_name: str) -> None:
        """An action ends."""
