"""Messages, and calls, of the process with global rank 0 only.

Warnings are attributed to the innermost line outside of fulmen, because that is the line which a user can change.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

from typing_extensions import ParamSpec

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_PACKAGE = __name__.partition(".")[0]
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
# (category, pattern for the module inside fulmen that warns): warnings on this list are dropped
_muted: list[tuple[type[Warning], re.Pattern[str]]] = []


class LightningDeprecationWarning(DeprecationWarning):
    """Something that still works, and that a later version removes."""


# Python hides deprecation warnings outside of `__main__`; these are meant for the users of the library
warnings.simplefilter("default", category=LightningDeprecationWarning)


class _RankZeroOnly(Protocol):
    rank: int | None

    def __call__(self, fn: Callable[P, T], default: T | None = None) -> Callable[P, T | None]: ...


def _get_rank() -> int | None:
    """The global rank that the launcher's environment tells, or None without a launcher.

    ``SLURM_PROCID`` comes after the launchers' own variables: it is set in every SLURM job, also when SLURM did not
    start the processes.
    """
    return next((int(os.environ[name]) for name in _RANK_VARIABLES if name in os.environ), None)


def _rank_zero_only(fn: Callable[P, T], default: T | None = None) -> Callable[P, T | None]:
    """Wrap a function so that it runs on global rank 0 only.

    The rank is the attribute ``rank_zero_only.rank`` at the time of the call. Strategies set it; until then it comes
    from the launcher's environment, and is 0 without a launcher.

    Args:
        fn: the function.
        default: what the wrapped function returns on the other ranks.

    Raises:
        RuntimeError: by the wrapped function, if ``rank_zero_only.rank`` is None or deleted.
    """

    @wraps(fn)
    def on_rank_zero(*args: P.args, **kwargs: P.kwargs) -> T | None:
        return fn(*args, **kwargs) if _is_rank_zero() else default

    return on_rank_zero


_rank_zero_only.__name__ = _rank_zero_only.__qualname__ = "rank_zero_only"
rank_zero_only = cast(_RankZeroOnly, _rank_zero_only)
rank_zero_only.rank = _get_rank() or 0


def _is_rank_zero() -> bool:
    rank = getattr(rank_zero_only, "rank", None)
    if rank is None:
        raise RuntimeError("The `rank_zero_only.rank` needs to be set before use, it is None.")
    return bool(rank == 0)


def rank_zero_debug(*args: Any, stacklevel: int = 4, **kwargs: Any) -> None:
    """Log on level DEBUG, on global rank 0 only.

    Args:
        args: message and its arguments, as for ``logging.Logger.debug``.
        stacklevel: whose file and line the record carries: 4 is the caller, 5 its caller.
        kwargs: further arguments of ``logging.Logger.debug``.
    """
    if _is_rank_zero():
        log.debug(*args, stacklevel=max(stacklevel - 2, 1), **kwargs)


def rank_zero_info(*args: Any, stacklevel: int = 4, **kwargs: Any) -> None:
    """Log on level INFO, on global rank 0 only.

    Args:
        args: message and its arguments, as for ``logging.Logger.info``.
        stacklevel: whose file and line the record carries: 4 is the caller, 5 its caller.
        kwargs: further arguments of ``logging.Logger.info``.
    """
    if _is_rank_zero():
        log.info(*args, stacklevel=max(stacklevel - 2, 1), **kwargs)


def rank_zero_warn(message: str | Warning, stacklevel: int = 4, **kwargs: Any) -> None:
    """Warn on global rank 0 only.

    Args:
        message: text, or a warning object.
        stacklevel: 4 is the caller, 5 its caller. From there on the first line outside of fulmen gets the warning.
        kwargs: further arguments of ``warnings.warn``, above all ``category``.
    """
    if not _is_rank_zero():
        return
    level = start = max(stacklevel - 2, 1)
    frame: Any = _frame_at(start)
    if _muted and _is_muted(message, kwargs.get("category"), frame):
        return
    while frame is not None and _module_of(frame).partition(".")[0] == _PACKAGE:
        frame, level = frame.f_back, level + 1
    # all frames are ours in `python -m fulmen`: then the place that warns is the best there is
    warnings.warn(message, stacklevel=start if frame is None else level, **kwargs)


def rank_zero_deprecation(message: str | Warning, stacklevel: int = 5, **kwargs: Any) -> None:
    """Give a `LightningDeprecationWarning` (or the ``category`` passed) on global rank 0 only.

    Args:
        message: text, or a warning object.
        stacklevel: 5 is the caller, 6 its caller.
        kwargs: further arguments of ``warnings.warn``.
    """
    kwargs.setdefault("category", LightningDeprecationWarning)
    rank_zero_warn(message, stacklevel=stacklevel, **kwargs)


def rank_prefixed_message(message: str, rank: int | None) -> str:
    """Put the rank in front of a message: ``"[rank: 1] message"``; unchanged if the rank is None."""
    return message if rank is None else f"[rank: {rank}] {message}"


class WarningCache(set[str]):
    """Messages already given: each one is given once only."""

    def warn(self, message: str, stacklevel: int = 5, **kwargs: Any) -> None:
        """`rank_zero_warn`, the first time for this message."""
        if self._is_new(message):
            rank_zero_warn(message, stacklevel=stacklevel, **kwargs)

    def deprecation(self, message: str, stacklevel: int = 6, **kwargs: Any) -> None:
        """`rank_zero_deprecation`, the first time for this message."""
        if self._is_new(message):
            rank_zero_deprecation(message, stacklevel=stacklevel, **kwargs)

    def info(self, message: str, stacklevel: int = 5, **kwargs: Any) -> None:
        """`rank_zero_info`, the first time for this message."""
        if self._is_new(message):
            rank_zero_info(message, stacklevel=stacklevel, **kwargs)

    def _is_new(self, message: str) -> bool:
        known = len(self)
        self.add(message)
        return len(self) > known


def _frame_at(stacklevel: int) -> Any:
    """The frame that ``warnings.warn(stacklevel=...)`` would choose in the caller, or the outermost one."""
    frame = sys._getframe(1)
    for _ in range(stacklevel - 1):
        if frame.f_back is None:
            break
        frame = frame.f_back
    return frame


def _module_of(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_muted(message: str | Warning, category: type[Warning] | None, frame: Any) -> bool:
    kind = type(message) if isinstance(message, Warning) else category or UserWarning
    return any(issubclass(kind, muted) and pattern.match(_module_of(frame)) for muted, pattern in _muted)
