"""How a batch travels through the ring: its structure pickled, its tensors and large arrays as memory.

The first part of a batch in a slot is two pickles: rows that say where each tensor and array lies in the other parts, and the
batch, in which each is a number. For one tensor, or a list, tuple or dict of tensors, it is one pickle of their types and sizes.
What is not a plain tensor in memory (sparse, on a device, with a gradient, of a class of its
own) travels as it does in the stock loader, through torch's own reductions.

Tensors that overlap in memory do so afterwards; a tensor that is a small part of a large storage comes without the rest of it.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import threading
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.dlpack import from_dlpack

from fulmen._core import RingBatch

ARRAY_FROM = 64 * 1024
"""Bytes from which on an array is worth a part of its own; smaller ones are pickled."""

WHOLE_STORAGE = 4096
"""A storage with no more bytes than this beyond twice a tensor's own travels whole, so that the offset stays as it is."""

PROTOCOL = 4
"""Of pickle: with 5, arrays that nobody may write to would stay so, other than in the stock loader."""


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is described by its memory, type, sizes and strides."""
    return (
        type(tensor) is Tensor
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not tensor.requires_grad
        and not tensor.is_quantized
        and not tensor.is_conj()
        and not tensor.is_neg()
        and not tensor.is_nested
        and not any(name is not None for name in getattr(tensor, "names", ()))
    )


class Packer:
    """Takes one batch apart.

    Attributes:
        first: the first part.
        parts: addresses and bytes of the others; the memory stays as long as the packer does.
    """

    def __init__(self, batch: Any) -> None:
        self._kept: list[Any] = []
        self.parts: list[tuple[int, int]] = []
        self.first = self._simple(batch) or self._any(batch)

    def _simple(self, batch: Any) -> bytes | None:
        """The first part of a batch of few whole tensors, None if it is another."""
        form: Any = None
        kind = type(batch)
        if kind is Tensor:
            tensors = [batch]
        elif kind is dict and all(type(key) is str for key in batch):
            form, tensors = tuple(batch), list(batch.values())
        elif kind is list or kind is tuple:
            form, tensors = kind is tuple, list(batch)
        else:
            return None
        described, parts = [], []
        for tensor in tensors:
            if type(tensor) is not Tensor or not is_plain(tensor) or not tensor.is_contiguous():
                return None
            size, storage = tensor.nbytes, tensor.untyped_storage()
            if not size or tensor.storage_offset() or storage.nbytes() != size:
                return None
            described.append((tensor.dtype, tuple(tensor.shape), tensor.stride()))
            parts.append((tensor.data_ptr(), size))
        if len({start for start, _ in parts}) != len(parts):
            return None
        self._kept, self.parts = tensors, parts
        return pickle.dumps((form, described), PROTOCOL)

    def _any(self, batch: Any) -> bytes:
        """The first part of any batch."""
        self._spans: list[tuple[int, int]] = []
        file = io.BytesIO()
        pickler = pickle.Pickler(file, PROTOCOL)
        reducers: Any = {**copyreg.dispatch_table, **ForkingPickler._extra_reducers}  # type: ignore[attr-defined]  # private to multiprocessing
        reducers[Tensor] = self._tensor
        if "numpy" in sys.modules:
            reducers[sys.modules["numpy"].ndarray] = self._array
        pickler.dispatch_table = reducers
        pickler.dump(batch)
        self.parts, places = _merged(self._spans)
        rows = []
        for number, ((start, _), kept) in enumerate(zip(self._spans, list(self._kept), strict=True)):
            part = places[number]
            distance = start - self.parts[part][0]
            if distance % kept.dtype.itemsize:
                # overlaps with something of another type, at an address that its own type cannot count to
                kept, part, distance = self._alone(kept), len(self.parts) - 1, 0
            rows.append((part + 1, distance, *_described(kept, distance)))
        return pickle.dumps(rows, PROTOCOL) + file.getvalue()

    def _tensor(self, tensor: Tensor) -> Any:
        if not is_plain(tensor):
            return reduce_tensor(tensor)
        storage = tensor.untyped_storage()
        size = 0
        if tensor.numel():
            size = tensor.element_size() * (
                1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
            )
        if storage.nbytes() <= 2 * size + WHOLE_STORAGE:
            return _tensor, (self._add(tensor, storage.data_ptr(), storage.nbytes()),)
        return _tensor, (self._add(tensor, tensor.data_ptr(), size),)

    def _array(self, array: Any) -> Any:
        flags = array.flags
        if array.nbytes < ARRAY_FROM or array.dtype.hasobject or not (flags.c_contiguous or flags.f_contiguous):
            return array.__reduce_ex__(PROTOCOL)
        return _tensor, (self._add(array, array.__array_interface__["data"][0], array.nbytes),)

    def _alone(self, kept: Any) -> Any:
        copy = kept.clone() if isinstance(kept, Tensor) else kept.copy()
        start = copy.data_ptr() if isinstance(copy, Tensor) else copy.__array_interface__["data"][0]
        self._kept.append(copy)
        self.parts.append((start, copy.nbytes))
        return copy

    def _add(self, owner: Any, start: int, size: int) -> int:
        self._kept.append(owner)
        self._spans.append((start, start + size))
        return len(self._kept) - 1


def _merged(spans: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[int]]:
    """Parts (address, bytes) that cover all spans, overlapping ones together; and the part of each span."""
    parts: list[tuple[int, int]] = []
    places = [0] * len(spans)
    end = -1
    for start, after, number in sorted((start, after, number) for number, (start, after) in enumerate(spans)):
        if start < end:
            if after > end:
                end = after
                parts[-1] = (parts[-1][0], end - parts[-1][0])
        else:
            parts.append((start, after - start))
            end = after
        places[number] = len(parts) - 1
    return parts, places


def _described(kept: Any, distance: int) -> tuple[Any, ...]:
    if isinstance(kept, Tensor):
        size = kept.element_size()
        storage = kept.untyped_storage()
        # from the beginning of the span, which is that of the storage or that of the tensor
        whole = storage.nbytes() <= 2 * size * _reach(kept) + WHOLE_STORAGE
        return kept.dtype, tuple(kept.shape), kept.stride(), kept.storage_offset() if whole else 0
    return kept.dtype, kept.shape, None, "C" if kept.flags.c_contiguous else "F"


def _reach(tensor: Tensor) -> int:
    if not tensor.numel():
        return 0
    return 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))


# ---- the other side --------------------------------------------------------------------------------------------------

_unpacking = threading.local()


def _tensor(number: int) -> Any:
    """What stands in the pickle in place of a tensor or array."""
    return _unpacking.members[number]


def unpack(batch: RingBatch, copy: bool) -> Any:
    """Puts a batch together.

    Args:
        batch: in the ring.
        copy: take its memory out of the ring, so that the slot is free at once.
    """
    file = io.BytesIO(batch.first())
    rows = pickle.load(file)
    if type(rows) is tuple:
        form, described = rows
        return _simple(batch, form, described, copy)
    parts: dict[int, Tensor] = {}
    members = []
    for part, distance, dtype, shape, strides, offset in rows:
        memory = parts.get(part)
        if memory is None:
            memory = from_dlpack(batch.part(part))
            if copy:
                memory = memory.clone()
            parts[part] = memory
        if strides is None:
            members.append(_array_over(memory, distance, dtype, shape, offset))
        else:
            tensor = torch.empty((0,), dtype=dtype)
            tensor.set_(memory.untyped_storage(), distance // dtype.itemsize + offset, shape, strides)
            members.append(tensor)
    outer = getattr(_unpacking, "members", None)
    _unpacking.members = members
    try:
        return pickle.load(file)
    finally:
        _unpacking.members = outer


def _simple(batch: RingBatch, form: Any, described: list[Any], copy: bool) -> Any:
    """A batch of few whole tensors."""
    tensors = []
    for number, (dtype, shape, strides) in enumerate(described):
        memory = from_dlpack(batch.part(number + 1))
        if copy:
            memory = memory.clone()
        tensor = torch.empty((0,), dtype=dtype)
        tensors.append(tensor.set_(memory.untyped_storage(), 0, shape, strides))
    if form is None:
        return tensors[0]
    if type(form) is tuple:
        return dict(zip(form, tensors, strict=True))
    return tuple(tensors) if form else tensors


def _array_over(memory: Tensor, distance: int, dtype: Any, shape: tuple[int, ...], order: Any) -> Any:
    import numpy as np

    return np.ndarray(shape, dtype, memory.numpy(), distance, order=order)
