"""Precision for sharded weights: FSDP converts parameters itself, so it gets a table of types instead of autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn import Module

from fulmen import errors
from fulmen.precision.dtypes import WEIGHT_DTYPES, _DtypeContextManager, convert_floats
from fulmen.precision.scaling import ScalingPrecision
from fulmen.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    from torch.distributed.fsdp import MixedPrecision as TorchMixedPrecision
    from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

_INPUT_DTYPES = {
    "32-true": torch.float32,
    "16-true": torch.float16,
    "bf16-true": torch.bfloat16,
    "16-mixed": torch.float16,
    "bf16-mixed": torch.bfloat16,
}


class FSDPPrecision(ScalingPrecision):
    """Precision of modules whose weights are sharded.

    Args:
        precision: ``"32-true"``, ``"16-true"``, ``"bf16-true"``, ``"16-mixed"`` or ``"bf16-mixed"``.
        scaler: gradient scaler to use instead of the default one of ``"16-mixed"``.

    Raises:
        ValueError: another precision, or a scaler with another one than ``"16-mixed"``.
    """

    def __init__(
        self,
        precision: Literal["32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"],
        scaler: ShardedGradScaler | None = None,
    ) -> None:
        if precision not in _INPUT_DTYPES:
            raise ValueError(
                f"`precision={precision!r}` is not supported in FSDP. `precision` must be one of: {tuple(_INPUT_DTYPES)}."
            )
        if scaler is not None and precision != "16-mixed":
            raise ValueError(
                f"`precision={precision!r}` does not use a scaler, found {scaler}. Leave it out, or use '16-mixed'."
            )
        if scaler is None and precision == "16-mixed":
            from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

            scaler = ShardedGradScaler()
        self.precision: str = precision
        self.scaler = scaler
        self._desired_input_dtype = _INPUT_DTYPES[precision]
        self._weights_dtype = WEIGHT_DTYPES[precision]

    @property
    def mixed_precision_config(self) -> TorchMixedPrecision:
        """Types of parameters during forward and backward, of gradients while reducing, and of buffers."""
        from torch.distributed.fsdp import MixedPrecision

        if self.precision in ("16-true", "bf16-true"):
            rank_zero_warn(
                f"FSDPPrecision(precision={self.precision!r}) enables computation in lower precision: gradients are"
                " reduced and weights are updated in it, too. FSDP gives a more accurate"
                f" result with precision='{self.precision.partition('-')[0]}-mixed'."
            )
        dtype = self._desired_input_dtype
        return MixedPrecision(param_dtype=dtype, reduce_dtype=dtype, buffer_dtype=dtype)

    def convert_module(self, module: Module) -> Module:
        """The module in 16 bit for the ``-true`` precisions; FSDP casts by itself for the mixed ones."""
        return module.to(dtype=self._weights_dtype) if "true" in self.precision else module

    def convert_input(self, data: Any) -> Any:
        """The batch with its floating point tensors in the type that forward computes in."""
        return convert_floats(data, self._desired_input_dtype)

    def convert_output(self, data: Any) -> Any:
        """What forward gave, in torch's default type."""
        return convert_floats(data, torch.get_default_dtype())

    def tensor_init_context(self) -> _DtypeContextManager:
        """Context that makes the type of the weights torch's default."""
        return _DtypeContextManager(self._weights_dtype)

    def module_init_context(self) -> _DtypeContextManager:
        """As `tensor_init_context`."""
        return self.tensor_init_context()

    def forward_context(self) -> AbstractContextManager[Any]:
        """Autocast for the mixed precisions, the default type for the others."""
        if "mixed" in self.precision:
            return torch.autocast("cuda", dtype=self._desired_input_dtype)
        return self.tensor_init_context()

    def clip_grad_by_norm(self, *_: Any, **__: Any) -> None:
        """Refuses: the norm over shards is known to the sharded module only.

        Raises:
            MisconfigurationException: always.
        """
        raise errors.misconfiguration(
            "Trainer(gradient_clip_algorithm)",
            "`gradient_clip_algorithm='value'` with sharded weights, since a rank sees its shard of the gradients only",
            "norm",
            "Override configure_gradient_clipping and call clip_grad_norm_ of the FSDP module there",
        )
