"""From what a source gives to loaders that are ready to run: wrapped, divided among the ranks, limited, checked."""

from __future__ import annotations

import copy
import multiprocessing
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from fulmen import errors
from fulmen.prefetch import choose
from fulmen.prefetch.state import global_generators, set_global_generators
from fulmen.trainer.feed import Feed
from fulmen.trainer.sampler import BatchIndexRecorder, distributed_sampler, needs_distributed_sampler
from fulmen.trainer.states import RunningStage, TrainerFn
from fulmen.utilities.combined_loader import CombinedLoader
from fulmen.utilities.data import has_iterable_dataset, has_len_all_ranks, suggested_max_num_workers
from fulmen.utilities.exceptions import MisconfigurationException
from fulmen.utilities.model_helpers import is_overridden
from fulmen.utilities.rank_zero import rank_zero_warn
from fulmen.utilities.seed import pl_worker_init_function
from fulmen.utilities.warnings import PossibleUserWarning

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

_STEP = {"train": "training_step", "val": "validation_step", "test": "test_step"}


class Loaders:
    """The loaders of one stage, ready to run.

    Args:
        trainer: whose loaders.
        stage: what they are for.
        combined: the loaders; None if the stage has nothing to do.
        limits: batches of each loader that count, None without end.

    Attributes:
        num_batches: batches of a whole pass, None without end.
        sources: where the batches of each loader come from.
    """

    def __init__(
        self, trainer: Trainer, stage: RunningStage, combined: CombinedLoader | None, limits: list[int | None]
    ) -> None:
        self._trainer = trainer
        self._stage = stage
        self._restored = False
        self._feed: Feed | None = None
        self.combined = combined
        self.limits = limits
        config = trainer._config
        self.sources = (
            []
            if combined is None
            else [choose(each, config.prefetch, config.worker_seeding) for each in combined.flattened]
        )
        self.num_batches: int | None = 0
        if combined is not None:
            combined.limits = _as_numbers(limits)
            length = combined._length()
            self.num_batches = None if length == float("inf") else int(length)

    def feed(self, limits: list[int | None] | list[int | float] | None = None) -> Feed:
        """Start the loaders for one pass.

        Args:
            limits: other limits for this pass, one for each loader; None (or inf): without end.
        """
        assert self.combined is not None, "a stage without loaders has nothing to feed"
        if self._stage is not RunningStage.TRAINING:
            # who shuffles validation wants that to follow the training's progress
            self.set_epoch(self._trainer.fit_loop.epoch_progress.current.processed)
        self.combined.limits = _as_numbers(self.limits if limits is None else limits)
        if self._feed is not None:
            self._feed.close()
        self.combined._sources = self.sources
        self._feed = Feed(self.combined, self._restored)
        self._restored = False
        return self._feed

    def close(self) -> None:
        """End the pass that runs, and all workers. The loaders can be started again."""
        if self._feed is not None:
            self._feed.reset()
            self._feed = None
        if self.combined is not None:
            self.combined._sources = None

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch to all samplers that want to know it, each once."""
        for loader in self.combined.flattened if self.combined is not None else []:
            samplers = (
                getattr(loader, "sampler", None),
                getattr(getattr(loader, "batch_sampler", None), "sampler", None),
            )
            # by identity: samplers need not be hashable
            for sampler in {id(sampler): sampler for sampler in samplers}.values():
                set_epoch = getattr(sampler, "set_epoch", None)
                if callable(set_epoch):
                    set_epoch(epoch)

    def state(self) -> list[dict[str, Any]]:
        """The states of those loaders that have one."""
        return [] if self.combined is None else self.combined._state_dicts()

    def load_state(self, states: list[dict[str, Any]]) -> None:
        """Restore what `state` gave, before the next pass starts."""
        if states and self.combined is not None:
            self.combined._load_state_dicts(states)
            self._restored = True

    def place(self) -> dict[str, Any]:
        """Where the pass over each loader stands, and how the random generators stand, as plain data."""
        if not self.sources:
            return {}
        sources = [source.state() for source in self.sources]
        return {"sources": sources, "ahead": self.ahead, "global": global_generators()}

    @property
    def ahead(self) -> int:
        """How many batches were fetched and not yet given."""
        return 0 if self._feed is None else self._feed.ahead

    def go_to(self, place: dict[str, Any], too_far: int | None) -> None:
        """The next pass begins where `place` says, before the next batch.

        Args:
            place: what `place` gave.
            too_far: how many batches were taken by then that count as not taken; None: begin a pass of its own, after
                that one.

        Raises:
            RuntimeError: it is of other loaders.
        """
        states = place["sources"]
        if len(states) != len(self.sources):
            raise errors.runtime_error(
                f"The checkpoint has the places in {len(states)} training loaders, the run has {len(self.sources)}",
                "Resume with the loaders that were used when saving",
            )
        for source, state in zip(self.sources, states, strict=True):
            if too_far is None:
                # they share the global generators: each begins with what the one before has left
                source.restore({**state, "taken": None, "now": {**state["now"], "global": None}})
            else:
                taken = state["taken"]
                source.restore({**state, "taken": None if taken is None else max(0, taken - too_far - place["ahead"])})
        if too_far is None:
            set_global_generators(place["global"])
        self._restored = too_far is not None


def load(trainer: Trainer, stage: RunningStage) -> Loaders:
    """Ask for the loaders of a stage, and make them ready.

    Args:
        trainer: the trainer, with its sources attached.
        stage: TRAINING, VALIDATING (also for the sanity check), TESTING or PREDICTING.

    Returns:
        The loaders; without any if the limit is 0 or the module has no step for them. Then no hook is called.

    Raises:
        MisconfigurationException: a fraction as limit leaves no batch, or meets a loader without length.
        TypeError: something is not iterable.
        ValueError: a `CombinedLoader` in a mode that the stage cannot use.
        RuntimeError: a loader is empty on this rank only.
    """
    stage = RunningStage.VALIDATING if stage is RunningStage.SANITY_CHECKING else stage
    kind = str(stage.dataloader_prefix)
    module = trainer.lightning_module
    limit = getattr(trainer, f"limit_{kind}_batches")
    if limit == 0 or (kind in _STEP and not is_overridden(_STEP[kind], module)):
        return Loaders(trainer, stage, None, [])

    given = trainer._sources.get(kind)
    trainer.strategy.barrier(f"{kind}_dataloader()")
    combined = given if isinstance(given, CombinedLoader) else CombinedLoader(given, _default_mode(stage))
    fitting = trainer.state.fn in (None, TrainerFn.FITTING)
    if trainer.overfit_batches > 0 and fitting:
        _turn_shuffling_off(combined, kind)
    ready = []
    for loader in combined.flattened:
        if not isinstance(loader, DataLoader):
            _check_iterable(trainer, kind, loader)
        ready.append(_prepare(trainer, stage, loader))
    combined.flattened = ready

    zero_length = module.allow_zero_length_dataloader_with_multiple_devices or (
        trainer.datamodule is not None and trainer.datamodule.allow_zero_length_dataloader_with_multiple_devices
    )
    limits = []
    for loader in ready:
        length = len(loader) if has_len_all_ranks(loader, trainer.strategy, zero_length) else None
        limits.append(_limit(kind, limit, length))
    loaders = Loaders(trainer, stage, combined, limits)
    if stage is RunningStage.TRAINING:
        _warn_rare_logging(trainer, loaders.num_batches)
    else:
        check_mode(combined, stage)
    return loaders


def batch_index_recorders(loaders: Loaders | None, warn: bool = False) -> list[BatchIndexRecorder | None]:
    """For each loader of a prediction what records its batches' indices, None where that cannot be done.

    Args:
        loaders: those of the prediction.
        warn: say so where it cannot be done.
    """
    recorders: list[BatchIndexRecorder | None] = []
    combined = None if loaders is None else loaders.combined
    for loader in combined.flattened if combined is not None else []:
        recorder = getattr(loader, "batch_sampler", None)
        recorders.append(recorder if isinstance(recorder, BatchIndexRecorder) else None)
        if warn and recorders[-1] is None:
            rank_zero_warn(f"Couldn't infer the batch indices fetched from your dataloader: `{type(loader).__name__}`")
    return recorders


def _default_mode(stage: RunningStage) -> Any:
    return "max_size_cycle" if stage is RunningStage.TRAINING else "sequential"


def check_mode(combined: CombinedLoader | None, stage: RunningStage) -> None:
    """Refuse a `CombinedLoader` in a mode that a stage cannot use.

    The training loop asks it after taking the loaders, so that their number of batches can be read all the same.
    """
    if combined is None:
        return
    sequential = combined._mode == "sequential"
    if stage is RunningStage.TRAINING and sequential:
        raise ValueError(
            'train_dataloaders: `FitLoop` does not support the `CombinedLoader(mode="sequential")` mode. Use'
            ' "min_size", "max_size" or "max_size_cycle".'
        )
    if stage is RunningStage.PREDICTING and not sequential:
        raise ValueError(
            'dataloaders: `trainer.predict()` only supports the `CombinedLoader(mode="sequential")` mode, got'
            f" {combined._mode!r}."
        )


def _check_iterable(trainer: Trainer, kind: str, loader: Any) -> None:
    try:
        iter(loader)
    except TypeError:
        raise trainer._sources.not_iterable(kind, loader) from None


def _limit(kind: str, limit: int | float, length: int | None) -> int | None:
    from fulmen._core import resolve_limit

    name = f"limit_{kind}_batches"
    if length is None and isinstance(limit, float) and limit not in (0.0, 1.0):
        raise MisconfigurationException(
            f"When using an `IterableDataset`, `Trainer({name})` must be `1.0` or an int: expected a number of batches,"
            f" as the loader has no length, got {limit}."
        )
    if length == 0:
        return 0
    return resolve_limit(limit, length, name)


def _as_numbers(limits: list[int | None] | list[int | float]) -> list[int | float]:
    return [float("inf") if limit is None else limit for limit in limits]


def _prepare(trainer: Trainer, stage: RunningStage, loader: Any) -> Any:
    """One loader: samplers, the strategy's own wishes, and what there is to warn about."""
    kind = stage.dataloader_prefix
    shuffled = _is_shuffled(loader)
    if stage is not RunningStage.TRAINING and shuffled:
        rank_zero_warn(
            f"Your `{kind}_dataloader`'s sampler has shuffling enabled, it is strongly recommended that you turn"
            " shuffling off for val/test dataloaders.",
            category=PossibleUserWarning,
        )
    if isinstance(loader, DataLoader) and not has_iterable_dataset(loader):
        if needs_distributed_sampler(trainer, loader):
            shuffle = shuffled or stage is RunningStage.TRAINING
            loader = with_sampler(loader, distributed_sampler(trainer, loader, shuffle, stage), stage)
        elif stage is RunningStage.PREDICTING:
            loader = with_sampler(loader, loader.sampler, stage)
    loader = trainer.strategy.process_dataloader(loader)
    if isinstance(loader, DataLoader):
        _warn_workers(trainer, loader, f"{kind}_dataloader")
    if os.environ.get("PL_SEED_WORKERS", "0") == "1" and getattr(loader, "worker_init_fn", _NO_SUCH) is None:
        loader.worker_init_fn = partial(pl_worker_init_function, rank=trainer.global_rank)
    return loader


