"""How the trainer's profiler comes to know the parts of a run.

Calls are wrapped where they are looked up, before a loop: a run without a profiler has the plain calls, and pays nothing.
Names of actions are Lightning's: ``[Callback]key.hook``, ``[LightningModule]Net.hook``, ``[Strategy]Class.method``,
``run_training_epoch``, ``run_training_batch``, ``[_TrainingEpochLoop].train_dataloader_next``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from fulmen.profilers.base import PassThroughProfiler

if TYPE_CHECKING:
    from fulmen.strategies.strategy import Strategy
    from fulmen.trainer.trainer import Trainer

F = TypeVar("F", bound=Callable[..., Any])

STRATEGY_METHODS = (
    *("training_step", "validation_step", "test_step", "predict_step"),
    *("backward", "optimizer_step", "batch_to_device"),
)


def profiles(trainer: Trainer) -> bool:
    """Does anybody measure?"""
    return type(trainer.profiler) is not PassThroughProfiler


def profiled(trainer: Trainer, owner: str, name: str, call: F) -> F:
    """``call``, measured by the trainer's profiler if it has one, else the very same object.

    Args:
        trainer: whose profiler.
        owner: the action's first part: ``"[LightningModule]Net"``.
        name: its last part, the hook's name.
        call: what to measure.
    """
    return timed(trainer, f"{owner}.{name}", call) if profiles(trainer) else call


def module_owner(module: object) -> str:
    """What a module's actions are filed under."""
    return f"[LightningModule]{type(module).__name__}"


def timed(trainer: Trainer, action: str, call: F) -> F:
    """``call``, measured under the name ``action`` if anybody measures."""
    if not profiles(trainer):
        return call
    profiler = trainer.profiler

    @wraps(call, assigned=())
    def measured(*args: Any, **kwargs: Any) -> Any:
        with profiler.profile(action):
            return call(*args, **kwargs)

    return measured  # type: ignore[return-value]  # the same signature


class MeasuredFeed:
    """A feed whose waits for the next batch are measured.

    Args:
        trainer: has the profiler.
        feed: gives the batches.
        action: the waits' name.
    """

    def __init__(self, trainer: Trainer, feed: Any, action: str) -> None:
        self._feed = feed
        self._next = timed(trainer, action, iter(feed).__next__)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._next()

    def batches(self) -> Iterator[Any]:
        """The batches alone."""
        return (item[0] for item in self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)


def begin(trainer: Trainer) -> None:
    """A run begins."""
    if profiles(trainer):
        assert trainer.state.fn is not None
        trainer.profiler.setup(stage=trainer.state.fn.value, local_rank=trainer.local_rank, log_dir=trainer.log_dir)
        _measure(trainer, trainer.strategy)


def end(trainer: Trainer, report: bool) -> None:
    """A run ends; one that went well is reported on."""
    if not profiles(trainer):
        return
    for name in STRATEGY_METHODS:
        vars(trainer.strategy).pop(name, None)
    if report:
        trainer.profiler.describe()
    else:
        trainer.profiler.teardown(stage=None if trainer.state.fn is None else trainer.state.fn.value)


def _measure(trainer: Trainer, strategy: Strategy) -> None:
    # a strategy with methods of its own also makes the steps call them one by one, by closure
    for name in STRATEGY_METHODS:
        setattr(
            strategy, name, profiled(trainer, f"[Strategy]{type(strategy).__name__}", name, getattr(strategy, name))
        )
