"""`PyTorchProfiler`: torch's own profiler, driven by the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fulmen import errors
from fulmen.profilers.profiler import Profiler

__all__ = ["PyTorchProfiler"]


class PyTorchProfiler(Profiler):
    """Not built yet: constructing one raises `fulmen.errors.NotYet`.

    Args:
        dirpath: folder of the report.
        filename: name of the report's file.
        group_by_input_shapes: group operators by the shapes of their inputs.
        emit_nvtx: mark every operator for NVIDIA's tools.
        export_to_chrome: write traces that Chrome's viewer reads.
        row_limit: rows of the report's table; -1: all.
        sort_by_key: attribute to sort the table by.
        record_module_names: name the submodule in which an operator ran.
        table_kwargs: passed to the table.
        profiler_kwargs: passed to ``torch.profiler.profile``.
    """

    STEP_FUNCTIONS: Final = {"training_step", "validation_step", "test_step", "predict_step"}
    AVAILABLE_SORT_KEYS: Final = {
        f"{device}{kind}"
        for device in ("cpu_", "cuda_", "self_cpu_", "self_cuda_")
        for kind in ("time_total", "memory_usage")
    } | {"cpu_time", "cuda_time", "count"}

    function_events: Any = None
    profiler: Any = None

    def __init__(
        self,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        group_by_input_shapes: bool = False,
        emit_nvtx: bool = False,
        export_to_chrome: bool = True,
        row_limit: int = 20,
        sort_by_key: str | None = None,
        record_module_names: bool = True,
        table_kwargs: dict[str, Any] | None = None,
        **profiler_kwargs: Any,
    ) -> None:
        super().__init__(dirpath=dirpath, filename=filename)
        raise errors.NotYet("PyTorchProfiler", "Wrap the call of `trainer.fit` in `torch.profiler.profile()`")

    def start(self, action_name: str) -> None:
        """An action begins."""

    def stop(self, action_name: str) -> None:
        """An action ends."""

    def summary(self) -> str:
        """The table of operators."""
        return ""

    def teardown(self, stage: str | None) -> None:
        """A run ends."""
        super().teardown(stage=stage)
