"""The search for the largest batch size that fits into memory: a few steps with each size, within one trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fulmen import errors
from fulmen.trainer.evaluate import loop_of
from fulmen.trainer.run import STAGE
from fulmen.trainer.states import TrainerFn
from fulmen.tuner.attributes import find_attribute
from fulmen.tuner.trial import Trial
from fulmen.utilities.data import has_iterable_dataset
from fulmen.utilities.memory import garbage_collection_cuda, is_oom_error
from fulmen.utilities.parsing import lightning_getattr, lightning_setattr
from fulmen.utilities.rank_zero import rank_zero_info, rank_zero_warn

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer

MODES = ("power", "binsearch")


@dataclass(frozen=True)
class Search:
    """What to try.

    Args:
        mode: "power" doubles the size until it does not fit; "binsearch" then halves the interval between the last size that
            fitted and the first that did not.
        steps_per_trial: steps with each size.
        init_val: first size.
        max_trials: most sizes to try while doubling.
        margin: share of what "binsearch" has found to leave unused.
        max_val: largest size to try.

    Raises:
        ValueError: a value that no search can have.
    """

    mode: str = "power"
    steps_per_trial: int = 3
    init_val: int = 2
    max_trials: int = 25
    margin: float = 0.05
    max_val: int = 8192

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise _wrong(
                "mode", f"a known one: `mode` should be either of {MODES}", self.mode, "Pass one of these names"
            )
        for name in ("steps_per_trial", "init_val"):
            if getattr(self, name) < 1:
                raise _wrong(name, "a positive number", getattr(self, name), "Pass at least 1")
        if self.max_trials < 0:
            raise _wrong("max_trials", "the most sizes to try", self.max_trials, "Pass a positive number")
        if not 0 <= self.margin < 1:
            raise _wrong(
                "margin",
                "a share: `margin` should be between 0 and 1",
                self.margin,
                "Pass 0.05 to leave a twentieth unused",
            )
        if self.init_val > self.max_val:
            raise _wrong("max_val", f"at least `init_val`, {self.init_val}", self.max_val, "Raise it, or start lower")


def _wrong(name: str, expected: str, received: Any, cure: str) -> ValueError:
    return errors.value_error(f"batch size finder ({name})", expected, received, cure)


def scale(trainer: Trainer, module: LightningModule, search: Search, name: str = "batch_size") -> int | None:
    """Finds the largest batch size that fits, and sets it.

    Args:
        trainer: within an entry point, before its first batch; its loaders come from hooks that read the size.
        module: its module.
        search: what to try.
        name: attribute of the module, the data module or their hyperparameters that holds the size.

    Returns:
        The size, which was tried; None with ``fast_dev_run``.

    Raises:
        MisconfigurationException: there is no such attribute, or loaders that the size cannot change.
        RuntimeError: the memory runs out with a batch of one sample too. The size is as it was then.
    """
    if trainer.fast_dev_run:
        rank_zero_warn("Skipping batch size scaler since `fast_dev_run` is enabled.")
        return None
    fn = trainer.state.fn
    assert fn is not None, "called within an entry point"
    _check(trainer, module, name)
    before = lightning_getattr(module, name)
    limits: dict[str, int | float] = {
        f"limit_{kind}_batches": search.steps_per_trial
        for kind in ("val", "test", "predict")
        if getattr(trainer, f"limit_{kind}_batches")
    }
    if fn is TrainerFn.FITTING:
        limits["limit_train_batches"] = 1.0
    attempts = _Attempts(trainer, module, name, search.steps_per_trial)
    try:
        with Trial(trainer, limits=limits) as trial:
            attempts.trial = trial
            size = _double(attempts, search) if search.mode == "power" else _bisect(attempts, search)
    except BaseException:
        lightning_setattr(module, name, before)
        raise
    lightning_setattr(module, name, size)
    rank_zero_info(f"Finished batch size finder, will continue with full run using batch size {size}")
    _load_anew(trainer)
    return size


def _check(trainer: Trainer, module: LightningModule, name: str) -> None:
    refuse_processes(trainer)
    kind, fn = _kind(trainer), trainer.state.fn
    if kind != "train":
        _refuse_several(trainer, kind)
    if find_attribute(module, name) is None:
        raise errors.misconfiguration(
            "scale_batch_size(batch_arg_name)",
            "an attribute of the module, the data module or their `hparams`",
            errors.Words(f"{name!r}: Field {name} not found in `model`, `datamodule`, nor their `hparams` attributes"),
            f"Define `self.{name}` and make the loaders with it, or pass the name that you use",
        )
    if trainer._sources.given(kind):
        entry = fn.value if fn is not None else "fit"
        raise errors.misconfiguration(
            f"trainer.{entry}(dataloaders)",
            f"`{kind}_dataloader()` of the module or of a data module, which makes a loader of each size",
            errors.Words(
                f"loaders: The Batch size finder cannot be used with dataloaders passed directly to `.{entry}()`"
            ),
            f"Define `{kind}_dataloader()` there with `batch_size=self.{name}`, or do without the finder",
        )


def _refuse_several(trainer: Trainer, kind: str) -> None:
    loop = _loop(trainer)
    if loop._loaders is None:
        loop.setup_data()
    if loop.num_dataloaders > 1:
        raise errors.misconfiguration(
            f"{kind}_dataloader",
            "one loader",
            errors.Words(
                f"{loop.num_dataloaders} of them: The Batch size finder cannot be used with multiple {kind} dataloaders"
            ),
            "Search with one of them, and set the size that it finds",
        )


def refuse_processes(trainer: Trainer) -> None:
    """Raises MisconfigurationException where there are several: each would find a size of its own."""
    processes = max(trainer.world_size, trainer.num_devices * trainer.num_nodes)
    if processes > 1:
        raise errors.misconfiguration(
            "Trainer(devices)",
            "one process: Batch size finder is not supported with distributed strategies.",
            errors.Words(f"{processes} processes"),
            "Search with `devices=1`, and set the size that it finds",
        )


def _kind(trainer: Trainer) -> str:
    fn = trainer.state.fn
    return "train" if fn in (None, TrainerFn.FITTING) else str(STAGE[fn].dataloader_prefix)


def _loop(trainer: Trainer) -> Any:
    fn = trainer.state.fn
    return trainer.fit_loop if fn in (None, TrainerFn.FITTING) else loop_of(trainer, STAGE[fn])


def _load_anew(trainer: Trainer) -> None:
    """The run has loaders of the new size from here on."""
    loop = _loop(trainer)
    loops = (loop, loop.epoch_loop.val_loop) if loop is trainer.fit_loop else (loop,)
    for each in loops:
        if each._loaders is not None:
            each._loaders.close()
    loop._forget()
    for each in loops:
        if each is loop or trainer.enable_validation:
            each.setup_data()


class _Attempts:
    """Tries one size after the other."""

    trial: Trial

    def __init__(self, trainer: Trainer, module: LightningModule, name: str, steps: int) -> None:
        self._trainer = trainer
        self._module = module
        self._name = name
        self._steps = steps
        self._warned = False

    def fits(self, size: int) -> bool:
        """Do a few steps with this size go well?

        Raises:
            Exception: what goes wrong, other than that the memory runs out; that too with a size of 1.
        """
        lightning_setattr(self._module, self._name, size)
        if self._trainer.strategy.root_device.type == "cuda":
            # blocks of other sizes are of no use to this one
            garbage_collection_cuda()
        try:
            self.trial.run(self._steps)
        except RuntimeError as error:
            if not is_oom_error(error) or size <= 1:
                raise
            fitted = False
        else:
            fitted = True
        self._look_at_loaders(size)
        if not fitted:
            # the error has held frames with their tensors until here
            garbage_collection_cuda()
        return fitted

    @property
    def samples(self) -> int | None:
        """How many samples there are, in the longest dataset; None if nobody knows."""
        lengths = [
            len(loader.dataset)
            for loader in self._loaders()
            if hasattr(getattr(loader, "dataset", None), "__len__") and not has_iterable_dataset(loader)
        ]
        return max(lengths, default=None)

    def _loaders(self) -> list[Any]:
        combined = _loop(self._trainer)._combined_loader
        return [] if combined is None else combined.flattened

    def _look_at_loaders(self, size: int) -> None:
        loaders, kind = self._loaders(), _kind(self._trainer)
        others = {str(getattr(loader, "batch_size", None)) for loader in loaders} - {"None", str(size)}
        if others and not self._warned:
            self._warned = True
            rank_zero_warn(
                f"`{self._name}` is {size} now, but `{kind}_dataloader` makes batches of {', '.join(sorted(others))}: what the batch size "
                f"finder finds says nothing. Pass `batch_size=self.{self._name}` to the loader."
            )


def _grow(attempts: _Attempts, search: Search, trials: int) -> tuple[int, int | None]:
    """Doubles the size while it fits, and halves it as long as none has fitted.

    Returns:
        The largest size that fitted (the first, if none was tried), and the smallest that did not.
    """
    size, good, bad = search.init_val, None, None
    for number in range(1, trials + 1):
        if attempts.fits(size):
            good = size
            if bad is not None or number == trials or _at_the_end(attempts, search, size):
                break
            size = min(2 * size, search.max_val)
            rank_zero_info(f"Batch size {good} succeeded, trying batch size {size}")
        else:
            bad = size
            size //= 2
            rank_zero_info(f"Batch size {bad} failed, trying batch size {size}")
            if good is not None:
                break
    if good is None:
        # none of the tries has fitted, or there were none
        good = size if bad is None else _descend(attempts, size)
    return good, bad


def _descend(attempts: _Attempts, size: int) -> int:
    while not attempts.fits(size):
        rank_zero_info(f"Batch size {size} failed, trying batch size {size // 2}")
        size //= 2
    return size


def _at_the_end(attempts: _Attempts, search: Search, size: int) -> bool:
    """Is there no larger size worth trying?"""
    samples = attempts.samples
    if samples is not None and size >= samples:
        rank_zero_info(f"The batch size {size} is greater or equal than the length of your dataset: {samples}.")
        return True
    if size >= search.max_val:
        rank_zero_info(f"Reached the maximum batch size limit of {search.max_val}. Stopping search.")
        return True
    return False


def _double(attempts: _Attempts, search: Search) -> int:
    return _grow(attempts, search, search.max_trials)[0]


def _bisect(attempts: _Attempts, search: Search) -> int:
    low, high = _grow(attempts, search, max(1, search.max_trials))
    while high is not None and high - low > 1:
        middle = (low + high) // 2
        if attempts.fits(middle):
            low = middle
            words = "succeeded"
        else:
            high = middle
            words = "failed"
        rank_zero_info(f"Batch size {middle} {words}, trying batch size {(low + high) // 2}")
    size = max(1, int(low * (1 - search.margin)))
    if size != low:
        rank_zero_info(f"Applying margin of {search.margin:.1%}, reducing batch size from {low} to {size}")
    return size
