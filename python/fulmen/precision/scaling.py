"""The optimizer's step with a gradient scaler, the same for one device and for sharded weights.

Losses in 16 bit are multiplied by a scale before backward, so that small gradients do not vanish. Before anybody looks
at the gradients they are divided by it again; if an element overflowed, the step is left out and the scale is lowered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from fulmen.precision.precision import Precision, handles_unscaling, refuse_lbfgs
from fulmen.utilities.enums import GradClipAlgorithmType

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

    import fulmen as L
    from fulmen.utilities.types import Optimizable


class ScalingPrecision(Precision):
    """A precision that may have a gradient scaler.

    Attributes:
        scaler: the scaler, or None: then everything is as in `Precision`.
    """

    scaler: GradScaler | None = None

    def pre_backward(self, tensor: Tensor, module: L.LightningModule) -> Tensor:
        """The hooks ``on_before_backward``, which see the scaled loss."""
        if self.scaler is not None:
            tensor = self.scaler.scale(tensor)
        return super().pre_backward(tensor, module)

    def optimizer_step(  # type: ignore[override]  # arguments by name, as they are passed
        self, optimizer: Optimizable, model: L.LightningModule, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        """Runs the closure, takes the scale out, calls the hooks, clips, and lets the scaler step (or skip) and adapt.

        Args:
            optimizer: torch's optimizer.
            model: the module.
            closure: runs forward and backward.
            **kwargs: passed on to ``optimizer.step``.

        Returns:
            what ``optimizer.step`` returned; None for a skipped step.

        Raises:
            MisconfigurationException: the optimizer is LBFGS and there is a scaler.
        """
        scaler = self.scaler
        if scaler is None:
            return super().optimizer_step(optimizer, model, closure, **kwargs)
        refuse_lbfgs(optimizer)
        result = closure()
        # training_step returned None: nothing was scaled. In manual optimization a closure's result says nothing.
        skipped = result is None and bool(model.automatic_optimization)
        if not skipped and not handles_unscaling(optimizer):
            scaler.unscale_(optimizer)  # type: ignore[arg-type]  # a wrapped optimizer has what is asked of it
        self._after_closure(model, optimizer)
        if skipped:
            return result
        output = scaler.step(optimizer, **kwargs)  # type: ignore[arg-type]  # a wrapped optimizer has what is asked of it
        scaler.update()
        return output

    def clip_gradients(
        self,
        optimizer: Optimizer,
        clip_val: int | float = 0.0,
        gradient_clip_algorithm: GradClipAlgorithmType = GradClipAlgorithmType.NORM,
    ) -> None:
        """As in `Precision`.

        Raises:
            RuntimeError: the optimizer unscales gradients inside its own step, so they cannot be clipped before.
        """
        if clip_val > 0 and handles_unscaling(optimizer):
            from fulmen import errors

            raise errors.runtime_error(
                f"The current optimizer, {type(optimizer).__qualname__}, does not allow for gradient clipping because it"
                " performs unscaling of gradients internally. HINT: Are you using a 'fused' optimizer?",
                "Create the optimizer with fused=False, or train without gradient_clip_val",
            )
        super().clip_gradients(optimizer, clip_val, gradient_clip_algorithm)

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Takes the loss scale out of the gradients, unless the optimizer does that by itself."""
        if self.scaler is not None and not handles_unscaling(optimizer):
            self.scaler.unscale_(optimizer)

    def state_dict(self) -> dict[str, Any]:
        """The scaler's state, or nothing."""
        return self.scaler.state_dict() if self.scaler is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Gives the scaler its state back."""
        if self.scaler is not None:
            self.scaler.load_state_dict(state_dict)
