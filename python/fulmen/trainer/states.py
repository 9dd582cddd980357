"""What a trainer is doing: which entry point, which stage of it, and how it is going."""

from __future__ import annotations

from dataclasses import dataclass

from fulmen.utilities.enums import LightningEnum

__all__ = ["RunningStage", "TrainerFn", "TrainerState", "TrainerStatus"]


class TrainerStatus(LightningEnum):
    """How the run is going."""

    INITIALIZING = "initializing"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"

    @property
    def stopped(self) -> bool:
        """Is the run over, one way or the other?"""
        return self in (TrainerStatus.FINISHED, TrainerStatus.INTERRUPTED)


class TrainerFn(LightningEnum):
    """The entry point that the user called; its value is the ``stage`` that ``setup`` and ``teardown`` get."""

    FITTING = "fit"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"


class RunningStage(LightningEnum):
    """What is running right now: fit alternates between several stages."""

    TRAINING = "train"
    SANITY_CHECKING = "sanity_check"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"

    @property
    def evaluating(self) -> bool:
        """Is this a validation, a test or the sanity check?"""
        return self in (RunningStage.VALIDATING, RunningStage.TESTING, RunningStage.SANITY_CHECKING)

    @property
    def dataloader_prefix(self) -> str | None:
        """The part before ``_dataloader`` in the name of the hook that gives this stage's loaders."""
        if self is RunningStage.SANITY_CHECKING:
            return None
        return "val" if self is RunningStage.VALIDATING else str(self.value)


@dataclass
class TrainerState:
    """The state of a trainer, in three words."""

    status: TrainerStatus = TrainerStatus.INITIALIZING
    fn: TrainerFn | None = None
    stage: RunningStage | None = None

    @property
    def finished(self) -> bool:
        """Did the last run end well?"""
        return self.status is TrainerStatus.FINISHED

    @property
    def stopped(self) -> bool:
        """Is no run going on any more?"""
        return self.status.stopped
