"""Which source a loader gets."""

from __future__ import annotations

import logging
import sys
from typing import Any

from torch.utils.data import DataLoader, MapDataPipe
from torch.utils.data.dataloader import _DatasetKind

from fulmen.prefetch import look_ahead
from fulmen.prefetch.gather import GatherSource, reason_against
from fulmen.prefetch.look_ahead import LookAheadSource
from fulmen.prefetch.plain import PlainSource
from fulmen.prefetch.seeding import Seeding
from fulmen.prefetch.source import Source
from fulmen.utilities.types import _Stateful

Mode = str | int
"""``Trainer(prefetch=...)``: find the fastest source, use loaders as they are, or make so many batches ahead."""

_log = logging.getLogger(__name__)

#: methods of a DataLoader whose overriding changes what its batches are, in a way that nobody else can know
_DECISIVE = (
    "__iter__",
    "__next__",
    "_get_iterator",
    "_index_sampler",
    "_auto_collation",
    "__getattribute__",
    "__len__",
)


def choose(loader: Any, mode: Mode = "auto", seeding: Seeding = "batch") -> Source:
    """The fastest source that gives exactly this loader's batches.

    Args:
        loader: whatever can be iterated over.
        mode: "auto"; "off": the loader as it is; a number: make at most so many batches ahead.
        seeding: how worker processes seed their random generators.
    """
    source = _choose(loader, mode, seeding)
    _log.debug("prefetch: %s", source)
    return source


def _choose(loader: Any, mode: Mode, seeding: Seeding) -> Source:
    if mode == "off" or mode == 0:
        return PlainSource(loader, "prefetching is switched off")
    if not isinstance(loader, DataLoader):
        return PlainSource(loader, f"{type(loader).__name__} is no torch DataLoader")
    if isinstance(loader, _Stateful):
        return PlainSource(loader, "it keeps its own state")
    changed = overridden(loader)
    if changed is not None:
        return PlainSource(loader, f"{type(loader).__name__} has its own {changed}")
    if loader._dataset_kind != _DatasetKind.Map:
        return PlainSource(loader, "its dataset is an iterable")
    if loader.num_workers > 0:
        return _with_workers(loader, mode, seeding)
    reason = reason_against(loader)
    if reason is None:
        return GatherSource(loader, None if mode == "auto" else int(mode))
    against = look_ahead.reason_against(loader)
    if against is None:
        return LookAheadSource(loader, reason, look_ahead.DEPTH if mode == "auto" else int(mode))
    return PlainSource(loader, f"{reason}, and {against}")


def _with_workers(loader: DataLoader[Any], mode: Mode, seeding: Seeding) -> Source:
    if sys.platform != "linux":
        return PlainSource(loader, "memory without a name, which its workers would share, is Linux's")
    if isinstance(loader.dataset, MapDataPipe) or not loader.prefetch_factor:
        return PlainSource(loader, "the stock loader alone knows how its workers are to be used")
    from fulmen.prefetch.workers import WorkersSource

    return WorkersSource(loader, seeding, None if mode == "auto" else int(mode))


def overridden(loader: DataLoader[Any]) -> str | None:
    """The first method with which a subclass of DataLoader makes its batches itself, None if there is none."""
    cls = type(loader)
    if cls is DataLoader:
        return None
    return next((name for name in _DECISIVE if getattr(cls, name, None) is not getattr(DataLoader, name, None)), None)
