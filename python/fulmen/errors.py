"""Every error that a user can meet is built here: one table of message templates, one function per exception type.

A message always answers four questions, in this order: which argument (or place), what was expected there, what came
instead, and what cures it. Write ``raise misconfiguration(...)`` or ``raise value_error(...)``: the functions build the
exception and leave the raising to the caller, so that the traceback ends where the mistake was noticed.

`MisconfigurationException` itself lives in `fulmen.utilities.exceptions`, where Lightning's users look for it.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = [
    "TEMPLATES",
    "NotYet",
    "Words",
    "attribute_error",
    "describe",
    "file_not_found",
    "key_error",
    "misconfiguration",
    "missing_name",
    "missing_package",
    "removed",
    "runtime_error",
    "show",
    "type_error",
    "value_error",
]

#: The one place where messages are worded: kind of mistake → template, filled by the functions below.
TEMPLATES: Final[dict[str, str]] = {
    "argument": "{argument}: expected {expected}, received {received}. {cure}",
    "state": "{what}. {cure}",
    "not_yet": "{what} is not available in this version of fulmen. {instead}",
    "missing_package": "{purpose} needs the package `{package}`, which is not installed. Install it: pip install {pip}",
    "missing_name": "fulmen has no `{name}` (asked for as `{asked}`). {cure}",
    "removed": "{old} was removed in Lightning 2.0 and has no single replacement. {cure}",
}

_LONGEST_REPR: Final = 200


class NotYet(NotImplementedError):
    """Raised by a part of the public API whose implementation does not exist yet.

    Cure: do what `instead` says. Nothing that is not built is accepted and then ignored.

    Args:
        what: the thing that was asked for, as the user wrote it.
        instead: a sentence that says what to use until it exists.
    """

    def __init__(self, what: str, instead: str) -> None:
        self.what = what
        self.instead = instead
        super().__init__(TEMPLATES["not_yet"].format(what=what, instead=_sentence(instead)))

    def __reduce__(self) -> tuple[type[NotYet], tuple[str, str]]:
        return type(self), (self.what, self.instead)


class Words(str):
    """Text for `received` that describes instead of quoting: ``Words("no loader at all")`` appears without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def show(value: Any) -> str:
    """A value as it appears in a message: its repr, cut to 200 characters, with the type where the repr hides it."""
    if value is None or isinstance(value, (bool, int, float, Words)):
        return repr(value)
    try:
        text = repr(value)
    except Exception:
        text = "an object without repr"
    if len(text) > _LONGEST_REPR:
        text = f"{text[: _LONGEST_REPR - 1]}…"
    return text if isinstance(value, (str, bytes, list, tuple, dict)) else f"{text} ({type(value).__qualname__})"


def describe(argument: str, expected: str, received: Any, cure: str) -> str:
    """The message "argument: expected …, received …. cure" for an exception type that has no function of its own here.

    Args:
        argument: name of the argument or place, as the user spells it: ``"Trainer(max_epochs)"``, ``"training_step"``.
        expected: what would have been right, a noun phrase.
        received: the value that came (shown with `show`), or `Words` to describe it.
        cure: a sentence that says what to do.
    """
    return TEMPLATES["argument"].format(
        argument=argument, expected=expected.rstrip("."), received=show(received), cure=_sentence(cure)
    )


def misconfiguration(argument: str, expected: str, received: Any, cure: str) -> Exception:
    """A `MisconfigurationException`: arguments or hooks that contradict each other. Arguments as for `describe`."""
    # imported here, since utilities lie below this module and may themselves want its helpers
    from fulmen.utilities.exceptions import MisconfigurationException

    return MisconfigurationException(describe(argument, expected, received, cure))


def value_error(argument: str, expected: str, received: Any, cure: str) -> ValueError:
    """A `ValueError`: the right type, an impossible value. Arguments as for `describe`."""
    return ValueError(describe(argument, expected, received, cure))


def type_error(argument: str, expected: str, received: Any, cure: str) -> TypeError:
    """A `TypeError`: a value of a type that can mean nothing here. Arguments as for `describe`."""
    return TypeError(describe(argument, expected, received, cure))


def runtime_error(what: str, cure: str) -> RuntimeError:
    """A `RuntimeError`: something done at the wrong moment. `what` says what happened, `cure` what to do instead."""
    return RuntimeError(TEMPLATES["state"].format(what=what.rstrip("."), cure=_sentence(cure)))


def attribute_error(what: str, cure: str) -> AttributeError:
    """An `AttributeError`: something asked for that is not there (yet)."""
    return AttributeError(TEMPLATES["state"].format(what=what.rstrip("."), cure=_sentence(cure)))


def key_error(what: str, cure: str) -> KeyError:
    """A `KeyError`: a file or a mapping that lacks an entry."""
    return KeyError(TEMPLATES["state"].format(what=what.rstrip("."), cure=_sentence(cure)))


def file_not_found(argument: str, path: Any, cure: str) -> FileNotFoundError:
    """A `FileNotFoundError` for a path that the user gave."""
    return FileNotFoundError(describe(argument, "a path that exists", str(path), cure))


def missing_package(package: str, purpose: str, pip: str | None = None) -> ModuleNotFoundError:
    """A `ModuleNotFoundError` for an optional integration, naming the pip command.

    Args:
        package: name that is imported.
        purpose: what needs it: ``"TensorBoardLogger"``.
        pip: what to give to ``pip install``, if that differs from `package`.
    """
    message = TEMPLATES["missing_package"].format(purpose=purpose, package=package, pip=pip or package)
    return ModuleNotFoundError(message, name=package)


def missing_name(asked: str, name: str, cure: str) -> ImportError:
    """An `ImportError` for a name of Lightning's packages that fulmen does not have.

    Args:
        asked: the path as the user's code spells it.
        name: the path that it stands for in fulmen.
        cure: what to use instead.
    """
    return ImportError(TEMPLATES["missing_name"].format(asked=asked, name=name, cure=_sentence(cure)), name=asked)


def removed(old: str, cure: str) -> TypeError:
    """A `TypeError` for a 1.x argument that cannot be translated; `cure` gives the new form."""
    return TypeError(TEMPLATES["removed"].format(old=old, cure=_sentence(cure)))


def _sentence(text: str) -> str:
    """`text`, ending with a full stop if it ends with none of its own punctuation."""
    text = text.strip()
    return text if not text or text[-1] in ".!?)`'\"" else f"{text}."
