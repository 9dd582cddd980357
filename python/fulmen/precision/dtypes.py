"""Floating point types: the table of precision names, converting data, and changing torch's default type for a while."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

import torch
from torch import Tensor

#: type of the weights, and of what is created while a precision's contexts are active, by the precision's name
WEIGHT_DTYPES: Final[dict[str, torch.dtype]] = {
    "64-true": torch.float64,
    "32-true": torch.float32,
    "16-true": torch.float16,
    "bf16-true": torch.bfloat16,
    "16-mixed": torch.float32,
    "bf16-mixed": torch.float32,
}


class _DtypeContextManager:
    """``with _DtypeContextManager(dtype)``: torch's default floating point type is ``dtype`` inside.

    It can be entered again and again, which is cheaper than a generator per step, but not nested within itself.
    """

    __slots__ = ("_new_dtype", "_previous_dtype")

    def __init__(self, dtype: torch.dtype) -> None:
        self._new_dtype = dtype
        self._previous_dtype = torch.get_default_dtype()

    def __enter__(self) -> None:
        self._previous_dtype = torch.get_default_dtype()
        torch.set_default_dtype(self._new_dtype)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        torch.set_default_dtype(self._previous_dtype)


def _convert_fp_tensor(tensor: Tensor, dst_type: str | torch.dtype) -> Tensor:
    """``tensor`` in another floating point type; integers, booleans and complex numbers stay as they are."""
    return tensor.to(dst_type) if torch.is_floating_point(tensor) else tensor


def convert_floats(data: Any, dtype: torch.dtype) -> Any:
    """Any collection, with its floating point tensors in type ``dtype``."""
    if isinstance(data, Tensor):
        return _convert_fp_tensor(data, dtype)
    from fulmen.utilities.nested import apply_to_collection

    return apply_to_collection(data, Tensor, _convert_fp_tensor, dtype)
