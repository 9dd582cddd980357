"""``trainer.fit_loop`` and its siblings: thin views over the schedule with Lightning's attribute names.

Nothing is decided or counted here. Downstream code reads and sets a few of these attributes, and checkpoints hold their
state under Lightning's keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fulmen.prefetch.state import set_global_generators
from fulmen.trainer import data
from fulmen.trainer.log_axis import STATE_KEY as AXIS_KEY
from fulmen.trainer.progress_view import STEP, OptimizationProgress, Progress
from fulmen.trainer.states import RunningStage

if TYPE_CHECKING:
    from fulmen.trainer.batch_start import BatchStarts, Kept
    from fulmen.trainer.trainer import Trainer


class AutomaticOptimization:
    """View of the counters of automatic optimization."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.optim_progress = OptimizationProgress(trainer._schedule)

    @property
    def restarting(self) -> bool:
        """Was a state loaded that no run has taken up yet?"""
        return self._trainer.fit_loop.restarting

    @restarting.setter
    def restarting(self, value: bool) -> None:
        self._trainer.fit_loop.restarting = value


class ManualOptimization:
    """View of the counters of manual optimization."""

    def __init__(self, trainer: Trainer) -> None:
        self.optim_step_progress = Progress(trainer._schedule, "manual_step", STEP)


class EvaluationLoop:
    """View of a validation or test: its loaders, limits and counters."""

    def __init__(self, trainer: Trainer, stage: RunningStage, counter: Any) -> None:
        self.trainer = trainer
        self.stage = stage
        self._counter = counter
        self._loaders: Any = None
        self._loaded_epoch: float = 0
        self.batch_progress = Progress(trainer._schedule, counter, last=counter != "predict")

    def setup_data(self) -> None:
        """Asks for the loaders: once in a fit (or when a reload is due), each time when standing alone."""
        trainer = self.trainer
        if self._loaders is not None and not self._reload_due():
            return
        self._loaders = data.load(trainer, self.stage)
        every, epoch = trainer.check_val_every_n_epoch, trainer.current_epoch
        # what the sanity check loaded serves a validation of the same epoch, and not later ones
        serves = not trainer.sanity_checking or every is None or (epoch + 1) % every == 0
        self._loaded_epoch = epoch if serves else float("-inf")

    def _reload_due(self) -> bool:
        every = self.trainer.reload_dataloaders_every_n_epochs
        epoch = self.trainer.current_epoch
        return bool(every) and self._counter == "fit_val" and epoch - self._loaded_epoch >= every

    def _forget(self) -> None:
        self._loaders = None

    @property
    def max_batches(self) -> list[int | float]:
        """Batches per loader, after limits; inf without length."""
        if self._loaders is None:
            return []
        return [float("inf") if n is None else n for n in self._loaders.limits]

    @property
    def num_dataloaders(self) -> int:
        """How many loaders there are."""
        return len(self.max_batches)

    @property
    def _combined_loader(self) -> Any:
        return None if self._loaders is None else self._loaders.combined

    @property
    def _results(self) -> Any:
        return self.trainer._ledger

    @property
    def restarting(self) -> bool:
        """Evaluations always start from their first batch."""
        return False

    def state_dict(self, prefix: str = "") -> dict[str, Any]:
        """The counters under Lightning's keys."""
        return {f"{prefix}state_dict": {}, f"{prefix}batch_progress": self.batch_progress.state_dict()}

    def load_state_dict(self, state: dict[str, Any], prefix: str = "") -> None:
        """Takes over such counters."""
        if f"{prefix}batch_progress" in state:
            self.batch_progress.load_state_dict(state[f"{prefix}batch_progress"])


