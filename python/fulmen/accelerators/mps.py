"""The GPU of Apple's processors."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from fulmen import errors
from fulmen.accelerators.accelerator import Accelerator
from fulmen.accelerators.gpu_ids import parse_gpu_ids

if TYPE_CHECKING:
    from fulmen.accelerators.registry import _AcceleratorRegistry
    from fulmen.utilities.types import _DEVICE


class MPSAccelerator(Accelerator):
    """Computing with Metal on Apple's processors; there is one device."""

    def setup_device(self, device: torch.device) -> None:
        """Checks that the device is the right one.

        Raises:
            MisconfigurationException: another device.
        """
        if device.type != "mps":
            raise errors.misconfiguration(
                "device", "an MPS device, since the accelerator is `MPSAccelerator`", str(device), "Pass device='mps'"
            )

    def get_device_stats(self, device: _DEVICE) -> dict[str, Any]:
        """Memory of the process on the GPU in bytes, and the processor's load in percent."""
        from fulmen.accelerators.cpu import get_cpu_stats

        load = get_cpu_stats()
        return {
            "M1_vm_percent": load["cpu_vm_percent"],
            "M1_percent": load["cpu_percent"],
            "M1_swap_percent": load["cpu_swap_percent"],
        }

    def teardown(self) -> None:
        """Nothing is left to be done."""

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int] | None:
        """Indices of the GPUs, ``[0]``; see `parse_gpu_ids`."""
        return parse_gpu_ids(devices, "mps")

    @staticmethod
    def get_parallel_devices(devices: int | str | list[int]) -> list[torch.device]:
        """The GPU."""
        indices = MPSAccelerator.parse_devices(devices) or []
        return [torch.device("mps", index) for index in indices]

    @staticmethod
    def auto_device_count() -> int:
        """There is one."""
        return 1

    @staticmethod
    def is_available() -> bool:
        """Does this machine have one, and was torch built for it?"""
        return _is_available()

    @staticmethod
    def name() -> str:
        """``"mps"``."""
        return "mps"

    @classmethod
    def register_accelerators(cls, accelerator_registry: _AcceleratorRegistry) -> None:
        """Adds ``"mps"``."""
        accelerator_registry.register("mps", cls, description=cls.__name__)


@lru_cache(1)
def _is_available() -> bool:
    if not torch.backends.mps.is_available():
        return False
    import platform

    return platform.processor() in ("arm", "arm64")
