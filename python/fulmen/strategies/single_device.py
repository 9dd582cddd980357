"""Everything on one device, in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from fulmen.strategies.strategy import Strategy

if TYPE_CHECKING:
    from fulmen.accelerators.accelerator import Accelerator
    from fulmen.plugins.io.checkpoint_io import CheckpointIO
    from fulmen.precision.precision import Precision
    from fulmen.strategies.registry import _StrategyRegistry
    from fulmen.utilities.types import _DEVICE

T = TypeVar("T")


class SingleDeviceStrategy(Strategy):
    """Training on one device.

    Args:
        device: the device: ``"cpu"``, ``"cuda:1"``, the number of a GPU, or a `torch.device`.
        accelerator: the hardware. None: the trainer sets it.
        checkpoint_io: reads and writes checkpoint files.
        precision_plugin: the precision.
    """

    strategy_name = "single_device"

    def __init__(
        self,
        device: _DEVICE = "cpu",
        accelerator: Accelerator | None = None,
        checkpoint_io: CheckpointIO | None = None,
        precision_plugin: Precision | None = None,
    ) -> None:
        super().__init__(accelerator=accelerator, checkpoint_io=checkpoint_io, precision_plugin=precision_plugin)
        self._root_device = torch.device(device)
        # what code for several processes asks a strategy for
        self.global_rank = 0
        self.local_rank = 0
        self.world_size = 1

    @property
    def root_device(self) -> torch.device:
        """The one device."""
        return self._root_device

    def model_to_device(self) -> None:
        """Moves the module to the device, and makes a GPU the current one."""
        if self.root_device.type == "cuda":
            torch.cuda.set_device(self.root_device)
        if self.model is not None:
            self.model.to(self.root_device)

    @property
    def is_global_zero(self) -> bool:
        """True: there is only this process."""
        return True

    def reduce(self, tensor: Tensor | Any, *args: Any, **kwargs: Any) -> Tensor | Any:
        """The value itself."""
        return tensor

    def all_gather(self, tensor: Tensor, group: Any | None = None, sync_grads: bool = False) -> Tensor:
        """The tensor itself, without a new dimension."""
        return tensor

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        """Returns at once."""

    def broadcast(self, obj: T, src: int = 0) -> T:
        """The object itself."""
        return obj

    @classmethod
    def register_strategies(cls, strategy_registry: _StrategyRegistry) -> None:
        """Adds ``"single_device"``."""
        strategy_registry.register(cls.strategy_name, cls, description="Everything on one device, in one process")
