"""The start of a pass that is the stock loader's in every draw, with the indices in our hands."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from torch.utils.data.dataloader import _DatasetKind, _SingleProcessDataLoaderIter

from fulmen.prefetch.samplers import index_batches, index_spans
from fulmen.prefetch.state import Place


class StockPass(NamedTuple):
    """A pass that has begun.

    Attributes:
        inner: the stock iterator; it has drawn what it draws when it is made.
        sampler: the indices of its batches. If `by_index` is False, `inner` itself.
        by_index: whether the batches are fetched by index, in this process.
        started: whether the sampler was asked for its first index already, for a pass that is taken up within.
    """

    inner: Any
    sampler: Iterator[Any]
    by_index: bool
    started: bool


def begin_pass(loader: Any, place: Place, unwrap: bool = True, spans: bool = False) -> StockPass:
    """Make the loader's iterator, and leave out the batches that a restored place has behind it.

    That is done by their indices where the iterator is the one of a stock loader without workers over a dataset with
    indices; otherwise they are loaded and dropped.

    Args:
        loader: whatever can be iterated over.
        place: the place in its passes.
        unwrap: ask the sampler in the quickest way.
        spans: indices may come as `Span`, which only the core understands.
    """
    left_out = place.begin()
    inner: Any = iter(loader)
    by_index = type(inner) is _SingleProcessDataLoaderIter and inner._dataset_kind == _DatasetKind.Map
    sampler = inner
    if by_index:
        ask = index_spans if spans else index_batches
        sampler = ask(loader, inner) if unwrap else inner._sampler_iter
    started = place.arriving and left_out > 0
    if place.arriving:
        place.begin_sampler()
        deque(islice(sampler, left_out), maxlen=0)
        place.arrive()
    return StockPass(inner, sampler, by_index, started)


def stock_batches(begun: StockPass, place: Place) -> Iterator[Any]:
    """What is left of a pass, as the stock loader makes it."""
    if begun.by_index:
        begun.inner._sampler_iter = begun.sampler
    if not begun.started:
        place.begin_sampler()
    for batch in begun.inner:
        place.taken += 1
        yield batch


def pinned(batch: Any, device: Any) -> Any:
    """A batch in memory that a device can read by itself, as the stock loader copies it there."""
    from torch.utils.data._utils import pin_memory

    copy: Any = pin_memory.pin_memory
    return copy(batch, device)
