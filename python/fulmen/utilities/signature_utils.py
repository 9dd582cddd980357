"""Looking at the signatures of hooks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def is_param_in_hook_signature(
    hook_fx: Callable[..., Any], param: str, explicit: bool = False, min_args: int | None = None
) -> bool:
    """Whether a hook takes a certain parameter.

    Args:
        hook_fx: the hook, as a method or plain function; of a decorated one the wrapped function counts.
        param: name of the parameter.
        explicit: it must be spelled out; otherwise ``*args`` takes it as well.
        min_args: that many positional parameters (without ``self``) are as good as the name.
    """
    spec = inspect.getfullargspec(getattr(hook_fx, "__wrapped__", hook_fx))
    names = spec.args[1:]  # without self
    if param in names or (spec.varargs is not None and not explicit):
        return True
    return isinstance(min_args, int) and len(names) >= min_args
