"""Lengths and sizes of batches and loaders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from fulmen.utilities.exceptions import MisconfigurationException
from fulmen.utilities.nested import is_dataclass_instance
from fulmen.utilities.rank_zero import WarningCache, rank_zero_warn

if TYPE_CHECKING:
    from fulmen.strategies.strategy import Strategy

BType = Any

warning_cache = WarningCache()


def extract_batch_size(batch: BType) -> int:
    """Find the number of samples in a batch.

    Args:
        batch: nested dictionaries, iterables and dataclasses of tensors.

    Returns:
        The first dimension of the first tensor found, 1 for a 0-dim one. If others differ, a warning says so.

    Raises:
        MisconfigurationException: there is no tensor.
        RecursionError: the batch contains itself.
    """
    sizes = _sizes(batch)
    try:
        first = next((size for size in sizes if size is not None), None)
        if first is not None and any(size != first for size in sizes):
            warning_cache.warn(
                "Trying to infer the `batch_size` from an ambiguous collection. The batch size we found is"
                f" {first}. To avoid any miscalculations, use `self.log(..., batch_size=batch_size)`."
            )
    except RecursionError:
        raise RecursionError(_NO_SIZE) from None
    if first is None:
        raise MisconfigurationException(_NO_SIZE)
    return first


_NO_SIZE = (
    "We could not infer the batch_size from the batch. Either simplify its structure or provide the batch_size as"
    " `self.log(..., batch_size=batch_size)`."
)


def _sizes(batch: Any) -> Iterator[int | None]:
    """The size that each leaf tells, None for leaves that are no tensors."""
    if isinstance(batch, Tensor):
        yield batch.shape[0] if batch.ndim else 1
    elif isinstance(batch, str) or not isinstance(batch, Iterable):
        if is_dataclass_instance(batch):
            for name in (field.name for field in fields(batch)):  # type: ignore[arg-type]  # a dataclass by then
                yield from _sizes(getattr(batch, name))
        else:
            yield None
    else:
        for part in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _sizes(part)


def has_iterable_dataset(dataloader: object) -> bool:
    """Whether a loader reads from an `IterableDataset`."""
    return isinstance(getattr(dataloader, "dataset", None), IterableDataset)


def sized_len(dataloader: object) -> int | None:
    """``len(dataloader)``, or None if it has no length or says so with NotImplementedError."""
    try:
        return len(dataloader)  # type: ignore[arg-type]  # asked for its length on trial
    except (TypeError, NotImplementedError):
        return None


def has_len(dataloader: object) -> TypeGuard[Sized]:
    """Whether an object has a length, with warnings if that is 0 or belongs to an `IterableDataset`."""
    length = sized_len(dataloader)
    if length is None:
        return False
    if length == 0:
        rank_zero_warn(f"`{type(dataloader).__name__}` returned 0 length. Please make sure this was your intention.")
    _warn_iterable_with_len(dataloader)
    return True


def has_len_all_ranks(
    dataloader: object, strategy: Strategy, allow_zero_length_dataloader_with_multiple_devices: bool = False
) -> TypeGuard[Sized]:
    """Whether a loader has a length, which all ranks have to ask together.

    Args:
        dataloader: the loader of this rank.
        strategy: the running strategy, which sums the lengths.
        allow_zero_length_dataloader_with_multiple_devices: a loader that is empty on this rank only is a warning.

    Raises:
        RuntimeError: the loader is empty on this rank, and not on others.
    """
    length = sized_len(dataloader)
    if length is None:
        return False
    name = type(dataloader).__name__
    total = strategy.reduce(torch.tensor(length, device=strategy.root_device), reduce_op="sum")
    if total == 0:
        rank_zero_warn(f"Total length of `{name}` across ranks is zero. Please make sure this was your intention.")
    elif length == 0 and not allow_zero_length_dataloader_with_multiple_devices:
        raise RuntimeError(
            f"`{name}` within local rank has zero length. Please make sure that it returns at least 1 batch, or set"
            " `allow_zero_length_dataloader_with_multiple_devices = True` on the module or data module."
        )
    elif length == 0:
        rank_zero_warn(
            f"`{name}` has zero length on the local rank, and batches on others. Collectives inside hooks will hang if"
            " not all ranks reach them."
        )
    _warn_iterable_with_len(dataloader)
    return True


def _warn_iterable_with_len(dataloader: object) -> None:
    if has_iterable_dataset(dataloader):
        rank_zero_warn(
            "Your `IterableDataset` has `__len__` defined. In combination with multi-process data loading (when"
            " num_workers > 1), `__len__` could be inaccurate if each worker is not configured independently to avoid"
            " having duplicate data."
        )


def suggested_max_num_workers(local_world_size: int) -> int:
    """How many workers a `DataLoader` can use at most without taking the processors from its own process.

    Args:
        local_world_size: number of processes of the run on this machine.

    Raises:
        ValueError: there is not even one.
    """
    if local_world_size < 1:
        raise ValueError(f"`local_world_size` should be >= 1, got {local_world_size}.")
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, processors // local_world_size - 1)
