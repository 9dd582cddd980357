"""The processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fulmen import errors
from fulmen.accelerators.accelerator import Accelerator

if TYPE_CHECKING:
    from fulmen.accelerators.registry import _AcceleratorRegistry
    from fulmen.utilities.types import _DEVICE


class CPUAccelerator(Accelerator):
    """Computing on the processor. Its "devices" are processes."""

    def setup_device(self, device: torch.device) -> None:
        """Checks that the device is the CPU.

        Raises:
            MisconfigurationException: another device.
        """
        if device.type != "cpu":
            raise errors.misconfiguration(
                "device", "the CPU, since the accelerator is `CPUAccelerator`", str(device), "Pass device='cpu'"
            )

    def get_device_stats(self, device: _DEVICE) -> dict[str, Any]:
        """Load of the processor, used memory and used swap space, in percent."""
        return get_cpu_stats()

    def teardown(self) -> None:
        """Nothing is left to be done."""

    @staticmethod
    def parse_devices(devices: int | str) -> int:
        """The number of processes.

        Raises:
            TypeError: no positive number.
        """
        count = int(devices) if isinstance(devices, str) and devices.strip().isdigit() else devices
        if not isinstance(count, int) or count <= 0:
            raise errors.type_error(
                "Trainer(devices)",
                "`devices` selected with `CPUAccelerator` should be an int > 0",
                devices,
                "Pass the number of processes, for example devices=1",
            )
        return count

    @staticmethod
    def get_parallel_devices(devices: int | str) -> list[torch.device]:
        """The CPU, as many times as there are processes."""
        return [torch.device("cpu")] * CPUAccelerator.parse_devices(devices)

    @staticmethod
    def auto_device_count() -> int:
        """One process."""
        return 1

    @staticmethod
    def is_available() -> bool:
        """True."""
        return True

    @staticmethod
    def name() -> str:
        """``"cpu"``."""
        return "cpu"

    @classmethod
    def register_accelerators(cls, accelerator_registry: _AcceleratorRegistry) -> None:
        """Adds ``"cpu"``."""
        accelerator_registry.register("cpu", cls, description=cls.__name__)


def get_cpu_stats() -> dict[str, float]:
    """Load of the processor since the last call, used memory and used swap space, in percent.

    Raises:
        ModuleNotFoundError: psutil is missing.
    """
    try:
        import psutil
    except ModuleNotFoundError:
        raise errors.missing_package("psutil", "Fetching CPU device stats") from None
    return {
        "cpu_percent": psutil.cpu_percent(),
        "cpu_vm_percent": psutil.virtual_memory().percent,
        "cpu_swap_percent": psutil.swap_memory().percent,
    }
