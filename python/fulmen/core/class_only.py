"""A class method that refuses to be called on an instance, whose state it would silently ignore."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


class class_only(classmethod):
    """As ``classmethod``, but calling it on an instance raises.

    Looking it up on an instance stays possible, since scripting and ``inspect`` walk over all attributes.
    """

    def __get__(self, instance: Any, owner: type | None = None) -> Callable[..., Any]:
        method = super().__get__(instance, owner)
        if instance is None:
            return method

        def refuse(*args: Any, **kwargs: Any) -> Any:
            name = self.__func__.__name__
            kind = (owner or type(instance)).__name__
            raise TypeError(
                f"The classmethod `{kind}.{name}` cannot be called on an instance. Please call it on the class type and make "
                f"sure the return value is used: `module = {kind}.{name}(...)`."
            )

        refuse.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
        return refuse
