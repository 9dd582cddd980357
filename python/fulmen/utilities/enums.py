"""Enumerations of text that compare without regard to case."""

from __future__ import annotations

import warnings
from enum import Enum
from typing import Literal, TypeVar

__all__ = ["GradClipAlgorithmType", "LightningEnum", "StrEnum"]

_E = TypeVar("_E", bound="LightningEnum")
_Source = Literal["key", "value", "any"]


class LightningEnum(str, Enum):
    """Members equal their value as text, in any case: ``Color.RED == "red" == "RED"``."""

    @classmethod
    def from_str(cls: type[_E], value: str, source: _Source = "key") -> _E:
        """Find the member that a text names.

        Args:
            value: the text.
            source: ``"key"`` compares with the members' names, in any case; ``"value"`` with their values;
                ``"any"`` with the names first, then with the values.

        Raises:
            ValueError: no member fits.
        """
        if source != "value":
            for name, member in cls.__members__.items():
                if name.lower() == value.lower():
                    return member
        if source != "key":
            for member in cls.__members__.values():
                if member == value:
                    return member
        raise ValueError(f"Invalid match: expected one of {cls._allowed_matches(source)}, but got {value}.")

    @classmethod
    def try_from_str(cls: type[_E], value: str, source: _Source = "key") -> _E | None:
        """`from_str`, but with a warning and None where that raises."""
        try:
            return cls.from_str(value, source)
        except ValueError:
            allowed = cls._allowed_matches(source)
            warnings.warn(f"Invalid string: expected one of {allowed}, but got {value}.", UserWarning, stacklevel=2)
            return None

    @classmethod
    def _allowed_matches(cls, source: str) -> list[str]:
        names, values = list(cls.__members__), [str(member.value) for member in cls.__members__.values()]
        return {"key": names, "value": values}.get(source, names + values)

    def __eq__(self, other: object) -> bool:
        text = str(other.value if isinstance(other, Enum) else other)
        return bool(text.lower() == self.value.lower())

    def __hash__(self) -> int:
        return hash(self.value.lower())


StrEnum = LightningEnum


class GradClipAlgorithmType(LightningEnum):
    """How gradients are clipped.

    ``VALUE`` clamps every element (`torch.nn.utils.clip_grad_value_`), ``NORM`` scales all gradients together so that
    their norm is at most the given one (`torch.nn.utils.clip_grad_norm_`).
    """

    VALUE = "value"
    NORM = "norm"

    @staticmethod
    def supported_type(val: str) -> bool:
        """Whether ``val`` is the value of a member, case counting."""
        return val in GradClipAlgorithmType.supported_types()

    @staticmethod
    def supported_types() -> list[str]:
        """The values of all members."""
        return [str(member.value) for member in GradClipAlgorithmType]
