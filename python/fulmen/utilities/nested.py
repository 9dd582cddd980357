"""Walking through batches and other nested collections."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any


def is_dataclass_instance(obj: object) -> bool:
    """Whether ``obj`` is an instance of a dataclass, not the class itself."""
    return is_dataclass(obj) and not isinstance(obj, type)


def is_namedtuple(obj: object) -> bool:
    """Whether ``obj`` is an instance of a named tuple's class."""
    return isinstance(obj, tuple) and hasattr(obj, "_fields") and hasattr(obj, "_asdict")


def apply_to_collection(
    data: Any, dtype: type | tuple[type, ...], function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Apply a function to all elements of some type in nested dictionaries, lists, tuples and dataclasses.

    Args:
        data: the collection, or a single element.
        dtype: the type, or types, to which the function applies. An element of this type is not looked into.
        function: called as ``function(element, *args, **kwargs)``.
        args: passed on.
        kwargs: passed on.

    Returns:
        A collection of the same structure and classes; whatever is neither of ``dtype`` nor a collection is kept as
        the same object.

    Raises:
        ValueError: a frozen dataclass would have to change.
    """

    def walk(value: Any) -> Any:
        if isinstance(value, dtype):
            return function(value, *args, **kwargs)
        if isinstance(value, Mapping):
            items = ((key, walk(element)) for key, element in value.items())
            if isinstance(value, defaultdict):
                return type(value)(value.default_factory, OrderedDict(items))
            return type(value)(OrderedDict(items))  # type: ignore[call-arg]  # built as its class is
        if is_namedtuple(value):
            return type(value)(*map(walk, value))
        if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | range | memoryview):
            return type(value)([walk(element) for element in value])  # type: ignore[call-arg]  # built as its class is
        if is_dataclass_instance(value):
            return _walk_dataclass(value, walk)
        return value

    return walk(data)


def _walk_dataclass(value: Any, walk: Callable[[Any], Any]) -> Any:
    """A shallow copy of a dataclass instance with changed fields; the constructor is not called."""
    copy = object.__new__(type(value))
    for cls in type(value).__mro__:
        for slot in _slots(cls):
            if hasattr(value, slot):
                object.__setattr__(copy, slot, getattr(value, slot))
    if hasattr(value, "__dict__"):
        copy.__dict__.update(value.__dict__)
    for field in fields(value):
        # a field without value: init=False, and nobody set it
        if not hasattr(value, field.name):
            continue
        old = getattr(value, field.name)
        new = walk(old)
        if new is old:
            continue
        try:
            setattr(copy, field.name, new)
        except FrozenInstanceError as error:
            raise ValueError(
                f"The field {field.name!r} of the frozen dataclass `{type(value).__name__}` cannot be replaced, for"
                " instance by its copy on another device. Remove `frozen=True`, or transfer the batch yourself in"
                " `transfer_batch_to_device`."
            ) from error
    return copy


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))
