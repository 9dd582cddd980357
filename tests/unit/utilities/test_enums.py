"""Enumerations that compare without regard to case."""

from __future__ import annotations

import pytest

from fulmen.utilities.enums import GradClipAlgorithmType, LightningEnum


class Shape(LightningEnum):
    ROUND = "R-1"
    FLAT = "F-1"


def test_equality_and_hash():
    assert Shape.ROUND == "r-1" == Shape.ROUND
    assert Shape.ROUND != "x"
    assert Shape.ROUND != Shape.FLAT
    assert {Shape.ROUND: 1}["r-1"] == 1
    assert isinstance(Shape.ROUND, str)


def test_from_str():
    assert Shape.from_str("round") is Shape.ROUND
    assert Shape.from_str("f-1", source="value") is Shape.FLAT
    assert Shape.from_str("f-1", source="any") is Shape.FLAT
    with pytest.raises(ValueError, match=r"\['ROUND', 'FLAT'\].*f-1"):
        Shape.from_str("f-1")
    with pytest.raises(ValueError, match=r"\['R-1', 'F-1'\]"):
        Shape.from_str("round", source="value")
    with pytest.raises(ValueError, match=r"\['ROUND', 'FLAT', 'R-1', 'F-1'\]"):
        Shape.from_str("nothing", source="any")


def test_try_from_str():
    assert Shape.try_from_str("FLAT") is Shape.FLAT
    with pytest.warns(UserWarning, match="nothing"):
        assert Shape.try_from_str("nothing") is None


def test_clip_algorithms():
    assert GradClipAlgorithmType.supported_types() == ["value", "norm"]
    assert GradClipAlgorithmType.supported_type("norm")
    assert not GradClipAlgorithmType.supported_type("other")
