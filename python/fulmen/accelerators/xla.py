"""TPUs: the name, not yet the thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fulmen.accelerators.accelerator import Accelerator
from fulmen.errors import NotYet

if TYPE_CHECKING:
    from fulmen.accelerators.registry import _AcceleratorRegistry

_INSTEAD = "Use accelerator='cuda' or accelerator='cpu'"


class XLAAccelerator(Accelerator):
    """Computing on TPUs.

    Raises:
        NotYet: on every use.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotYet("XLAAccelerator", _INSTEAD)

    def setup_device(self, device: torch.device) -> None:
        """Raises `NotYet`."""
        raise NotYet("XLAAccelerator.setup_device", _INSTEAD)

    def teardown(self) -> None:
        """Raises `NotYet`."""
        raise NotYet("XLAAccelerator.teardown", _INSTEAD)

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> int | list[int]:
        """Raises `NotYet`."""
        raise NotYet("XLAAccelerator.parse_devices", _INSTEAD)

    @staticmethod
    def get_parallel_devices(devices: int | list[int]) -> list[torch.device]:
        """Raises `NotYet`."""
        raise NotYet("XLAAccelerator.get_parallel_devices", _INSTEAD)

    @staticmethod
    def auto_device_count() -> int:
        """None can be used."""
        return 0

    @staticmethod
    def is_available() -> bool:
        """False: whatever the machine has, this class cannot use it."""
        return False

    @staticmethod
    def name() -> str:
        """``"tpu"``."""
        return "tpu"

    @classmethod
    def register_accelerators(cls, accelerator_registry: _AcceleratorRegistry) -> None:
        """Adds ``"tpu"``."""
        accelerator_registry.register("tpu", cls, description=cls.__name__)
