"""Where a module lives and of which type it is, kept up to date by the methods that move it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class DeviceDtypeMixin(nn.Module):
    """Part of `LightningModule`: ``device`` and ``dtype``."""

    __jit_unused_properties__: list[str] = ["device", "dtype"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dtype: str | torch.dtype = torch.get_default_dtype()
        # a module built within `torch.device(...)` is there from the start
        self._device = torch.get_default_device()

    @property
    def device(self) -> torch.device:
        """The device; for CUDA always with an index."""
        if self._device.type == "cuda" and self._device.index is None:
            return torch.device("cuda", torch.cuda.current_device())
        return self._device

    @property
    def dtype(self) -> str | torch.dtype:
        """The floating-point type."""
        return self._dtype

    @dtype.setter
    def dtype(self, new_dtype: Any) -> None:
        raise RuntimeError("The dtype of a module is set by `module.to(dtype)`.")

    def _note(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        for module in self.modules():
            if isinstance(module, DeviceDtypeMixin):
                if device is not None:
                    module._device = device
                if dtype is not None:
                    module._dtype = dtype

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """As torch's."""
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        self._note(device, dtype)
        return super().to(*args, **kwargs)

    def cuda(self, device: torch.device | int | None = None) -> Any:
        """As torch's."""
        if device is None:
            device = torch.device("cuda", torch.cuda.current_device())
        elif isinstance(device, int):
            device = torch.device("cuda", device)
        self._note(device)
        return super().cuda(device)

    def cpu(self) -> Any:
        """As torch's."""
        self._note(torch.device("cpu"))
        return super().cpu()

    def type(self, dst_type: Any) -> Any:
        """As torch's."""
        self._note(dtype=dst_type)
        return super().type(dst_type)

    def float(self) -> Any:
        """As torch's."""
        self._note(dtype=torch.float)
        return super().float()

    def double(self) -> Any:
        """As torch's."""
        self._note(dtype=torch.double)
        return super().double()

    def half(self) -> Any:
        """As torch's."""
        self._note(dtype=torch.half)
        return super().half()
