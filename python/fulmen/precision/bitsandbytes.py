"""Quantised weights by the package bitsandbytes: the name and its arguments, not yet the thing."""

from __future__ import annotations

from typing import Literal

import torch

from fulmen.errors import NotYet
from fulmen.precision.precision import Precision


class BitsandbytesPrecision(Precision):
    """Linear layers with weights of 4 or 8 bits.

    Args:
        mode: the quantisation.
        dtype: type that the layers compute in.
        ignore_modules: names of submodules that are left as they are.

    Raises:
        NotYet: always.
    """

    def __init__(
        self,
        mode: Literal["nf4", "nf4-dq", "fp4", "fp4-dq", "int8", "int8-training"],
        dtype: torch.dtype | None = None,
        ignore_modules: set[str] | None = None,
    ) -> None:
        raise NotYet("BitsandbytesPrecision", "Replace the layers by bitsandbytes' own in configure_model")
