"""What a module does with its optimizers: the overridable pieces of a step, and the tools of manual optimization."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from fulmen.core.optimizer import LightningOptimizer
from fulmen.utilities.exceptions import MisconfigurationException

if TYPE_CHECKING:
    from fulmen.utilities.types import LRSchedulerPLType


class OptimizationMixin:
    """Part of `LightningModule`."""

    def optimizers(self: Any, use_pl_optimizer: bool = True) -> Any:
        """The optimizers: one, or a list if there are several.

        Args:
            use_pl_optimizer: wrapped, so that steps are counted and the precision takes part; False: torch's own.
        """
        strategy = self.trainer.strategy
        found = strategy._lightning_optimizers if use_pl_optimizer else strategy.optimizers
        return found[0] if len(found) == 1 else list(found)

    def lr_schedulers(self: Any) -> list[LRSchedulerPLType] | LRSchedulerPLType | None:
        """The learning-rate schedulers: None, one, or a list."""
        found = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        if not found:
            return None
        return found[0] if len(found) == 1 else found

    def manual_backward(self: Any, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Backward in manual optimization: calls the hooks, and lets precision and strategy take part.

        Raises:
            MisconfigurationException: optimization is automatic.
        """
        self._require_manual("manual_backward")
        self.trainer._backwards += 1
        self.trainer.strategy.backward(loss, None, *args, **kwargs)

    def _require_manual(self: Any, name: str) -> None:
        if self.automatic_optimization:
            raise MisconfigurationException(
                f"to use `{name}`, please disable automatic optimization: set `self.automatic_optimization = False` in "
                f"{type(self).__name__}.__init__"
            )

    def backward(self: Any, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Computes the gradients of ``loss``; override for another way."""
        loss.backward(*args, **kwargs)

    def toggle_optimizer(self: Any, optimizer: Optimizer | LightningOptimizer) -> None:
        """Only this optimizer's parameters need gradients, until :meth:`untoggle_optimizer`."""
        others = self._parameters_outside(optimizer)
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for parameter in others:
            if id(parameter) not in own and parameter not in self._param_requires_grad_state:
                self._param_requires_grad_state[parameter] = parameter.requires_grad
                parameter.requires_grad = False
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in self._param_requires_grad_state:
                    parameter.requires_grad = self._param_requires_grad_state[parameter]

    def untoggle_optimizer(self: Any, optimizer: Optimizer | LightningOptimizer) -> None:
        """Undoes :meth:`toggle_optimizer`."""
        for parameter in self._parameters_outside(optimizer):
            if parameter in self._param_requires_grad_state:
                parameter.requires_grad = self._param_requires_grad_state[parameter]
        self._param_requires_grad_state: dict[Any, bool] = {}

    def _parameters_outside(self: Any, optimizer: Any) -> list[Tensor]:
        chosen = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return [
            p for o in self.trainer.optimizers if o is not chosen for group in o.param_groups for p in group["params"]
        ]

    @contextmanager
    def toggled_optimizer(self: Any, optimizer: Optimizer | LightningOptimizer) -> Generator[None]:
        """:meth:`toggle_optimizer` for the length of a ``with`` block."""
        self.toggle_optimizer(optimizer)
        try:
            yield
        finally:
            self.untoggle_optimizer(optimizer)

    def clip_gradients(
        self: Any,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Limits the gradients of an optimizer's parameters.

        Args:
            optimizer: whose.
            gradient_clip_val: the limit; None: the trainer's; 0: none.
            gradient_clip_algorithm: "norm" or "value"; None: the trainer's.

        Raises:
            MisconfigurationException: other values than the trainer's were passed in automatic optimization.
        """
        from fulmen.utilities.enums import GradClipAlgorithmType

        trainer = self.trainer
        for name, value in (
            ("gradient_clip_val", gradient_clip_val),
            ("gradient_clip_algorithm", gradient_clip_algorithm),
        ):
            theirs = getattr(trainer, name)
            if value is not None and theirs is not None and value != theirs:
                raise MisconfigurationException(
                    f"You have set `Trainer({name}={theirs!r})` and have passed `clip_gradients({name}={value!r})`. "
                    "Please use only one of them."
                )
        value = gradient_clip_val if gradient_clip_val is not None else (trainer.gradient_clip_val or 0.0)
        algorithm = gradient_clip_algorithm or trainer.gradient_clip_algorithm or "norm"
        if algorithm not in ("norm", "value"):
            raise MisconfigurationException(f"`gradient_clip_algorithm` must be 'norm' or 'value', got {algorithm!r}.")
        trainer.precision_plugin.clip_gradients(optimizer, value, GradClipAlgorithmType(algorithm))

    def configure_gradient_clipping(
        self: Any,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips before each optimizer step; override for another way, and call :meth:`clip_gradients` there."""
        self.clip_gradients(
            optimizer, gradient_clip_val=gradient_clip_val, gradient_clip_algorithm=gradient_clip_algorithm
        )

    def lr_scheduler_step(self: Any, scheduler: Any, metric: Any | None) -> None:
        """Steps a scheduler.

        Args:
            scheduler: the scheduler.
            metric: the monitored value of a plateau scheduler, else None.
        """
        if metric is None:
            scheduler.step()
        else:
            scheduler.step(metric)

    def optimizer_step(
        self: Any,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """One optimizer step; override to decide whether and how, but run the closure: forward and backward are in it."""
        optimizer.step(closure=optimizer_closure)

    def optimizer_zero_grad(self: Any, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Zeroes the gradients before a window's first backward."""
        optimizer.zero_grad()
