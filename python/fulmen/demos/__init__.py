"""Small modules and data for examples, bug reports and tests."""

from fulmen.demos.boring_classes import BoringDataModule, BoringModel, DemoModel

__all__ = ["BoringDataModule", "BoringModel", "DemoModel"]
