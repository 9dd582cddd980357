"""How many floating point operations a second a device could do at best.

Source: the manufacturers' data sheets, dense (no sparsity), tensor cores where the type has them.
"""

from __future__ import annotations

from typing import Any, Final

import torch

from fulmen.utilities.rank_zero import rank_zero_warn

__all__ = ["get_available_flops"]

_TERA: Final = 1e12

# columns: float64, float32, float32 with TF32 tensor cores, float16, bfloat16, int8; None: the sheet has none
_Row = tuple[float | None, float, float | None, float, float | None, float | None]
_TABLE: Final[dict[str, _Row]] = {
    "h200": (33.5, 66.9, 494.7, 989.4, 989.4, 1978.9),
    "h100 nvl": (67.0, 133.8, 989.4, 1978.8, 1978.8, 3957.8),
    "h100 sxm": (33.5, 66.9, 494.7, 989.4, 989.4, 1978.9),
    "h100 pcie": (25.6, 51.2, 378.0, 756.0, 756.0, 1513.0),
    "a100": (9.7, 19.5, 156.0, 312.0, 312.0, 624.0),
    "v100 sxm": (7.8, 15.7, None, 125.0, None, None),
    "v100 pcie": (7.0, 14.0, None, 112.0, None, None),
    "t4": (None, 8.1, None, 65.0, None, 130.0),
    "a10g": (None, 31.2, 62.5, 125.0, 125.0, 250.0),
    "a40": (None, 37.4, 74.8, 37.4, 37.4, 299.3),
    "a6000": (None, 38.7, 77.4, 38.7, 38.7, 309.7),
    "l40": (None, 30.3, 60.0, 121.0, 121.0, 242.0),
    "l4": (None, 30.3, 60.0, 121.0, 121.0, 242.0),
    "rtx 4090": (None, 82.6, 82.6, 82.6, 82.6, 660.6),
    "rtx 4080 super": (None, 52.2, 52.2, 52.2, 52.2, 417.6),
    "rtx 4080": (None, 48.7, 48.7, 48.7, 48.7, 389.9),
    "rtx 3090 ti": (None, 40.0, 40.0, 40.0, 40.0, 320.0),
    "rtx 3090": (None, 35.6, 35.6, 35.6, 35.6, 284.0),
    "rtx 3080 ti": (None, 34.1, 34.1, 34.1, 34.1, 272.8),
    "rtx 3080": (None, 29.8, 29.8, 29.8, 29.8, 238.0),
    "rtx 3070": (None, 20.3, 20.3, 20.3, 20.3, 162.6),
    "rtx 2080 ti": (None, 14.2, None, 28.5, None, 227.7),
    "rtx 2080": (None, 10.6, None, 21.2, None, 169.6),
    "titan rtx": (None, 16.3, None, 32.6, None, 261.0),
    "quadro rtx 5000": (None, 11.2, None, 89.2, None, None),
}
_COLUMNS: Final[dict[torch.dtype, int]] = {
    torch.float64: 0,
    torch.float32: 1,
    torch.float16: 3,
    torch.bfloat16: 4,
    torch.int8: 5,
}
_TF32_COLUMN: Final = 2


def get_available_flops(device: torch.device, dtype: torch.dtype | str) -> int | None:
    """Peak operations per second of a device, which only large matrix products come near.

    Args:
        device: the device; of one that is no CUDA GPU nothing is known.
        dtype: in which type it multiplies. float32 counts as TF32 where
            ``torch.get_float32_matmul_precision()`` allows that.

    Returns:
        Operations per second, None (with a warning for a GPU) if unknown.
    """
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    row = _find(name.lower())
    if row is None:
        rank_zero_warn(f"The peak of {name!r} is not known: its utilization (MFU) cannot be computed.")
        return None
    column = _COLUMNS.get(_as_dtype(dtype))
    value = None if column is None else row[column]
    if column == _COLUMNS[torch.float32] and torch.get_float32_matmul_precision() != "highest":
        value = row[_TF32_COLUMN] or value
    if value is None:
        rank_zero_warn(f"The peak of {name!r} for {dtype} is not known: its utilization (MFU) cannot be computed.")
        return None
    return round(value * _TERA)


def _as_dtype(dtype: torch.dtype | str) -> Any:
    return getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype


def _find(name: str) -> _Row | None:
    """The row of a GPU by the name that its driver gives."""
    words = name.replace("-", " ")
    if "h100" in words:
        kind = "nvl" if "nvl" in words else "pcie" if "pcie" in words else "sxm"
        return _TABLE[f"h100 {kind}"]
    if "v100" in words:
        return _TABLE["v100 sxm" if "sxm" in words else "v100 pcie"]
    padded = f" {words} "
    for key, row in _TABLE.items():
        if f" {key} " in padded or (key == "l40" and " l40s " in padded):
            return row
    return None
