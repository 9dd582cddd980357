"""`LightningOptimizer`: an optimizer whose steps the trainer counts and the precision takes part in."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from fulmen.utilities.exceptions import MisconfigurationException

if TYPE_CHECKING:
    from fulmen.strategies.strategy import Strategy

__all__ = ["LightningOptimizer"]


def _do_nothing() -> None:
    return None


class LightningOptimizer:
    """Wraps a torch optimizer and passes for one: its class is also a subclass of the optimizer's class.

    Args:
        optimizer: the optimizer.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        base = type(optimizer)
        if not isinstance(self, base):
            self.__class__ = type(f"Lightning{base.__name__}", (LightningOptimizer, base), {})
        self._optimizer = optimizer
        self._strategy: Strategy | None = None

    @property
    def optimizer(self) -> Optimizer:
        """torch's optimizer."""
        return self._optimizer

    @classmethod
    def _to_lightning_optimizer(cls, optimizer: Any, strategy: Strategy) -> LightningOptimizer:
        wrapped = optimizer if isinstance(optimizer, LightningOptimizer) else cls(optimizer)
        wrapped._strategy = strategy
        return wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_optimizer"), name)

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """One optimizer step, through the strategy and the precision.

        Args:
            closure: computes the loss anew, with its gradients; called as often as the optimizer likes.
            kwargs: passed to torch's ``step``.

        Returns:
            What torch's ``step`` returned.

        Raises:
            MisconfigurationException: the closure cannot be called.
        """
        if closure is None:
            closure = _do_nothing
        elif not callable(closure):
            raise MisconfigurationException(
                f"optimizer.step(closure): expected a callable, received {closure!r}. Pass a function."
            )
        strategy = self._strategy
        assert strategy is not None
        module = strategy.lightning_module
        trainer = None if module is None else module._trainer
        if trainer is None:
            return strategy.optimizer_step(self._optimizer, closure, **kwargs)
        trainer._manual_step_begin()
        result = strategy.optimizer_step(self._optimizer, closure, **kwargs)
        trainer._manual_step_end()
        trainer._stepped[id(self._optimizer)] = trainer._step_mark()
        return result

    @contextmanager
    def toggle_model(self, sync_grad: bool = True) -> Generator[None]:
        """Only this optimizer's parameters need gradients inside.

        Args:
            sync_grad: whether gradients are reduced over processes in this pass.
        """
        assert self._strategy is not None
        module = self._strategy.lightning_module
        assert module is not None
        with _no_sync(self._strategy, enabled=not sync_grad):
            module.toggle_optimizer(self)
            yield
            module.untoggle_optimizer(self)


@contextmanager
def _no_sync(strategy: Strategy, enabled: bool) -> Generator[None]:
    block = getattr(strategy, "block_backward_sync", None)
    if enabled and block is not None:
        with block():
            yield
    else:
        yield


class NoOptimizer(Optimizer):
    """Stands in where ``configure_optimizers`` returned None: steps are counted, nothing is updated."""

    def __init__(self) -> None:
        super().__init__([torch.zeros(1)], {})

    def add_param_group(self, param_group: dict[Any, Any]) -> None:
        """Takes no parameters."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to save."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to load."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Runs the closure, so that losses are computed and logged."""
        return closure() if closure is not None else None

    def zero_grad(self, set_to_none: bool | None = True) -> None:
        """No gradients to zero."""

    def __repr__(self) -> str:
        return "No Optimizer"