class PredictionLoop(EvaluationLoop):
    """View of a prediction, and the place where its results are kept."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer, RunningStage.PREDICTING, "predict")
        self.return_predictions = True
        self.current_batch_indices: list[Any] = []
        self.epoch_batch_indices: list[list[Any]] = []
        self._kept: list[list[Any]] = []
        self._epoch_end_writer = False
        self._recorders: list[Any] = []

    def _start(self) -> None:
        from fulmen.callbacks.prediction_writer import BasePredictionWriter

        loaders = max(1, self.num_dataloaders)
        writers = [c for c in self.trainer.callbacks if isinstance(c, BasePredictionWriter)]
        self._epoch_end_writer = any(w.interval.on_epoch for w in writers)
        self._kept = [[] for _ in range(loaders)]
        self.epoch_batch_indices = [[] for _ in range(loaders)]
        self.current_batch_indices = []
        self._recorders = data.batch_index_recorders(self._loaders, warn=bool(writers))

    def _note_indices(self, batch_idx: int, dataloader_idx: int) -> None:
        recorder = self._recorders[dataloader_idx] if dataloader_idx < len(self._recorders) else None
        if recorder is None:
            self.current_batch_indices = []
            return
        seen = recorder.seen_batch_indices
        self.current_batch_indices = seen[batch_idx] if batch_idx < len(seen) else []
        if self._epoch_end_writer:
            self.epoch_batch_indices[dataloader_idx].append(self.current_batch_indices)

    def _keep(self, output: Any, dataloader_idx: int) -> None:
        self._kept[dataloader_idx].append(output)

    @property
    def predictions(self) -> list[Any]:
        """What the steps gave back so far: a list, or one list per loader if there are several."""
        if not self._kept:
            return []
        return self._kept[0] if self.num_dataloaders == 1 else self._kept

    def _results_to_return(self) -> list[Any] | None:
        return self.predictions if self.return_predictions else None


class TrainingEpochLoop:
    """View of the batches of an epoch."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.batch_progress = Progress(trainer._schedule, "batch", last=True)
        self.scheduler_progress = Progress(trainer._schedule, "scheduler", STEP)
        self.automatic_optimization = AutomaticOptimization(trainer)
        self.manual_optimization = ManualOptimization(trainer)
        self.val_loop = EvaluationLoop(trainer, RunningStage.VALIDATING, "fit_val")

    @property
    def _batches_that_stepped(self) -> int:
        return self.trainer._schedule.closed_windows

    @_batches_that_stepped.setter
    def _batches_that_stepped(self, value: int) -> None:
        self.trainer._schedule.closed_windows = value

    @property
    def global_step(self) -> int:
        """Optimizer steps so far."""
        return self.trainer._schedule.global_step

    @property
    def batch_idx(self) -> int:
        """Index of the batch in hand within its epoch."""
        return self.trainer._schedule.batch_idx

    @property
    def total_batch_idx(self) -> int:
        """Index of the batch in hand over all epochs."""
        return self.batch_progress.total.ready - 1

    @property
    def max_steps(self) -> int:
        """The limit on optimizer steps, -1 for none."""
        limit = self.trainer._schedule.max_steps
        return -1 if limit is None else limit

    @max_steps.setter
    def max_steps(self, value: int) -> None:
        self.trainer._schedule.max_steps = value

    @property
    def min_steps(self) -> int | None:
        """A stop flag counts only after so many optimizer steps."""
        return self.trainer._schedule.min_steps

    @min_steps.setter
    def min_steps(self, value: int | None) -> None:
        self.trainer._schedule.min_steps = value

    @property
    def restarting(self) -> bool:
        """Was a state loaded that no run has taken up yet?"""
        return self.trainer.fit_loop.restarting

    @restarting.setter
    def restarting(self, value: bool) -> None:
        self.trainer.fit_loop.restarting = value

    @property
    def _results(self) -> Any:
        return self.trainer._ledger

    def _should_accumulate(self) -> bool:
        return self.trainer._schedule.accumulating

    def _num_ready_batches_reached(self) -> bool:
        return self.trainer._schedule.batches_exhausted()

    def reset(self) -> None:
        """Everything that a restart resets was reset by ``fit_loop.reset()``."""


