"""`Timer`: measures stages, and ends training when its time is over."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fulmen.callbacks.callback import Callback
from fulmen.trainer.states import RunningStage
from fulmen.utilities.enums import LightningEnum
from fulmen.utilities.exceptions import MisconfigurationException
from fulmen.utilities.rank_zero import rank_zero_info

if TYPE_CHECKING:
    import fulmen as L

__all__ = ["Timer"]


class Interval(LightningEnum):
    """How often the clock is looked at."""

    step = "step"
    epoch = "epoch"


class Timer(Callback):
    """Keeps the time of training, validation and test, and stops training when ``duration`` is over.

    Args:
        duration: text "DD:HH:MM:SS", a timedelta, a dict of its arguments, or None for no limit.
        interval: look at the clock after each "step" or "epoch".
        verbose: say so when the time is over.
    """

    def __init__(
        self,
        duration: str | timedelta | dict[str, int] | None = None,
        interval: str = Interval.step,
        verbose: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(duration, str):
            match = re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", duration.strip())
            if not match:
                raise MisconfigurationException(
                    f"`Timer(duration={duration!r})` is not a valid duration. Expected a string in the format DD:HH:MM:SS."
                )
            days, hours, minutes, seconds = map(int, match.groups())
            duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        elif isinstance(duration, dict):
            duration = timedelta(**duration)
        if interval not in set(Interval):
            raise MisconfigurationException(
                f"Unsupported parameter value `Timer(interval={interval})`. Possible: step, epoch."
            )
        self._duration = duration.total_seconds() if duration is not None else None
        self._interval = interval
        self._verbose = verbose
        self._start: dict[RunningStage, float | None] = dict.fromkeys(RunningStage)
        self._end: dict[RunningStage, float | None] = dict.fromkeys(RunningStage)
        self._offset: float = 0
        self._over = False

    def start_time(self, stage: str = RunningStage.TRAINING) -> float | None:
        """When a stage began, by a monotonic clock in seconds."""
        return self._start[RunningStage(stage)]

    def end_time(self, stage: str = RunningStage.TRAINING) -> float | None:
        """When a stage ended."""
        return self._end[RunningStage(stage)]

    def time_elapsed(self, stage: str = RunningStage.TRAINING) -> float:
        """Seconds spent in a stage; training counts what a resumed run had spent before."""
        start, end = self.start_time(stage), self.end_time(stage)
        offset = self._offset if stage == RunningStage.TRAINING else 0
        if start is None:
            return offset
        return (time.monotonic() if end is None else end) - start + offset

    def time_remaining(self, stage: str = RunningStage.TRAINING) -> float | None:
        """Seconds left; None without a limit."""
        return None if self._duration is None else self._duration - self.time_elapsed(stage)

    def _begin(self, stage: RunningStage) -> None:
        self._start[stage], self._end[stage] = time.monotonic(), None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the training's clock."""
        self._over = False
        self._begin(RunningStage.TRAINING)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the training's clock."""
        self._end[RunningStage.TRAINING] = time.monotonic()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the validation's clock."""
        self._begin(RunningStage.VALIDATING)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the validation's clock."""
        self._end[RunningStage.VALIDATING] = time.monotonic()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the test's clock."""
        self._begin(RunningStage.TESTING)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the test's clock."""
        self._end[RunningStage.TESTING] = time.monotonic()

    def on_fit_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """A limit that is already over lets no batch run."""
        if self._duration is not None:
            self._check(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Looks at the clock."""
        if self._duration is not None and self._interval == Interval.step:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Looks at the clock."""
        if self._duration is not None and self._interval == Interval.epoch:
            self._check(trainer)

    def _check(self, trainer: L.Trainer) -> None:
        assert self._duration is not None
        over = trainer.strategy.broadcast(self.time_elapsed() >= self._duration)
        trainer.should_stop = trainer.should_stop or over
        if over and self._start[RunningStage.TRAINING] is not None and not self._over:
            # the rest of the epoch is for a later run: it needs this very state, as what ends the epoch counts it as done
            self._over = trainer._signals.save_due = trainer._schedule.interrupt = True
        if over and self._verbose:
            spent = timedelta(seconds=int(self.time_elapsed(RunningStage.TRAINING)))
            rank_zero_info(f"Time limit reached. Elapsed time is {spent}. Signaling Trainer to stop.")

    def state_dict(self) -> dict[str, Any]:
        """Seconds spent in every stage."""
        return {"time_elapsed": {stage.value: self.time_elapsed(stage) for stage in RunningStage}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        spent = state_dict.get("time_elapsed", {})
        self._offset = spent.get(RunningStage.TRAINING.value, 0)
