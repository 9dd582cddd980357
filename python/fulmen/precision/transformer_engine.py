"""8 bit computation by NVIDIA's Transformer Engine: the name and its arguments, not yet the thing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from fulmen.errors import NotYet
from fulmen.precision.precision import Precision

if TYPE_CHECKING:
    from transformer_engine.common.recipe import DelayedScaling


class TransformerEnginePrecision(Precision):
    """Linear and layer norm layers that compute in 8 bit on recent GPUs.

    Args:
        weights_dtype: type of the weights.
        recipe: how scales are found, a recipe of the package or its arguments.
        replace_layers: replace linear and layer norm layers by the package's.
        fallback_compute_dtype: type of all other computation.

    Raises:
        NotYet: always.
    """

    precision: str = "transformer-engine"

    def __init__(
        self,
        *,
        weights_dtype: torch.dtype,
        recipe: Mapping[str, Any] | DelayedScaling | None = None,
        replace_layers: bool | None = None,
        fallback_compute_dtype: torch.dtype | None = None,
    ) -> None:
        raise NotYet("TransformerEnginePrecision", "Use precision='bf16-mixed', or the package's layers in your module")