_NO_SUCH: Any = object()


def _is_shuffled(loader: Any) -> bool:
    """Whether a loader draws at random by torch's own sampler; others are trusted."""
    if has_iterable_dataset(loader) or not hasattr(loader, "sampler"):
        return False
    batch_sampler = getattr(loader, "batch_sampler", None)
    sampler = loader.sampler if batch_sampler is None else getattr(batch_sampler, "sampler", batch_sampler)
    return isinstance(sampler, RandomSampler)


def _turn_shuffling_off(combined: CombinedLoader, kind: str) -> None:
    """With ``overfit_batches`` every epoch has to see the same batches."""
    if all(
        isinstance(loader.sampler, SequentialSampler) for loader in combined.flattened if hasattr(loader, "sampler")
    ):
        return
    rank_zero_warn(
        f"You requested to overfit but enabled {kind} dataloader shuffling. We are turning off the {kind} dataloader"
        " shuffling for you."
    )
    combined.flattened = [
        with_sampler(loader, SequentialSampler(loader.dataset), None)  # type: ignore[arg-type]  # has a length, or was refused before
        if isinstance(loader, DataLoader) and not has_iterable_dataset(loader)
        else loader
        for loader in combined.flattened
    ]


def with_sampler(loader: DataLoader[Any], sampler: Any, stage: RunningStage | None) -> DataLoader[Any]:
    """A copy of a loader with another sampler.

    The copy is shallow and the constructor does not run, so that any subclass can be copied, with whatever attributes.

    Args:
        loader: the loader; it is not changed.
        sampler: the new sampler.
        stage: for prediction the last incomplete batch is kept, and the indices of the batches are recorded.

    Raises:
        TypeError: its batch sampler is of a class that nobody can put a sampler into.
    """
    predicting = stage is RunningStage.PREDICTING
    changes: dict[str, Any] = {"sampler": sampler, "_iterator": None}
    if loader.batch_sampler is not None:
        batch_sampler = _batch_sampler_with(loader.batch_sampler, sampler, predicting)
        changes["batch_sampler"] = BatchIndexRecorder(batch_sampler) if predicting else batch_sampler
        if predicting and type(loader.batch_sampler) is BatchSampler:
            changes["drop_last"] = False
    new = copy.copy(loader)
    # a loader refuses to have these assigned
    vars(new).update(changes)
    return new


