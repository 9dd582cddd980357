"""NVIDIA's GPUs, and AMD's by the same interface."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import torch

from fulmen import errors
from fulmen.accelerators.accelerator import Accelerator
from fulmen.accelerators.gpu_ids import parse_gpu_ids
from fulmen.utilities.rank_zero import rank_zero_info

if TYPE_CHECKING:
    import fulmen as L
    from fulmen.accelerators.registry import _AcceleratorRegistry
    from fulmen.utilities.types import _DEVICE

log = logging.getLogger(__name__)


class CUDAAccelerator(Accelerator):
    """Computing on GPUs."""

    def setup_device(self, device: torch.device) -> None:
        """Makes the device the current one.

        Raises:
            MisconfigurationException: another kind of device.
        """
        if device.type != "cuda":
            raise errors.misconfiguration(
                "device", "a GPU, since the accelerator is `CUDAAccelerator`", str(device), "Pass device='cuda:0'"
            )
        _advise_on_matmul_precision(device)
        torch.cuda.set_device(device)

    def setup(self, trainer: L.Trainer) -> None:
        """Says which GPUs there are, and frees cached memory."""
        self.set_nvidia_flags(trainer.local_rank)
        torch.cuda.empty_cache()

    @staticmethod
    def set_nvidia_flags(local_rank: int) -> None:
        """Numbers the GPUs by their slots, as nvidia-smi does, and logs the visible ones."""
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(num_cuda_devices()))))
        log.info(f"LOCAL_RANK: {local_rank} - CUDA_VISIBLE_DEVICES: [{visible}]")

    def get_device_stats(self, device: _DEVICE) -> dict[str, Any]:
        """The counters of torch's memory allocator (`torch.cuda.memory_stats`)."""
        return torch.cuda.memory_stats(device)

    def teardown(self) -> None:
        """Frees cached memory."""
        torch.cuda.empty_cache()

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int] | None:
        """Indices of the GPUs; see `parse_gpu_ids`."""
        return parse_gpu_ids(devices, "cuda")

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        """The GPUs with these indices."""
        return [torch.device("cuda", index) for index in devices]

    @staticmethod
    def auto_device_count() -> int:
        """All GPUs."""
        return num_cuda_devices()

    @staticmethod
    def is_available() -> bool:
        """Is there a GPU?"""
        return num_cuda_devices() > 0

    @staticmethod
    def name() -> str:
        """``"cuda"``."""
        return "cuda"

    @classmethod
    def register_accelerators(cls, accelerator_registry: _AcceleratorRegistry) -> None:
        """Adds ``"cuda"``."""
        accelerator_registry.register("cuda", cls, description=cls.__name__)


def num_cuda_devices() -> int:
    """Number of GPUs that this process may use. Asking leaves CUDA uninitialised, so that the process can still fork."""
    return torch.cuda.device_count()


def is_cuda_available() -> bool:
    """Is there a GPU? Unlike `torch.cuda.is_available`, this leaves CUDA uninitialised."""
    return num_cuda_devices() > 0


def find_usable_cuda_devices(num_devices: int = -1) -> list[int]:
    """Indices of GPUs that a tensor can be put on, for shared machines on which other processes may own some.

    Args:
        num_devices: how many are needed; −1: all that can be used.

    Returns:
        the indices, ascending.

    Raises:
        ValueError: more were asked for than the machine has.
        RuntimeError: fewer than asked for can be used.
    """
    if num_devices == 0:
        return []
    count = num_cuda_devices()
    if num_devices > count:
        raise errors.value_error(
            "find_usable_cuda_devices(num_devices)",
            f"at most the {count} visible GPUs of this machine",
            num_devices,
            "Ask for fewer, or look at CUDA_VISIBLE_DEVICES",
        )
    usable: list[int] = []
    occupied: list[int] = []
    for index in range(count):
        try:
            torch.tensor(0, device=torch.device("cuda", index))
        except RuntimeError:
            occupied.append(index)
            continue
        usable.append(index)
        if len(usable) == num_devices:
            break
    if num_devices != -1 and len(usable) < num_devices:
        raise errors.runtime_error(
            f"You requested to find {num_devices} devices, but only {len(usable)} can be used: {occupied} are in use by"
            " other processes",
            "Ask for fewer, or wait",
        )
    return usable


def _advise_on_matmul_precision(device: torch.device) -> None:
    """Tells owners of GPUs with tensor cores about the setting that makes 32 bit products use them."""
    if torch.cuda.get_device_capability(device) < (8, 0) or torch.get_float32_matmul_precision() != "highest":
        return
    if os.environ.get("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE") == "1":
        return
    name = torch.cuda.get_device_name(device)
    rank_zero_info(
        f"You are using a CUDA device ({name!r}) that has Tensor Cores. `torch.set_float32_matmul_precision('high')`, or"
        " 'medium', lets 32 bit matrix products use them: faster, with fewer digits."
    )
