"""Batches on their way to a CUDA device, beside the step before.

A program runs ahead of its device: when it asks for the next batch, the device still works on the last step. Copied on a
stream of its own, out of pinned memory, the batch arrives meanwhile, and the next step's work waits for it on the device,
not in the program. Nothing is fetched earlier for that, so that order, draws and place in the data are as without it.

torch keeps both ends of a copy from being used again too early: pinned memory is a pool, from which a block comes back when
the streams that read it have come by, and a tensor's memory on the device waits for the streams that `record_stream` names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fulmen.utilities.move_data import move_data_to_device


class SideStream:
    """Copies batches to a device.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = torch.cuda.Stream(device)

    def send(self, batch: Any) -> Any:
        """The batch on the device, for work that is queued from now on on the stream in use.

        Args:
            batch: as for `move_data_to_device`, which moves what is no plain tensor of the CPU.
        """
        user = torch.cuda.current_stream(self._device)
        moved = move_data_to_device(batch, self._device, lambda tensor: self._copied(tensor, user))
        user.wait_stream(self._stream)
        return moved

    def _copied(self, tensor: Tensor, user: Any) -> Tensor | None:
        """The tensor's copy, made on the side; None: it is of a kind that goes the common way."""
        if type(tensor) is not Tensor or tensor.device.type != "cpu" or tensor.layout is not torch.strided:
            return None
        pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
        with torch.cuda.stream(self._stream):
            copied = pinned.to(self._device, non_blocking=True)
        copied.record_stream(user)
        return copied
