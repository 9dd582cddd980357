"""``Trainer(log_axis=...)``: what rows of metrics are counted by, in training and validation alike.

Loggers want whole numbers. By "samples" those are the training samples that were begun, over all processes. By "epoch"
they are thousandths of an epoch, and the row's ``epoch`` is the fraction itself: 1.25 after a quarter of the second epoch,
where the step is 1250. By "global_step", Lightning's axis, rows of validation steps have an axis of their own; by the
others they stand where the training stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from fulmen import errors
from fulmen.utilities.exceptions import MisconfigurationException
from fulmen.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

STATE_KEY = "fulmen_axis"
"""Where a checkpoint's ``state_dict`` of the fit loop holds the axis; Lightning ignores it."""

THOUSANDTHS = 1000


class Axis:
    """Counts by accumulation windows that are closed: optimizer steps, and steps that were left out.

    Attributes:
        shared: whether rows of validation steps stand on this axis too.
    """

    shared = False

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    @property
    def position(self) -> int:
        """The x value of a row that is sent now."""
        return self.trainer._schedule.closed_windows

    def epoch(self) -> int | float:
        """What the column ``epoch`` of such a row says."""
        return self.trainer.current_epoch

    def counter(self) -> Callable[[Any], None] | None:
        """What the training loop has to call with each batch in hand; None: nothing."""
        return None

    def begin(self, place: str) -> None:
        """The training is about to start, and its data is known.

        Args:
            place: where it takes up its epochs: "fresh", "mid_epoch" or "epoch_end".

        Raises:
            MisconfigurationException: this axis needs to know what nobody knows here.
        """

    def state(self) -> dict[str, int]:
        """What a resumed run has to know."""
        return {}

    def load_state(self, state: dict[str, int]) -> None:
        """Take up what `state` gave, or nothing from a file of another axis."""


class SampleAxis(Axis):
    """Counts the samples of the training batches, as `self.log` finds their number."""

    shared = True

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer)
        self._samples = self._newest = 0

    @property
    @override
    def position(self) -> int:
        return self._samples

    @override
    def counter(self) -> Callable[[Any], None]:
        weight, world = self.trainer._ledger._store.weight, self.trainer.world_size

        def count(batch: Any) -> None:
            try:
                self._newest = int(weight()) * world
            except MisconfigurationException as error:
                raise errors.misconfiguration(
                    'Trainer(log_axis="samples")',
                    "batches with a tensor whose first dimension is the number of samples",
                    errors.Words(f"a batch of type {type(batch).__name__}"),
                    'Use log_axis="epoch" or "global_step"',
                ) from error
            self._samples += self._newest

        return count

    def begin(self, place: str) -> None:
        """Also takes back what an interrupted run had begun and not done, since it comes again."""
        from fulmen.trainer.step import takes_iterator

        if takes_iterator(self.trainer.lightning_module):
            raise errors.misconfiguration(
                'Trainer(log_axis="samples")',
                "a `training_step` that gets batches",
                errors.Words("one that fetches them by itself (`dataloader_iter`), so that nobody can count"),
                'Use log_axis="epoch" or "global_step"',
            )
        loop = self.trainer.fit_loop
        if place == "mid_epoch":
            done = self.trainer._schedule.progress("batch")["current"]["ready"]
            self._samples -= self._newest * max(0, loop._batches_begun - done)
        loop._batches_begun = 0

    @override
    def state(self) -> dict[str, int]:
        return {"samples": self._samples, "newest": self._newest}

    @override
    def load_state(self, state: dict[str, int]) -> None:
        if not state:
            rank_zero_warn(
                'Trainer(log_axis="samples"): the checkpoint was written with another axis and does not say how many '
                "samples there were. Counting starts at 0."
            )
        self._samples, self._newest = state.get("samples", 0), state.get("newest", 0)


class EpochAxis(Axis):
    """Counts thousandths of an epoch."""

    shared = True

    @property
    @override
    def position(self) -> int:
        return round(self.epoch() * THOUSANDTHS)

    def epoch(self) -> float:
        """Epochs done, and the share of the one in hand, by its batches."""
        schedule = self.trainer._schedule
        begun = schedule.progress("epoch")["current"]["ready"]
        batches = schedule.train_batches
        if not begun or not batches:
            return 0.0
        return begun - 1 + min(1.0, schedule.progress("batch")["current"]["ready"] / batches)

    @override
    def begin(self, place: str) -> None:
        if self.trainer._schedule.train_batches is None:
            raise errors.misconfiguration(
                'Trainer(log_axis="epoch")',
                "training data with a length",
                errors.Words("data of which nobody knows where it ends"),
                'Pass `limit_train_batches=N`, or use log_axis="samples"',
            )


def make_axis(trainer: Trainer, name: str) -> Axis:
    """The axis of this name."""
    return {"global_step": Axis, "samples": SampleAxis, "epoch": EpochAxis}[name](trainer)
