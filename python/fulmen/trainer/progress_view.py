"""Counters of the schedule under the names that Lightning's loops give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fulmen._core import Schedule

STAGES = ("ready", "started", "processed", "completed")
STEP = ("ready", "completed")
ZERO_GRAD = ("ready", "started", "completed")


class Counts:
    """Live view of four-stage counts: ``ready``, ``started``, ``processed``, ``completed``, each readable and settable."""

    def __init__(self, schedule: Schedule, counter: Any, scope: str) -> None:
        object.__setattr__(self, "_place", (schedule, counter, scope))

    if TYPE_CHECKING:
        _place: tuple[Schedule, Any, str]

    def __getattr__(self, name: str) -> int:
        if name not in STAGES:
            raise AttributeError(f"counts have {', '.join(STAGES)}, not {name!r}")
        schedule, counter, scope = self._place
        progress: Any = schedule.progress(counter)
        return int(progress[scope][name])

    def __setattr__(self, name: str, value: int) -> None:
        if name not in STAGES:
            raise AttributeError(f"counts have {', '.join(STAGES)}, not {name!r}")
        schedule, counter, scope = self._place
        schedule.set_progress(counter, {scope: {name: value}})

    def __repr__(self) -> str:
        return f"Counts({', '.join(f'{s}={getattr(self, s)}' for s in STAGES)})"


class Progress:
    """Live view of one counter: ``total`` over the run, ``current`` over the enclosing round."""

    def __init__(self, schedule: Schedule, counter: Any, stages: tuple[str, ...] = STAGES, last: bool = False) -> None:
        self._schedule, self._counter, self._stages, self._last = schedule, counter, stages, last
        self.total = Counts(schedule, counter, "total")
        self.current = Counts(schedule, counter, "current")

    @property
    def is_last_batch(self) -> bool:
        """Is the batch in hand the last of its round?"""
        return bool(self._schedule.progress(self._counter)["is_last_batch"])

    def state_dict(self) -> dict[str, Any]:
        """The counts as a checkpoint holds them."""
        progress = self._schedule.progress(self._counter)
        state: dict[str, Any] = {
            scope: {stage: progress[scope][stage] for stage in self._stages} for scope in ("total", "current")
        }
        if self._last:
            state["is_last_batch"] = progress["is_last_batch"]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over such counts; what only some counters keep follows from the others."""
        filled: dict[str, Any] = {}
        for scope in ("total", "current"):
            counts = dict(state.get(scope) or {})
            counts.setdefault("started", counts.get("completed", 0))
            counts.setdefault("processed", counts.get("completed", 0))
            filled[scope] = {k: v for k, v in counts.items() if k in STAGES}
        if "is_last_batch" in state:
            filled["is_last_batch"] = state["is_last_batch"]
        self._schedule.set_progress(self._counter, filled)


class OptimizerProgress:
    """Steps of automatic optimization."""

    def __init__(self, schedule: Schedule) -> None:
        self.step = Progress(schedule, "optimizer_step", STEP)
        self.zero_grad = Progress(schedule, "zero_grad", ZERO_GRAD)

    def state_dict(self) -> dict[str, Any]:
        """The counts as a checkpoint holds them."""
        return {"step": self.step.state_dict(), "zero_grad": self.zero_grad.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over such counts."""
        self.step.load_state_dict(state["step"])
        self.zero_grad.load_state_dict(state["zero_grad"])


class OptimizationProgress:
    """What the one optimizer of automatic optimization did."""

    def __init__(self, schedule: Schedule) -> None:
        self.optimizer = OptimizerProgress(schedule)

    @property
    def optimizer_steps(self) -> int:
        """Optimizer steps over the run."""
        return self.optimizer.step.total.completed

    def state_dict(self) -> dict[str, Any]:
        """The counts as a checkpoint holds them."""
        return {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over such counts."""
        self.optimizer.load_state_dict(state["optimizer"])