class FitLoop:
    """View of the epochs of a fit."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.epoch_loop = TrainingEpochLoop(trainer)
        self.epoch_progress = Progress(trainer._schedule, "epoch")
        self.restarting = False
        # for callbacks, from an epoch's start to its end: batches run through `training_step`, and nothing is trained
        self.forward_only = False
        self._loaders: Any = None
        self._loaded_epoch = 0
        self._feed: Any = None
        self._loader_states: list[Any] = []
        self._place: dict[str, Any] = {}
        # what a file holds of things half done, until the run takes it up
        self.midway: dict[str, Any] = {}
        self.starts: BatchStarts | None = None
        self._batches_begun = 0
        # how the global random generators stood before the validation that is going on
        self._generators_before: dict[str, Any] | None = None

    def setup_data(self) -> None:
        """Asks for the training loader: once, or again where ``reload_dataloaders_every_n_epochs`` says so."""
        trainer = self.trainer
        every, epoch = trainer.reload_dataloaders_every_n_epochs, trainer.current_epoch
        if self._loaders is None or (every and epoch - self._loaded_epoch >= every):
            reload = self._loaders is not None
            self._loaders = data.load(trainer, RunningStage.TRAINING)
            if reload and self._loaders.num_batches != 0:
                # the pass that Lightning starts here and drops draws from the generators: so does this one
                self._loaders.feed()
            self._loaded_epoch = epoch
            self._feed = None
            data.check_mode(self._loaders.combined, RunningStage.TRAINING)
            self._loaders.load_state(self._loader_states)
            self._loader_states = []
        trainer._schedule.set_data(self._loaders.num_batches, trainer.enable_validation)

    def __getstate__(self) -> dict[str, Any]:
        # a running iterator cannot be copied; a copy asks for its data anew
        return {**self.__dict__, "_loaders": None, "_feed": None, "starts": None}

    def _forget(self) -> None:
        self._loaders = self._feed = self.starts = None
        self._loaded_epoch = 0
        self.epoch_loop.val_loop._forget()

    @property
    def max_batches(self) -> int | float:
        """Training batches in an epoch, after limits; inf without length."""
        loaders: data.Loaders | None = self._loaders
        if loaders is None or loaders.combined is None or loaders.num_batches is None:
            return float("inf")
        return loaders.num_batches

    @property
    def max_epochs(self) -> int:
        """The limit on epochs, -1 for none."""
        limit = self.trainer._schedule.max_epochs
        return -1 if limit is None else limit

    @max_epochs.setter
    def max_epochs(self, value: int | None) -> None:
        self.trainer._schedule.max_epochs = value

    @property
    def min_epochs(self) -> int | None:
        """A stop flag counts only after so many epochs."""
        return self.trainer._schedule.min_epochs

    @min_epochs.setter
    def min_epochs(self, value: int | None) -> None:
        self.trainer._schedule.min_epochs = value

    @property
    def max_steps(self) -> int:
        """The limit on optimizer steps, -1 for none."""
        return self.epoch_loop.max_steps

    @property
    def min_steps(self) -> int | None:
        """A stop flag counts only after so many optimizer steps."""
        return self.epoch_loop.min_steps

    @property
    def total_batch_idx(self) -> int:
        """Index of the batch in hand over all epochs."""
        return self.epoch_loop.total_batch_idx

    @property
    def batch_idx(self) -> int:
        """Index of the batch in hand within its epoch."""
        return self.epoch_loop.batch_idx

    @property
    def _can_stop_early(self) -> bool:
        return self.trainer._schedule.can_stop_early

    @property
    def _combined_loader(self) -> Any:
        return None if self._loaders is None else self._loaders.combined

    @property
    def _results(self) -> Any:
        return self.trainer._ledger

    def _should_accumulate(self) -> bool:
        return self.trainer._schedule.accumulating

    def reset(self) -> None:
        """Brings loaded counters back to their last completed point."""
        self.trainer._schedule.resume()

    def state_dict(self) -> dict[str, Any]:
        """The counters under Lightning's keys, and the state of loaders that have one."""
        loop = self.epoch_loop
        return {
            "state_dict": self._data_state(),
            "epoch_loop.state_dict": {"_batches_that_stepped": loop._batches_that_stepped},
            "epoch_loop.batch_progress": loop.batch_progress.state_dict(),
            "epoch_loop.scheduler_progress": loop.scheduler_progress.state_dict(),
            "epoch_loop.automatic_optimization.state_dict": {},
            "epoch_loop.automatic_optimization.optim_progress": (
                loop.automatic_optimization.optim_progress.state_dict()
            ),
            "epoch_loop.manual_optimization.state_dict": {},
            "epoch_loop.manual_optimization.optim_step_progress": (
                loop.manual_optimization.optim_step_progress.state_dict()
            ),
            **loop.val_loop.state_dict("epoch_loop.val_loop."),
            "epoch_progress": self.epoch_progress.state_dict(),
        }

    def _data_state(self) -> dict[str, Any]:
        """The states of loaders that keep one, under Lightning's key."""
        # what was loaded and not taken up yet stands for itself
        states = self._loader_states or ([] if self._loaders is None else self._loaders.state())
        axis = self.trainer._axis.state()
        return ({"combined_loader": states} if states else {}) | ({AXIS_KEY: axis} if axis else {})

    @property
    def place(self) -> dict[str, Any]:
        """The places in the training loaders and the states of all random generators; empty before there are loaders."""
        if self._place or self._loaders is None:
            return self._place
        place: dict[str, Any] = self._loaders.place()
        kept = self.kept_start
        if place and kept is not None:
            kept.correct(place, self.trainer)
        elif place and self._generators_before is not None and not self._validation_is_done():
            place["global"] = self._generators_before
        return place

    @property
    def kept_start(self) -> Kept | None:
        """How things stood before the batch in hand, if that is known and it is not trained yet."""
        return None if self.starts is None else self.starts.kept()

    def take_up(self, place: dict[str, Any], half_done: dict[str, Any]) -> None:
        """The next run goes on there; call it after `load_state_dict`.

        Args:
            place: what `place` gave.
            half_done: what `midway.state` gave; empty in files that Lightning wrote.
        """
        self._place, self.midway = place, half_done
        self.trainer._schedule.exact = bool(half_done)

    def _validation_is_done(self) -> bool:
        progress = self.epoch_loop.val_loop.batch_progress
        return progress.is_last_batch and progress.current.completed == progress.current.ready

    def _go_to_place(self, resumption: str) -> dict[str, Any] | None:
        """The next pass over the training loaders begins where the loaded state says.

        Args:
            resumption: what the schedule said about the loaded counters, which have been brought back to whole batches.

        Returns:
            The states of the global random generators from then, None if they were not saved or stand so already.
        """
        place, self._place = self._place, {}
        if not place or self._loaders.combined is None:
            return None
        if self._loaders.state():
            # such loaders have found their place by themselves
            if resumption == "fresh":
                set_global_generators(place["global"])
            return None if resumption == "fresh" else place["global"]
        if resumption == "fresh":
            self._loaders.go_to(place, None)
            return None
        self._loaders.go_to(place, self._batches_begun - self.epoch_loop.batch_progress.current.completed)
        return place["global"]  # type: ignore[no-any-return]  # plain data of a file

    def _leave_place(self) -> None:
        """Nothing is left to do: whoever draws next draws what it would have drawn after the former run."""
        place, self._place, self.midway = self._place, {}, {}
        if place:
            set_global_generators(place["global"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over such counters; the next run goes on from them."""
        loop = self.epoch_loop
        self._loader_states = state.get("state_dict", {}).get("combined_loader", [])
        self.trainer._axis.load_state(state.get("state_dict", {}).get(AXIS_KEY, {}))
        self._batches_begun = state.get("epoch_loop.batch_progress", {}).get("current", {}).get("ready", 0)
        for view, key in (
            (loop.batch_progress, "epoch_loop.batch_progress"),
            (loop.scheduler_progress, "epoch_loop.scheduler_progress"),
            (loop.automatic_optimization.optim_progress, "epoch_loop.automatic_optimization.optim_progress"),
            (loop.manual_optimization.optim_step_progress, "epoch_loop.manual_optimization.optim_step_progress"),
            (self.epoch_progress, "epoch_progress"),
        ):
            if key in state:
                view.load_state_dict(state[key])
        loop.val_loop.load_state_dict(state, "epoch_loop.val_loop.")
        loop._batches_that_stepped = state.get("epoch_loop.state_dict", {}).get("_batches_that_stepped", 0)
        self.trainer._schedule.restarting = self.restarting = True
