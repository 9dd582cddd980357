"""Mixed precision: weights in 32 bit, forward in 16 bit where torch's autocast considers it safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from fulmen import errors
from fulmen.precision.scaling import ScalingPrecision

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler


class MixedPrecision(ScalingPrecision):
    """Automatic mixed precision.

    Args:
        precision: ``"16-mixed"`` (float16, with a gradient scaler) or ``"bf16-mixed"`` (bfloat16, without).
        device: device type that autocast works on: ``"cuda"``, ``"cpu"``, ``"mps"``.
        scaler: a gradient scaler to use instead of the default one of ``"16-mixed"``.

    Raises:
        ValueError: another precision.
        MisconfigurationException: a scaler together with ``"bf16-mixed"``.
    """

    def __init__(
        self, precision: Literal["16-mixed", "bf16-mixed"], device: str, scaler: GradScaler | None = None
    ) -> None:
        if precision not in ("16-mixed", "bf16-mixed"):
            raise ValueError(
                f"Passed `{type(self).__name__}(precision={precision!r})`."
                " Precision must be '16-mixed' or 'bf16-mixed'. Pass one of the two."
            )
        if precision == "bf16-mixed" and scaler is not None:
            raise errors.misconfiguration(
                "MixedPrecision(scaler)",
                "None, since `precision='bf16-mixed'` does not use a scaler",
                scaler,
                "Leave the scaler out, or use precision='16-mixed'",
            )
        if precision == "16-mixed" and scaler is None:
            scaler = torch.amp.GradScaler(device=device)
        self.precision: str = precision
        self.device = device
        self.scaler = scaler

    def autocast_context_manager(self) -> torch.autocast:
        """A new autocast context for this device and type.

        Its cache of cast weights is off: it would outlive a ``no_grad`` block inside, and hand out copies without graph.
        """
        dtype = torch.bfloat16 if self.precision == "bf16-mixed" else torch.half
        return torch.autocast(self.device, dtype=dtype, cache_enabled=False)

    def forward_context(self) -> torch.autocast:
        """Autocast around every step method."""
        return self.autocast_context_manager()