def _batch_sampler_with(old: Any, sampler: Any, predicting: bool) -> Any:
    """A copy of a batch sampler with another sampler, without ``drop_last`` for prediction."""
    name = type(old).__qualname__
    own = getattr(old, "__dict__", {})
    if sampler is own.get("sampler") and not (predicting and own.get("drop_last", True)):
        return old
    if "sampler" in own:
        new = copy.copy(old)
        new.sampler = sampler
        if predicting and "drop_last" in own:
            new.drop_last = False
        elif predicting:
            _warn_incomplete(name)
        return new
    if hasattr(old, "batch_size") and hasattr(old, "drop_last"):
        try:
            return type(old)(sampler, batch_size=old.batch_size, drop_last=old.drop_last and not predicting)
        except TypeError as error:
            raise _cannot_inject(name) from error
    if predicting:
        _warn_incomplete(name)
        return old
    raise _cannot_inject(name)


def _warn_incomplete(name: str) -> None:
    rank_zero_warn(
        f"You are using a custom batch sampler `{name}` for prediction. Predictions need all samples, but how to set"
        " `drop_last=False` in it is not known. Make sure that it returns all indices.",
        category=PossibleUserWarning,
    )


def _cannot_inject(name: str) -> TypeError:
    return TypeError(
        f"The trainer can't inject a (distributed) sampler into your batch sampler `{name}`: expected a subclass of"
        " PyTorch's `BatchSampler`, or a class with its attributes `sampler`, `batch_size` and `drop_last`. Follow that"
        " API, or set `Trainer(use_distributed_sampler=False)` and divide the samples among the ranks yourself."
    )


