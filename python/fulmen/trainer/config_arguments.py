"""What reaches `Trainer.__init__` before it runs: arguments by position, from the environment, of the 1.x series."""

from __future__ import annotations

import ast
import functools
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fulmen import errors
from fulmen.trainer.legacy_arguments import RESUME, translate

ENVIRONMENT_PREFIX = "PL_TRAINER_"

_Init = TypeVar("_Init", bound=Callable[..., None])


def trainer_arguments(init: _Init) -> _Init:
    """Decorates a constructor with keyword-only arguments.

    Arguments given by position count in the order of the signature; those that were given in no way are looked up in
    the environment (``PL_TRAINER_MAX_EPOCHS``); those that existed in Lightning 1.x are translated, with a warning.

    Raises:
        TypeError: too many positions, one argument in two ways, or a 1.x argument that has no translation.
    """
    names = tuple(n for n, p in inspect.signature(init).parameters.items() if p.kind is p.KEYWORD_ONLY)
    known = frozenset(names)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        given = {**_by_position(names, args, kwargs), **kwargs}
        if not known.issuperset(given):
            given = translate(given, known)
        resume = given.pop(RESUME, None)
        init(self, **{**from_environment(names), **given})
        if resume is not None:
            self._config.resume_from_checkpoint = resume

    return wrapper  # type: ignore[return-value]  # the same signature


def from_environment(names: tuple[str, ...], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Argument values that environment variables set.

    A variable holds a Python literal (``7``, ``0.5``, ``True``, ``{'hours': 1}``); whatever is none is plain text. An
    empty variable counts as not set.

    Args:
        names: arguments to look for.
        environ: the environment; default `os.environ`.
    """
    environ = os.environ if environ is None else environ
    found = {}
    for name in names:
        text = environ.get(ENVIRONMENT_PREFIX + name.upper())
        if text:
            found[name] = _literal(text.strip())
    return found


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _by_position(names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    if len(args) > len(names):
        raise errors.type_error(
            "Trainer()", f"at most {len(names)} arguments", errors.Words(f"{len(args)} by position"), "Name them"
        )
    given = dict(zip(names, args, strict=False))
    twice = [name for name in given if name in kwargs]
    if twice:
        raise errors.type_error(
            f"Trainer({twice[0]})", "one value", errors.Words("one by position and one by name"), "Drop one of them"
        )
    return given
