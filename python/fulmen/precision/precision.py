"""Base of the precisions: 32 bit throughout, and the order of things around backward and the optimizer's step.

A precision decides in which floating point types weights live and forward runs, and what happens between the loss and
the update. With this base class that is::

    pre_backward    on_before_backward hooks
    backward        the module's backward
    post_backward   on_after_backward hooks
    optimizer_step  optimizer.step(closure), where closure runs the step, then
                        on_before_optimizer_step hooks, and
                        the module's configure_gradient_clipping (automatic optimization only)

The training loop takes a shorter way to the same calls where neither precision nor strategy overrides one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.optim import Optimizer

from fulmen.utilities.enums import GradClipAlgorithmType

if TYPE_CHECKING:
    import fulmen as L
    from fulmen.utilities.types import Optimizable, Steppable


class Precision:
    """Everything in 32 bit floating point numbers, torch's default.

    Attributes:
        precision: name of the precision, as `Trainer(precision=...)` takes it.
    """

    precision: str = "32-true"

    # ---- what is converted -------------------------------------------------------------------------------------------
    def connect(
        self, model: Module, optimizers: list[Optimizer], lr_schedulers: list[Any]
    ) -> tuple[Module, list[Optimizer], list[Any]]:
        """Replace module, optimizers or schedulers before the first step; this class returns them as they are."""
        return model, optimizers, lr_schedulers

    def convert_module(self, module: Module) -> Module:
        """The module with its weights in this precision's type."""
        return module

    def convert_input(self, data: Any) -> Any:
        """A batch with its floating point tensors in the type that forward expects."""
        return data

    def convert_output(self, data: Any) -> Any:
        """What forward gave, in the type that the caller expects."""
        return data

    # ---- contexts ----------------------------------------------------------------------------------------------------
    def tensor_init_context(self) -> AbstractContextManager[Any]:
        """Context in which tensors are created in this precision's type."""
        return nullcontext()

    def module_init_context(self) -> AbstractContextManager[Any]:
        """Context in which modules are created (`configure_model`)."""
        return nullcontext()

    def forward_context(self) -> AbstractContextManager[Any]:
        """Context of every step method."""
        return nullcontext()

    def train_step_context(self) -> AbstractContextManager[Any]:
        """Context of ``training_step``: `forward_context`, unless overridden."""
        return self.forward_context()

    def val_step_context(self) -> AbstractContextManager[Any]:
        """Context of ``validation_step``: `forward_context`, unless overridden."""
        return self.forward_context()

    def test_step_context(self) -> AbstractContextManager[Any]:
        """Context of ``test_step``: `forward_context`, unless overridden."""
        return self.forward_context()

    def predict_step_context(self) -> AbstractContextManager[Any]:
        """Context of ``predict_step``: `forward_context`, unless overridden."""
        return self.forward_context()

    # ---- backward ----------------------------------------------------------------------------------------------------
    def pre_backward(self, tensor: Tensor, module: L.LightningModule) -> Tensor:
        """Calls the ``on_before_backward`` hooks.

        Args:
            tensor: the loss, divided by the size of the accumulation window.
            module: the module, attached to a trainer.

        Returns:
            the tensor to call backward on.
        """
        module.trainer._call_hooks("on_before_backward", tensor)
        return tensor

    def backward(
        self, tensor: Tensor, model: L.LightningModule, optimizer: Steppable | None, *args: Any, **kwargs: Any
    ) -> None:
        """Calls the module's ``backward``.

        Args:
            tensor: what `pre_backward` returned.
            model: the module.
            optimizer: the optimizer that will step, if there is just one.
            *args: passed on to the module's ``backward``.
            **kwargs: passed on likewise.
        """
        model.backward(tensor, *args, **kwargs)

    def post_backward(self, tensor: Tensor, module: L.LightningModule) -> Tensor:
        """Calls the ``on_after_backward`` hooks, and returns ``tensor``."""
        module.trainer._call_hooks("on_after_backward")
        return tensor

    # ---- the optimizer's step ----------------------------------------------------------------------------------------
    def optimizer_step(
        self, optimizer: Steppable, model: L.LightningModule, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        """Lets the optimizer step, with the hooks between gradients and update inside its closure.

        Args:
            optimizer: torch's optimizer.
            model: the module, or the strategy's wrapper around it.
            closure: runs forward and backward.
            **kwargs: passed on to ``optimizer.step``.

        Returns:
            what ``optimizer.step`` returned.
        """
        return optimizer.step(closure=partial(self._wrap_closure, model, optimizer, closure), **kwargs)

    def _wrap_closure(self, model: L.LightningModule, optimizer: Steppable, closure: Callable[[], Any]) -> Any:
        result = closure()
        self._after_closure(model, optimizer)
        return result

    def _after_closure(self, model: L.LightningModule, optimizer: Steppable) -> None:
        """Gradients are complete, the weights are still the old ones."""
        trainer = model.trainer
        trainer._call_hooks("on_before_optimizer_step", optimizer)
        self._clip_gradients(
            model,
            optimizer,
            trainer.gradient_clip_val,
            gradient_clip_algorithm=trainer.gradient_clip_algorithm,
        )

    def _clip_gradients(
        self,
        model: L.LightningModule | Module,
        optimizer: Steppable,
        clip_val: int | float | None = None,
        gradient_clip_algorithm: GradClipAlgorithmType | None = None,
    ) -> None:
        """The module's ``configure_gradient_clipping``; in manual optimization clipping is the user's business."""
        # `is True` also tells a LightningModule from a wrapper around one, which has no such attribute
        if getattr(model, "automatic_optimization", None) is not True:
            return
        module: Any = model
        trainer = module.trainer
        hook, trainer._hook = trainer._hook, "configure_gradient_clipping"
        module.configure_gradient_clipping(
            optimizer, gradient_clip_val=clip_val, gradient_clip_algorithm=gradient_clip_algorithm
        )
        trainer._hook = hook

    # ---- clipping ----------------------------------------------------------------------------------------------------
    def clip_gradients(
        self,
        optimizer: Optimizer,
        clip_val: int | float = 0.0,
        gradient_clip_algorithm: GradClipAlgorithmType = GradClipAlgorithmType.NORM,
    ) -> None:
        """Clips the gradients of an optimizer's parameters, in place.

        Args:
            optimizer: whose parameters.
            clip_val: largest norm of all gradients together, or largest absolute value of one element; 0 and below
                do nothing.
            gradient_clip_algorithm: ``"norm"`` or ``"value"``.
        """
        if clip_val <= 0:
            return
        if gradient_clip_algorithm == GradClipAlgorithmType.VALUE:
            self.clip_grad_by_value(optimizer, clip_val)
        elif gradient_clip_algorithm == GradClipAlgorithmType.NORM:
            self.clip_grad_by_norm(optimizer, clip_val)

    def clip_grad_by_value(self, optimizer: Optimizer, clip_val: int | float) -> None:
        """Clamps every element of the gradients to [-clip_val, clip_val]."""
        torch.nn.utils.clip_grad_value_(list(self.main_params(optimizer)), clip_value=clip_val)

    def clip_grad_by_norm(self, optimizer: Optimizer, clip_val: int | float) -> None:
        """Scales all gradients of the optimizer by one factor, so that their 2-norm is at most ``clip_val``."""
        torch.nn.utils.clip_grad_norm_(list(self.main_params(optimizer)), clip_val)

    def main_params(self, optimizer: Optimizer) -> Iterator[Parameter]:
        """The parameters that the optimizer updates, group after group."""
        for group in optimizer.param_groups:
            yield from group["params"]

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Takes a loss scale out of the gradients; there is none here."""

    # ---- state -------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep; empty means no entry in the file."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called with the checkpoint's dictionary before it is written."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called with the checkpoint's dictionary after it was read."""

    def teardown(self) -> None:
        """Called at the end of a run."""


def refuse_lbfgs(optimizer: Steppable | Optimizable) -> None:
    """Raises for the one optimizer that a gradient scaler cannot serve: LBFGS runs its closure several times a step.

    Raises:
        MisconfigurationException: ``optimizer`` is `torch.optim.LBFGS`.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        from fulmen import errors

        raise errors.misconfiguration(
            "configure_optimizers",
            "an optimizer that evaluates the loss once per step, since precision '16-mixed' scales it",
            optimizer,
            "AMP and the LBFGS optimizer are not compatible: use precision='bf16-mixed' or another optimizer",
        )


def handles_unscaling(optimizer: Any) -> bool:
    """Does the optimizer take the loss scale out of the gradients by itself (fused ones do), so that nobody else may?"""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))
