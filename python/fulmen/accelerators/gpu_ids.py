"""What ``Trainer(devices=...)`` means for GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fulmen import errors

_CURE = "Pass a number of GPUs, a list of their indices, text of either ('2', '0,1'), -1 or 'auto' for all"


def parse_gpu_ids(devices: int | str | list[int] | None, kind: str) -> list[int] | None:
    """Indices of the GPUs that are asked for.

    Args:
        devices: a number of GPUs (2 means 0 and 1), −1 or ``"-1"`` for all, a list or tuple of indices, or text:
            ``"2"`` is a number, ``"0,"`` and ``"0, 1"`` are indices.
        kind: ``"cuda"`` or ``"mps"``.

    Returns:
        the indices, in the given order; None if none are asked for (None, 0, ``"0"``).

    Raises:
        TypeError: another type.
        MisconfigurationException: an index twice, an index that the machine does not have, or no GPU where all are
            asked for.
    """
    _check_type(devices)
    wanted = _parse_text(devices) if isinstance(devices, str) else devices
    if wanted is None or (isinstance(wanted, int) and wanted == 0):
        return None
    available = _available(kind)
    indices = list(range(wanted)) if isinstance(wanted, int) else list(wanted)
    if wanted == -1:
        indices = available
    if not indices:
        if isinstance(wanted, int):
            raise errors.misconfiguration(
                "Trainer(devices)",
                "GPUs that this machine has",
                errors.Words(f"{wanted}: GPUs requested but none are available"),
                "Use accelerator='cpu'",
            )
        return None
    if len(set(indices)) != len(indices):
        raise errors.misconfiguration("Trainer(devices)", "Device ID's (GPU) must be unique", devices, "Name each once")
    missing = [index for index in indices if index not in available]
    if missing:
        raise errors.misconfiguration(
            "Trainer(devices)",
            f"GPUs among {available}, all that this machine has",
            errors.Words(f"You requested gpu: {indices}"),
            "Ask for fewer, or look at CUDA_VISIBLE_DEVICES",
        )
    return indices


def _check_type(devices: Any) -> None:
    """Only None, numbers, text and sequences of numbers pass; booleans are no numbers here."""
    elements = devices if isinstance(devices, Sequence) and not isinstance(devices, str) else [devices]
    plain = isinstance(devices, Sequence) or devices is None
    for element in elements:
        if type(element) is int or (plain and (element is None or isinstance(element, str)) and element is devices):
            continue
        raise errors.type_error("Trainer(devices)", "int, str, or a sequence of ints", devices, _CURE)


def _parse_text(text: str) -> int | list[int] | None:
    stripped = text.strip()
    if stripped == "[]":
        return None
    try:
        if "," in stripped:
            return [int(part) for part in stripped.split(",") if part.strip()]
        return int(stripped)
    except ValueError:
        raise errors.value_error("Trainer(devices)", "a number of GPUs or their indices", text, _CURE) from None


def _available(kind: str) -> list[int]:
    # by their modules, so that what is patched there counts
    from fulmen.accelerators import cuda, mps

    if kind == "mps":
        return [0] if mps.MPSAccelerator.is_available() else []
    return list(range(cuda.num_cuda_devices()))
