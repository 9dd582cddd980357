"""Moving batches and optimizer state between devices, and creating modules without initialising them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    import fulmen as L


def transfer_batch(module: L.LightningModule | None, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
    """A batch on a device, moved by the hooks of data module or module, or directly where there is no module."""
    if module is None:
        from fulmen.utilities.move_data import move_data_to_device

        return move_data_to_device(batch, device)
    trainer = module._trainer
    if trainer is None:
        batch = module.transfer_batch_to_device(batch, device, dataloader_idx)
        return module.on_after_batch_transfer(batch, dataloader_idx)
    # the choice between module and data module is the trainer's, whose modules import this one
    from fulmen.trainer.transfer import owner_of

    for hook, args in (("transfer_batch_to_device", (device,)), ("on_after_batch_transfer", ())):
        before, trainer._hook = trainer._hook, hook
        batch = getattr(owner_of(trainer, hook), hook)(batch, *args, dataloader_idx)
        trainer._hook = before
    return batch


def move_optimizers(optimizers: Iterable[Optimizer], device: torch.device) -> None:
    """Moves the optimizers' state, in place.

    Args:
        optimizers: torch's optimizers, or anything with their ``state``.
        device: where to. The counts of steps (``"step"``) stay where the optimizer put them: most optimizers read them
            on the CPU, also if the weights are elsewhere.
    """
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            if isinstance(state, dict):
                for name, value in state.items():
                    if name != "step":
                        state[name] = _moved(value, device)
            else:
                optimizer.state[parameter] = _moved(state, device)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    from fulmen.utilities.move_data import move_data_to_device

    return move_data_to_device(value, device)


class EmptyInit(TorchFunctionMode):
    """Context in which the functions of `torch.nn.init` leave tensors as they are."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Returns the tensor to initialise, or calls ``func``."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def leave_map(optimizer: Optimizer) -> None:
    """Gives tensors of an optimizer's state memory of their own where they look at a mapped file.

    A run outlives the file that it started from, which somebody may truncate.
    """
    for state in optimizer.state.values():
        if not isinstance(state, dict):
            continue
        for name, value in state.items():
            # memory that torch did not allocate cannot be resized
            dense = isinstance(value, Tensor) and value.is_cpu and not value.is_sparse and value.numel() > 0
            if dense and not value.untyped_storage().resizable():
                state[name] = value.clone()
