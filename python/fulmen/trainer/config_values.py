"""Checks of single values of `Trainer`'s arguments: each function gives the value in its normal form.

Exception types are Lightning's where it looks at a value at all; values that it takes and then stumbles over are a
`ValueError` or `TypeError` here.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from fulmen import errors

_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d):(\d\d)", re.ASCII)


def flag(name: str, value: Any, default: bool | None = None) -> bool:
    """A switch: True or False (0 and 1 too); None stands for `default`, or for False.

    Raises:
        TypeError: text, or whatever else would count as true by accident.
    """
    if value is None:
        return bool(default)
    # by type name, so that numpy's bool counts without an import of numpy
    if (
        isinstance(value, bool)
        or type(value).__name__ in ("bool_", "bool")
        or (isinstance(value, int) and value in (0, 1))
    ):
        return bool(value)
    raise errors.type_error(
        f"Trainer({name})", "True or False", value, f"Write `Trainer({name}=True)`, or leave it out"
    )


def integer(name: str, value: Any, *, whole_floats: bool = False) -> int:
    """An integer of any library.

    Args:
        name: the argument.
        value: what came.
        whole_floats: take 2.0 for 2.

    Raises:
        TypeError: it is none.
    """
    if isinstance(value, Integral):
        return int(value)
    if whole_floats and isinstance(value, Real) and float(value).is_integer():
        return int(float(value))
    raise errors.type_error(f"Trainer({name})", "an integer", value, f"Write `Trainer({name}=1)`")


def at_least(name: str, value: Any, lowest: int, meaning: str, *, whole_floats: bool = False) -> int:
    """An integer not below `lowest`.

    Args:
        name: the argument.
        value: what came.
        lowest: the smallest value that means something.
        meaning: what the value is, for the message.
        whole_floats: take 2.0 for 2.

    Raises:
        TypeError: no integer.
        ValueError: too small.
    """
    number = integer(name, value, whole_floats=whole_floats)
    if number < lowest:
        raise errors.value_error(
            f"Trainer({name})", f"{meaning}, an integer >= {lowest}", value, f"Pass {lowest} or more, or leave it out"
        )
    return number


def limit(name: str, value: Any) -> int | float:
    """A number of batches (int, or a whole float above 1) or a share of them (float from 0 to 1); None is all: 1.0.

    Raises:
        TypeError: no number.
        MisconfigurationException: negative, or a fraction above 1.
    """
    if value is None:
        return 1.0
    number = _number(name, value, "a number of batches (int) or a share of them (float from 0.0 to 1.0)")
    if isinstance(number, int):
        if number >= 0:
            return number
    elif 0.0 <= number <= 1.0:
        return number
    elif number > 1.0 and number.is_integer():
        return int(number)
    raise errors.misconfiguration(
        f"Trainer({name})",
        "a number of batches (int >= 0) or a share of them (float from 0.0 to 1.0)",
        value,
        f"You have passed invalid value {value} for {name}, it has to be in [0.0, 1.0] or an int",
    )


def duration(name: str, value: Any) -> timedelta:
    """A time: text "DD:HH:MM:SS", a timedelta, or a dict of timedelta's arguments.

    Raises:
        MisconfigurationException: text of another form.
        TypeError: another type, or a dict with keys or values that timedelta does not take.
        ValueError: negative.
    """
    if isinstance(value, str):
        match = _CLOCK.fullmatch(value.strip())
        if match is None:
            raise errors.misconfiguration(
                f"Trainer({name})", "a time in the format DD:HH:MM:SS", value, 'Half an hour is "00:00:30:00"'
            )
        days, hours, minutes, seconds = map(int, match.groups())
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if isinstance(value, Mapping):
        try:
            value = timedelta(**value)
        except TypeError as error:
            raise errors.type_error(
                f"Trainer({name})", "a dict of timedelta's arguments", dict(value), f'Write {{"hours": 1}} ({error})'
            ) from None
    if not isinstance(value, timedelta):
        raise errors.type_error(
            f"Trainer({name})", "text DD:HH:MM:SS, a timedelta or a dict", value, 'Write {"minutes": 30}'
        )
    if value < timedelta(0):
        raise errors.value_error(f"Trainer({name})", "a time that is not negative", value, "Pass timedelta(0) or more")
    return value


def validation_interval(value: Any) -> tuple[int | float | None, float | None]:
    """``val_check_interval`` as batches or a share of an epoch, or as seconds.

    Returns:
        (interval, None), or (None, seconds) for a time.

    Raises:
        ValueError: 0.
        MisconfigurationException, TypeError: as for `limit` and `duration`.
    """
    if isinstance(value, (str, timedelta, Mapping)):
        return None, duration("val_check_interval", value).total_seconds()
    number = limit("val_check_interval", value)
    if number == 0:
        raise errors.value_error(
            "Trainer(val_check_interval)",
            "at least 1 batch, or a share of the epoch above 0",
            value,
            "To run no validation, pass `limit_val_batches=0`",
        )
    return number, None


def clip_value(value: Any) -> int | float | None:
    """``gradient_clip_val``: None, or a number >= 0 (0: no clipping).

    Raises:
        TypeError: no number.
        ValueError: negative or NaN.
    """
    if value is None:
        return None
    if not isinstance(value, Real):
        raise errors.type_error(
            "Trainer(gradient_clip_val)", "an int or a float", value, "Write `Trainer(gradient_clip_val=1.0)`"
        )
    if math.isnan(value) or value < 0:
        raise errors.value_error(
            "Trainer(gradient_clip_val)", "a number >= 0", value, "Pass a positive limit, or None for no clipping"
        )
    return value if isinstance(value, (int, float)) else float(value)


def clip_algorithm(value: Any) -> Any:
    """``gradient_clip_algorithm``: None or the `GradClipAlgorithmType` that the text names, in any case.

    Raises:
        MisconfigurationException: another name.
        TypeError: no text.
    """
    from fulmen.utilities.enums import GradClipAlgorithmType

    if value is None:
        return None
    names = [kind.value for kind in GradClipAlgorithmType]
    where = "Trainer(gradient_clip_algorithm)"
    if not isinstance(value, str):
        raise errors.type_error(where, f"one of {names}", value, f"Pass {names[-1]!r}, or leave it out")
    if value.lower() not in names:
        raise errors.misconfiguration(
            where, f"one of {names}", value, f"`gradient_clip_algorithm` {value} is invalid: pass one of these names"
        )
    return GradClipAlgorithmType(value.lower())


def root_dir(value: Any) -> str | None:
    """``default_root_dir`` as text; None stays.

    Raises:
        TypeError: no path.
    """
    if value is None:
        return None
    if not isinstance(value, (str, Path, os.PathLike)):
        raise errors.type_error("Trainer(default_root_dir)", "a path", value, 'Pass text or a pathlib.Path: "runs"')
    return os.fspath(value)


def _number(name: str, value: Any, expected: str) -> int | float:
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise errors.type_error(f"Trainer({name})", expected, value, f"Write `Trainer({name}=10)` or `Trainer({name}=0.5)`")


def prefetch(value: Any) -> int | str:
    """How batches are got ready: "auto", "off", or how many ahead (0 is "off").

    Raises:
        ValueError: other text, or less than 0.
        TypeError: neither text nor an int.
    """
    expected, cure = '"auto", "off", or a number of batches >= 0', 'Pass "auto", or leave it out'
    if isinstance(value, str):
        if value not in ("auto", "off"):
            raise errors.value_error("Trainer(prefetch)", expected, value, cure)
        return value
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise errors.type_error("Trainer(prefetch)", expected, value, cure)
    if value < 0:
        raise errors.value_error("Trainer(prefetch)", expected, value, cure)
    return int(value) or "off"


def one_of(name: str, value: Any, words: tuple[str, ...]) -> str:
    """One of a few words.

    Raises:
        ValueError: another word.
        TypeError: no text.
    """
    expected, cure = f"one of {list(words)}", f"Pass {words[0]!r}, or leave it out"
    if not isinstance(value, str):
        raise errors.type_error(f"Trainer({name})", expected, value, cure)
    if value not in words:
        raise errors.value_error(f"Trainer({name})", expected, value, cure)
    return value
