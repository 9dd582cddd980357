"""What users subclass: modules and data modules."""

from fulmen.core.datamodule import LightningDataModule
from fulmen.core.module import LightningModule

__all__ = ["LightningDataModule", "LightningModule"]
