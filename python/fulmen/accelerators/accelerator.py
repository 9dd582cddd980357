"""Base of the accelerators: one kind of hardware each, and what has to be known about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch

from fulmen.errors import NotYet

if TYPE_CHECKING:
    import fulmen as L
    from fulmen.accelerators.registry import _AcceleratorRegistry
    from fulmen.utilities.types import _DEVICE


class Accelerator(ABC):
    """A kind of hardware: how its devices are asked for, prepared and left."""

    @abstractmethod
    def setup_device(self, device: torch.device) -> None:
        """Prepares a device; the first thing that happens to it in a run."""

    def setup(self, trainer: L.Trainer) -> None:
        """Called before the module is moved to the device."""

    @abstractmethod
    def teardown(self) -> None:
        """Called at the end of a run."""

    def get_device_stats(self, device: _DEVICE) -> dict[str, Any]:
        """Figures of a device's load and memory, by name.

        Args:
            device: the device.

        Raises:
            NotYet: this kind of hardware has none.
        """
        raise NotYet(f"{type(self).__qualname__}.get_device_stats", "Override it, or leave DeviceStatsMonitor out")

    @staticmethod
    @abstractmethod
    def parse_devices(devices: Any) -> Any:
        """Checks what ``Trainer(devices=...)`` got, and brings it into the form for `get_parallel_devices`."""

    @staticmethod
    @abstractmethod
    def get_parallel_devices(devices: Any) -> Any:
        """The devices that the result of `parse_devices` stands for, a list of `torch.device`."""

    @staticmethod
    @abstractmethod
    def auto_device_count() -> int:
        """How many devices ``devices="auto"`` uses."""

    @staticmethod
    @abstractmethod
    def is_available() -> bool:
        """Is there such hardware here, ready to be used?"""

    @staticmethod
    @abstractmethod
    def name() -> str:
        """The name for ``Trainer(accelerator=...)``."""

    @classmethod
    def register_accelerators(cls, accelerator_registry: _AcceleratorRegistry) -> None:
        """Adds the names under which this class can be asked for."""
