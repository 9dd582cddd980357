"""Finding a constructor's arguments from the frames that are running it."""

from __future__ import annotations

import dataclasses
import inspect
import types
from argparse import Namespace
from collections.abc import Iterable, MutableMapping
from typing import Any


def collect_arguments(
    owner: Any, frame: types.FrameType, wanted: tuple[Any, ...], ignore: Iterable[str] | str | None
) -> tuple[Any, str | None]:
    """The hyperparameters that a call of ``save_hyperparameters`` stands for.

    Args:
        owner: the object being built.
        frame: the frame of its ``__init__``.
        wanted: positional arguments of the call.
        ignore: names to leave out.

    Returns:
        The values by name, or the one object that was passed; and under which name they were saved.
    """
    if len(wanted) == 1 and not isinstance(wanted[0], str) and not wanted[0]:
        return {}, None
    ignored = {ignore} if isinstance(ignore, str) else {i for i in ignore or () if isinstance(i, str)}
    if dataclasses.is_dataclass(owner):
        found = {f.name: getattr(owner, f.name) for f in dataclasses.fields(owner) if f.init}
    else:
        found = {}
        for arguments in _constructor_frames(frame, type(owner)):
            found.update(arguments)
    names = [w for w in wanted if isinstance(w, str)]
    unknown = [n for n in names if n not in found or n in ignored]
    if unknown:
        raise KeyError(
            f"save_hyperparameters: {unknown} are no arguments of the constructor (or are ignored); it has {sorted(found)}."
        )
    found = {k: v for k, v in found.items() if k not in ignored}
    if not wanted:
        return found, "kwargs" if found else None
    objects = [w for w in wanted if not isinstance(w, str)]
    if len(objects) == 1 and not names:
        return _checked(objects[0]), _name_of(objects[0], frame)
    return {n: found[n] for n in names}, "kwargs"


def _checked(value: Any) -> Any:
    if isinstance(value, (Namespace, MutableMapping)):
        return value
    raise ValueError(
        f"save_hyperparameters: expected names of arguments, a dict or a Namespace, received {type(value).__name__}. "
        "Pass `vars(...)` or `dataclasses.asdict(...)` of it."
    )


def _name_of(value: Any, frame: types.FrameType) -> str | None:
    names = [n for n, v in frame.f_locals.items() if v is value and n != "self"]
    return names[0] if names else None


def _constructor_frames(frame: types.FrameType, kind: type) -> list[dict[str, Any]]:
    """The arguments of the running constructors of one object, outermost base first."""
    found: list[dict[str, Any]] = []
    current: types.FrameType | None = frame
    while current is not None:
        local = current.f_locals
        cls = local.get("__class__")
        if current.f_code.co_name != "__init__" and not (cls and found == [] and "__class__" in local):
            break
        if not isinstance(cls, type) or not issubclass(kind, cls):
            if found:
                break
            if cls is None:
                break
        else:
            found.append(_arguments(current, cls))
        current = current.f_back
    return found


def _arguments(frame: types.FrameType, cls: type) -> dict[str, Any]:
    parameters = list(inspect.signature(cls.__init__).parameters.values())  # type: ignore[misc]  # looked at, not called
    local = frame.f_locals
    out: dict[str, Any] = {}
    for position, parameter in enumerate(parameters):
        if position == 0 or parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            out.update(local.get(parameter.name, {}))
        elif parameter.name in local:
            out[parameter.name] = local[parameter.name]
    return out
