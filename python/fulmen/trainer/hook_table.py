"""Which hooks are really overridden, found once before a loop, and the one place that calls them.

Within one moment the order is always: callbacks in the trainer's order, the module, the strategy. A hook that nobody
overrides is not in the table, so a loop that holds an empty tuple pays nothing for it; nor is one of a callback that says
that it has nothing to do there in this run (``Callback._idle``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fulmen.callbacks.callback import Callback
from fulmen.callbacks.checkpoint import Checkpoint
from fulmen.callbacks.early_stopping import EarlyStopping
from fulmen.core.hooks import ModelHooks
from fulmen.core.module import LightningModule
from fulmen.strategies.strategy import Strategy
from fulmen.trainer.profiling import module_owner, profiled
from fulmen.trainer.timeline import HOOKS

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

Call = Callable[..., Any]


class _TimedCall(partial[Any]):
    """A callback's hook with trainer and module filled in, and the part of the timeline that it belongs to."""

    part: int

    def __new__(cls, call: Call, /, *args: Any, part: int) -> _TimedCall:
        self = super().__new__(cls, call, *args)
        self.part = part
        return self


def overrides(instance: object, name: str, base: type) -> bool:
    """Does ``instance`` bring its own ``name``, by its class or as an attribute of its own?"""
    if name in getattr(instance, "__dict__", ()):
        # setting a hook to None switches it off
        return instance.__dict__[name] is not None
    own = getattr(type(instance), name, None)
    # something that only quacks like a `base` (a mock, a proxy) is taken at its word
    return own is not getattr(base, name, None) if own is not None else hasattr(instance, name)


def module_overrides(module: LightningModule, name: str) -> bool:
    """Does the user's module override this hook?"""
    return overrides(module, name, LightningModule if hasattr(LightningModule, name) else ModelHooks)


def _callback_call(trainer: Trainer, callback: Callback, name: str) -> Call:
    owner = f"[Callback]{getattr(callback, 'state_key', type(callback).__name__)}"
    call = profiled(trainer, owner, name, getattr(callback, name))
    return _TimedCall(call, trainer, trainer.lightning_module, part=trainer.timeline.part_of(callback))


def callback_calls(trainer: Trainer, name: str, callbacks: Sequence[Callback] | None = None) -> tuple[Call, ...]:
    """The callbacks' own versions of hook ``name``, with trainer and module filled in."""
    chosen = trainer.callbacks if callbacks is None else callbacks
    return tuple(
        _callback_call(trainer, c, name)
        for c in chosen
        if overrides(c, name, Callback) and not (isinstance(c, Callback) and c._idle(name, trainer))
    )


def module_call(trainer: Trainer, name: str) -> tuple[Call, ...]:
    """The module's own version of hook ``name``, or nothing."""
    module = trainer.lightning_module
    if module is None or not module_overrides(module, name):
        return ()
    return (profiled(trainer, module_owner(module), name, getattr(module, name)),)


def strategy_call(trainer: Trainer, name: str) -> tuple[Call, ...]:
    """The strategy's own version of hook ``name``, or nothing."""
    strategy = trainer.strategy
    if not overrides(strategy, name, Strategy):
        return ()
    return (profiled(trainer, f"[Strategy]{type(strategy).__name__}", name, getattr(strategy, name)),)


def calls(trainer: Trainer, name: str, *, strategy: bool = False) -> tuple[Call, ...]:
    """Everybody's versions of hook ``name``, in calling order."""
    found = callback_calls(trainer, name) + module_call(trainer, name)
    return found + strategy_call(trainer, name) if strategy else found


def fire(trainer: Trainer, name: str, found: tuple[Call, ...], *args: Any, **kwargs: Any) -> None:
    """Calls what was found for hook ``name``; logging inside it goes by that name."""
    before = trainer._hook
    trainer._hook = name
    mark = trainer.timeline.mark
    mark(trainer.timeline.here)
    for call in found:
        call(*args, **kwargs)
        mark(getattr(call, "part", HOOKS))
    trainer._hook = before


def call_hooks(trainer: Trainer, name: str, *args: Any, strategy: bool = False) -> None:
    """Finds and calls a hook that is too rare to be looked up beforehand."""
    fire(trainer, name, calls(trainer, name, strategy=strategy), *args)


def call_module(trainer: Trainer, name: str, *args: Any, **kwargs: Any) -> Any:
    """Calls the module's hook ``name``, overridden or not."""
    before = trainer._hook
    trainer._hook = name
    try:
        module = trainer.lightning_module
        return profiled(trainer, module_owner(module), name, getattr(module, name))(*args, **kwargs)
    finally:
        trainer._hook = before


def call_train_epoch_end(trainer: Trainer) -> None:
    """``on_train_epoch_end``: callbacks that watch the epoch's values (early stopping, checkpoints) come after the
    module, so that what it logs there counts."""
    watchers = [c for c in trainer.callbacks if isinstance(c, (EarlyStopping, Checkpoint))]
    others = [c for c in trainer.callbacks if not isinstance(c, (EarlyStopping, Checkpoint))]
    name = "on_train_epoch_end"
    fire(trainer, name, callback_calls(trainer, name, others) + module_call(trainer, name))
    trainer._ledger.end_training_epoch()
    fire(trainer, name, callback_calls(trainer, name, watchers))