def _warn_workers(trainer: Trainer, loader: DataLoader[Any], name: str) -> None:
    context = loader.multiprocessing_context or multiprocessing
    workers, most = loader.num_workers, suggested_max_num_workers(trainer.num_devices)
    if workers > 0 and not loader.persistent_workers and context.get_start_method() == "spawn":
        rank_zero_warn(
            f"Consider setting `persistent_workers=True` in '{name}' to speed up the dataloader worker initialization."
        )
    elif workers < 2 <= most:
        rank_zero_warn(
            f"The '{name}' does not have many workers which may be a bottleneck. Consider increasing the value of the"
            f" `num_workers` argument` to `num_workers={most}` in the `DataLoader` to improve performance.",
            category=PossibleUserWarning,
        )
    if loader.persistent_workers and loader.pin_memory and trainer.reload_dataloaders_every_n_epochs > 0:
        rank_zero_warn(
            f"'{name}' has `pin_memory=True` and `persistent_workers=True`. Reloading such a loader"
            " (`Trainer(reload_dataloaders_every_n_epochs > 0)`) can be unstable for reasons inside PyTorch"
            " (https://github.com/pytorch/pytorch/issues/91252). Set `pin_memory=False`.",
            category=PossibleUserWarning,
        )


def _warn_rare_logging(trainer: Trainer, batches: int | None) -> None:
    interval = trainer.log_every_n_steps
    if batches and trainer.loggers and batches < interval and not trainer.fast_dev_run:
        rank_zero_warn(
            f"The number of training batches ({batches}) is smaller than the logging interval"
            f" Trainer(log_every_n_steps={interval}). Set a lower value for log_every_n_steps if you want to see logs"
            " for the training epoch.",
            category=PossibleUserWarning,
        )
