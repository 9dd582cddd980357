"""How a batch gets to the device: the three transfer hooks, or nothing at all where nothing would happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fulmen.core.hooks import DataHooks
from fulmen.precision.double import DoublePrecision
from fulmen.precision.half import HalfPrecision
from fulmen.precision.precision import Precision
from fulmen.strategies.single_device import SingleDeviceStrategy
from fulmen.trainer.hook_table import overrides
from fulmen.trainer.side_stream import SideStream
from fulmen.utilities.model_helpers import is_overridden

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

Transfer = Callable[[Any, int], Any]
HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def owner_of(trainer: Trainer, hook: str) -> Any:
    """Whose version of a transfer hook counts: the data module's where it overrides it, else the module's."""
    datamodule = trainer.datamodule
    if datamodule is not None and is_overridden(hook, datamodule):
        return datamodule
    return trainer.lightning_module


def make_transfer(trainer: Trainer, step_name: str) -> Transfer | None:
    """``transfer(batch, dataloader_idx) -> batch`` for this loop, or None if batches can be taken as they are."""
    strategy = trainer.strategy
    precision = strategy.precision_plugin
    converts = overrides(precision, "convert_input", Precision) or isinstance(
        precision, (DoublePrecision, HalfPrecision)
    )
    hooked = any(overrides(owner_of(trainer, hook), hook, DataHooks) for hook in HOOKS)
    stays = strategy.root_device.type == "cpu" and not overrides(strategy, "batch_to_device", SingleDeviceStrategy)
    if not converts and not hooked and stays and isinstance(strategy, SingleDeviceStrategy):
        return None
    convert = precision.convert_input if converts else None
    if _may_copy_aside(trainer, hooked):
        send = SideStream(strategy.root_device).send
        return lambda batch, dataloader_idx: send(batch if convert is None else convert(batch))
    before = owner_of(trainer, HOOKS[0]).on_before_batch_transfer
    to_device = strategy.batch_to_device

    def transfer(batch: Any, dataloader_idx: int) -> Any:
        if convert is not None:
            batch = convert(batch)
        trainer._hook = "on_before_batch_transfer"
        batch = before(batch, dataloader_idx)
        trainer._hook = "transfer_batch_to_device"
        batch = to_device(batch, dataloader_idx=dataloader_idx)
        trainer._hook = None
        return batch

    return transfer


def _may_copy_aside(trainer: Trainer, hooked: bool) -> bool:
    """Is it a CUDA device, and nobody has a say in how a batch gets there?"""
    strategy = trainer.strategy
    return (
        not hooked
        and strategy.root_device.type == "cuda"
        and type(strategy) is SingleDeviceStrategy
        and trainer._config.prefetch != "off"
    )
