"""Lightning's path for `fulmen.precision.transformer_engine`."""

from fulmen.precision.transformer_engine import TransformerEnginePrecision

__all__ = ["TransformerEnginePrecision"]
