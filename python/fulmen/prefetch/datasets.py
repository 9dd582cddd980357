"""Which datasets are rows in memory, and how the core is told where they lie.

A description is made of nested tuples:

* ``("rows", field, address, rows, stride, width, owner)``: ``rows`` rows of ``width`` bytes every ``stride`` bytes,
* ``("fields", [part, …])``: parts with the same index side by side,
* ``("subset", [index, …] or (start, step, length), part)``: some rows of a part,
* ``("concat", [end, …], [part, …])``: parts one after the other.

A class counts by what its methods are: a subclass that leaves ``__getitem__`` alone gives what its base gives.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, StackDataset, Subset, TensorDataset

Part = tuple[Any, ...]


class NotInMemory(Exception):
    """The dataset is not made of rows in memory; the text says what of it is not."""


@dataclass
class Description:
    """A dataset in memory.

    Attributes:
        plan: where its rows lie, for the core.
        fields: type and shape of a row, field by field.
        structure: what the collated sample looks like: a field's number, or a list or dict of structures.
        watched: the tensors, whose version tells whether somebody wrote to them.
    """

    plan: Part
    fields: list[tuple[torch.dtype, tuple[int, ...]]]
    structure: Any
    watched: list[Tensor] = field(default_factory=list)

    def row_bytes(self) -> int:
        """Bytes of a sample."""
        return sum(dtype.itemsize * _product(shape) for dtype, shape in self.fields)


def describe(dataset: Any) -> Description:
    """Where a dataset's rows lie.

    Raises:
        NotInMemory: it is something else.
    """
    fields: list[tuple[torch.dtype, tuple[int, ...]]] = []
    watched: list[Tensor] = []
    plan, structure, _ = _part(dataset, 0, fields, watched)
    return Description(plan, fields, structure, watched)


_Described = tuple[Part, Any, int]
"""The part, the structure of its samples, and the number of the next field."""


def _part(dataset: Any, first: int, fields: list[Any], watched: list[Tensor]) -> _Described:
    if isinstance(dataset, Tensor):
        return _tensor(dataset, first, fields, watched)
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(dataset) in (numpy.ndarray, numpy.memmap):
        return _array(dataset, first, fields)
    if _is(dataset, TensorDataset):
        return _side_by_side(list(dataset.tensors), first, fields, watched)
    if _is(dataset, StackDataset):
        return _side_by_side(dataset.datasets, first, fields, watched)
    if _is(dataset, Subset):
        part, structure, after = _part(dataset.dataset, first, fields, watched)
        return ("subset", _indices(dataset.indices), part), structure, after
    if _is(dataset, ConcatDataset):
        return _concatenation(dataset, first, fields, watched)
    raise NotInMemory(f"the samples of {type(dataset).__name__} are made by its own code")


def _is(dataset: Any, cls: type) -> bool:
    """Whether the samples are made by this class's own code, and nothing in the instance stands before it."""
    if not isinstance(dataset, cls):
        return False
    kind = type(dataset)
    return (
        all(
            getattr(kind, name, None) is getattr(cls, name, None)
            for name in ("__getitem__", "__getitems__", "__getattribute__", "__getattr__", "__len__")
        )
        and not {"__getitem__", "__getitems__"} & vars(dataset).keys()
    )


def _side_by_side(parts: Any, first: int, fields: list[Any], watched: list[Tensor]) -> _Described:
    described = []
    for part in parts.values() if isinstance(parts, dict) else parts:
        described.append(_part(part, first, fields, watched))
        first = described[-1][2]
    structures = [structure for _, structure, _ in described]
    structure = dict(zip(parts, structures, strict=True)) if isinstance(parts, dict) else structures
    return ("fields", [part for part, _, _ in described]), structure, first


def _concatenation(dataset: Any, first: int, fields: list[Any], watched: list[Tensor]) -> _Described:
    described = [_part(part, first, fields, watched) for part in dataset.datasets]
    if any(structure != described[0][1] for _, structure, _ in described):
        raise NotInMemory("the parts of the ConcatDataset have samples of different structure")
    parts = [part for part, _, _ in described]
    return ("concat", list(dataset.cumulative_sizes), parts), described[0][1], described[0][2]


def _indices(indices: Any) -> Any:
    if isinstance(indices, range):
        return (indices.start, indices.step, len(indices))
    if isinstance(indices, Tensor) or type(indices).__name__ == "ndarray":
        indices = indices.tolist()
    if not isinstance(indices, (list, tuple)):
        raise NotInMemory(f"the indices of the Subset are of type {type(indices).__name__}")
    if not all(type(index) is int for index in indices):
        try:
            indices = [index.__index__() for index in indices if type(index) is not bool]
        except AttributeError:
            raise NotInMemory("the indices of the Subset are no ints") from None
    return list(indices)


def _tensor(tensor: Tensor, first: int, fields: list[Any], watched: list[Tensor]) -> _Described:
    reason = _unfit(tensor)
    if reason is not None:
        raise NotInMemory(f"a tensor of the dataset {reason}")
    _add_field(fields, first, tensor.dtype, tuple(tensor.shape[1:]))
    if not tensor.is_inference():
        watched.append(tensor)
    size = tensor.dtype.itemsize
    width = size * _product(tensor.shape[1:])
    rows = ("rows", first, tensor.data_ptr(), len(tensor), tensor.stride(0) * size, width, tensor.untyped_storage())
    return rows, first, first + 1


def _unfit(tensor: Tensor) -> str | None:
    if type(tensor) is not Tensor:
        return f"is of the class {type(tensor).__name__}"
    if tensor.is_nested or tensor.layout != torch.strided or tensor.is_quantized:
        return "is not dense"
    if tensor.device.type != "cpu":
        return f"is on {tensor.device}"
    if tensor.requires_grad:
        return "requires a gradient"
    if tensor.dim() == 0 or len(tensor) == 0:
        return "has no rows"
    if tensor.is_conj() or tensor.is_neg() or any(name is not None for name in getattr(tensor, "names", ())):
        return "is a lazy view, or has names"
    if not tensor[0].is_contiguous() or (len(tensor) > 1 and tensor.stride(0) < _product(tensor.shape[1:])):
        return "has rows that are not contiguous"
    return None


def _array(array: Any, first: int, fields: list[Any]) -> _Described:
    if array.ndim == 0 or len(array) == 0:
        raise NotInMemory("an array of the dataset has no rows")
    try:
        sample = torch.as_tensor(array[:1].copy())
    except TypeError:
        raise NotInMemory(f"torch has no type for an array's {array.dtype}") from None
    width = array.itemsize * _product(array.shape[1:])
    if not array[0:1].flags.c_contiguous or (len(array) > 1 and array.strides[0] < width):
        raise NotInMemory("an array of the dataset has rows that are not contiguous")
    _add_field(fields, first, sample.dtype, tuple(array.shape[1:]))
    rows = ("rows", first, array.__array_interface__["data"][0], len(array), max(0, array.strides[0]), width, array)
    return rows, first, first + 1


def _add_field(fields: list[Any], number: int, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if number == len(fields):
        fields.append((dtype, shape))
    elif fields[number] != (dtype, shape):
        raise NotInMemory("the parts of the ConcatDataset have rows of different type or shape")


def _product(shape: Any) -> int:
    product = 1
    for size in shape:
        product *= int(size)
    return product
