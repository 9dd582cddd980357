"""Names in the files of Lightning 1.x that are no plain data today, and what stands for them when such a file is read.

Up to 1.4 the states of callbacks lay under the callbacks' classes, and hyperparameters in a dictionary of Lightning's own class.
No class is imported, and nothing is called: a class becomes a text, the dictionary a `dict`.
"""

from __future__ import annotations

import re
from typing import Any, Final

_OF_LIGHTNING: Final = re.compile(r"(?:pytorch_lightning|lightning\.pytorch)\.(?P<place>[\w.]+)\.(?P<name>\w+)")


class ClassKey(str):
    """A class of Lightning's that a file uses as a key: a text, which cannot be called."""

    __slots__ = ()


def class_key(name: str) -> ClassKey:
    """The key for the state of a callback of this class.

    Args:
        name: the class's name, without its module.
    """
    return ClassKey(f"<class {name}>")


def stand_in(full: str) -> Any:
    """What stands for a name in a file; None for a name that is not one of these.

    Args:
        full: module and name.
    """
    found = _OF_LIGHTNING.fullmatch(full)
    if found is None:
        return None
    if found["place"].startswith("callbacks"):
        return class_key(found["name"])
    return dict if (found["place"], found["name"]) == ("utilities.parsing", "AttributeDict") else None
