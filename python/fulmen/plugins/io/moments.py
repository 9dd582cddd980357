"""What a trainer's state allows while it is being saved: which tensors may be copied later, and whether anybody interferes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor

from fulmen.plugins.io.async_io import AsyncCheckpointIO
from fulmen.plugins.io.background import Background, Moment
from fulmen.plugins.io.native_io import NativeCheckpointIO
from fulmen.utilities.model_helpers import is_overridden

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

#: hooks between a save and the next optimizer step in which a user's code could change weights unseen (`p.data.clamp_()`)
BETWEEN: Final = (
    "on_train_batch_start", "on_train_batch_end", "on_train_epoch_start", "on_train_epoch_end", "on_train_end",
    "on_validation_start", "on_validation_end", "on_validation_epoch_start", "on_validation_epoch_end",
    "on_validation_batch_start", "on_validation_batch_end", "on_before_zero_grad", "on_before_backward",
    "on_after_backward", "on_before_optimizer_step", "configure_gradient_clipping", "optimizer_step", "backward",
)  # fmt: skip

#: callbacks of fulmen's own that run a user's code or change weights
_INTERFERING: Final = frozenset(
    {"LambdaCallback", "StochasticWeightAveraging", "WeightAveraging", "EMAWeightAveraging"}
)


def native_io(trainer: Trainer) -> NativeCheckpointIO | None:
    """The trainer's checkpoint IO, if it is one that can write in the background."""
    io = getattr(trainer.strategy, "checkpoint_io", None)
    if isinstance(io, AsyncCheckpointIO):
        return io.native
    return io if isinstance(io, NativeCheckpointIO) else None


def background(trainer: Trainer) -> Background | None:
    """What writes the trainer's files beside the training, or None if its checkpoint IO is another one."""
    io = native_io(trainer)
    return None if io is None else io.background


def saving(trainer: Trainer) -> AbstractContextManager[None]:
    """A block whose saves are of one moment, and may go on while the training does."""
    io = native_io(trainer)
    if io is None or io.moment is not None:
        return nullcontext()
    latest = io.background.latest
    if latest is not None and latest.unchanged():
        return io.during(latest)
    return io.during(Moment(list(lasting(trainer)), is_quiet(trainer), _notifier(trainer)))


def afterwards(trainer: Trainer, action: Callable[[], Any], removes: str | None = None) -> None:
    """Runs an action when everything that was saved is on the disk; at once, if it is.

    Args:
        trainer: whose saves.
        action: what to do.
        removes: the file that it deletes.
    """
    files = background(trainer)
    if files is None:
        action()
    else:
        files.then(action, removes)


def lasting(trainer: Trainer) -> Iterator[Tensor]:
    """Parameters and optimizer state: what nobody but an optimizer changes."""
    yield from trainer.lightning_module.parameters()
    for optimizer in trainer.optimizers:
        for state in getattr(optimizer, "state", {}).values():
            if isinstance(state, dict):
                yield from (value for value in state.values() if isinstance(value, Tensor))


def is_quiet(trainer: Trainer) -> bool:
    """Does only fulmen's and torch's own code run between a save and the next optimizer step, except for the steps?"""
    module = trainer.lightning_module
    if not module.automatic_optimization or trainer.state.fn != "fit":
        return False
    if any(is_overridden(name, module) for name in BETWEEN):
        return False
    return not any(_may_interfere(callback) for callback in trainer.callbacks)


def _may_interfere(callback: Any) -> bool:
    from fulmen.callbacks.callback import Callback

    kind = type(callback)
    if kind.__module__.startswith("fulmen."):
        return any(base.__name__ in _INTERFERING for base in kind.__mro__)
    return any(getattr(kind, name, None) is not getattr(Callback, name, None) for name in BETWEEN)


def _notifier(trainer: Trainer) -> Callable[[], None]:
    schedule = trainer._schedule

    def notify() -> None:
        schedule.interrupt = True  # the loop looks after finished saves at its next batch

    return notify
