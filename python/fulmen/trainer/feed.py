"""One pass over the loaders of a stage: the iterator that the loops run on."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

from fulmen.utilities.combined_loader import CombinedLoader, Item
from fulmen.utilities.data import sized_len

_END: Any = object()


class Feed(Iterator[Item]):
    """Iterates over one epoch, and knows which batch is the last one.

    The constructor starts the loaders. With a length, nothing is fetched before it is asked for. Without one, a batch
    is always held ready, because only that tells whether there is another.

    A ``for`` loop over the feed pays the step of a generator on top of the user's own iterator; ``next(feed)`` pays a
    call more.

    Args:
        combined: the loaders, with their limits set.
        restored: the loaders' own state was loaded, so that they stand where the last run left them.

    Attributes:
        last: whether the batch just given is the epoch's last one. Stays False if a loader ends before its length.
        length: number of batches of the whole epoch, None if nobody knows.
        ahead: how many batches were fetched and not yet given.
        sequential: whether loaders come one after the other, so that ``dataloader_idx`` means something.
    """

    def __init__(self, combined: CombinedLoader, restored: bool = False) -> None:
        self.last = False
        self.ahead = 0
        self.sequential = combined._mode == "sequential"
        self._combined = combined
        self._restored = restored
        self._offset = 0
        self._done = 0
        iter(combined)
        self.length = sized_len(combined)
        if self.length is None:
            items = _items_of(combined)
            self._items = self._looked_ahead(items, next(items, _END))
        else:
            self._items = self._counted(0, self.length)

    def __iter__(self) -> Iterator[Item]:
        return self._items

    def __next__(self) -> Item:
        return next(self._items)

    def skip(self, batches: int) -> None:
        """Leave out the batches that an interrupted run has had already. Call it before the first batch.

        Loaders that keep their own state stand behind them by themselves; others fetch and drop them.

        Args:
            batches: how many. They count for the length, and the indices go on after them.
        """
        self._done = batches
        if not self._restored:
            deque(itertools.islice(self._items, batches), maxlen=0)
        elif self.length is not None:
            self._items = self._counted(batches, self.length)
        elif not self.sequential:
            self._offset = batches

    def batches(self) -> Iterator[Any]:
        """The batches alone.

        Those of a single loader with a length come from the loader's own iterator, with nothing in between; then `last`
        stays False, since whoever counts knows better.
        """
        if self.length is not None and _is_plain(self._combined):
            return itertools.islice(self._combined._running[0], max(0, self.length - self._done))
        return (item[0] for item in self)

    def _counted(self, done: int, length: int) -> Generator[Item, None, None]:
        """``length - done`` batches, or less if the loaders end."""
        combined, final = self._combined, length - 1
        # the numbers come first in the zips: a loader must not be asked for a batch beyond the last
        if _is_plain(combined):
            for index, batch in zip(range(done, length), combined._running[0], strict=False):
                if index == final:
                    self.last = True
                yield batch, index, 0
        else:
            for index, item in zip(range(done, length), _items_of(combined), strict=False):
                if index == final:
                    self.last = True
                yield item if self.sequential else (item[0], index, 0)

    def _looked_ahead(self, items: Iterator[Item], ahead: Any) -> Generator[Item, None, None]:
        """All batches, the next one fetched before each is given."""
        self.ahead = 1
        while ahead is not _END:
            item, ahead = ahead, next(items, _END)
            if ahead is _END:
                self.last = True
                self.ahead = 0
            yield item if not self._offset else (item[0], item[1] + self._offset, item[2])

    def as_iterator_argument(self, fetched: Callable[[Item], None] | None = None) -> Turns:
        """The same pass for a step that takes ``dataloader_iter`` and fetches by itself.

        Args:
            fetched: called with each batch, its index and its loader's index, as the step fetches it.
        """
        return Turns(self, fetched)

    def close(self) -> None:
        """End the pass and let go of the loaders' iterators, with them of workers that serve one pass only."""
        # the generator refers to this object and this object to it: without closing, only the collector would end it
        self._items.close()
        self._combined._running.clear()

    def reset(self) -> None:
        """End the pass, and all workers of the loaders."""
        self.close()
        self._combined.reset()


class StepIterator(Iterator[Item]):
    """What a step with the parameter ``dataloader_iter`` gets: ``next`` gives ``(batch, batch_idx, dataloader_idx)``.

    Attributes:
        fetched: how many batches the steps have taken.
        done: whether the last one is gone.
        length: number of batches, None if nobody knows.
        item: what was taken last.
    """

    def __init__(self, feed: Feed, fetched: Callable[[Item], None] | None = None) -> None:
        self._feed = feed
        self._on_fetch = fetched
        self.fetched = 0
        self.length = feed.length
        self.done = feed.length == 0
        self.item: Item = (None, 0, 0)

    def __next__(self) -> Item:
        self.item = next(self._feed, _END)
        if self.item is _END:
            self.item, self.done = (None, 0, 0), True
            raise StopIteration
        self.fetched += 1
        self.done = self._feed.last
        if self._on_fetch is not None:
            self._on_fetch(self.item)
        return self.item


class Turns(Iterator[Item]):
    """Gives the loop a `StepIterator` in place of each batch, until its last batch is gone.

    Attributes:
        last: whether the step about to run is the last one, if it takes one batch; never known without a length.
        length: number of batches of the whole epoch, None if nobody knows.
        sequential: as that of the feed.
    """

    def __init__(self, feed: Feed, fetched: Callable[[Item], None] | None = None) -> None:
        self._batches = StepIterator(feed, fetched)
        self.length = feed.length
        self.sequential = feed.sequential

    @property
    def last(self) -> bool:
        """As told above."""
        batches = self._batches
        return batches.done or (batches.length is not None and batches.fetched + 1 >= batches.length)

    def __next__(self) -> Item:
        if self._batches.done:
            raise StopIteration
        return self._batches, self._batches.item[1], self._batches.item[2]

    def batches(self) -> Iterator[Any]:
        """The step iterator, once for every step."""
        return (item[0] for item in self)


def _is_plain(combined: CombinedLoader) -> bool:
    """Whether it is one loader whose batches go through unchanged, so that nothing has to stand between."""
    return type(combined) is CombinedLoader and combined._spec.is_leaf() and combined._mode != "max_size"


def _items_of(combined: CombinedLoader) -> Iterator[Item]:
    """The items of a running `CombinedLoader`, which would start again if iterated over."""
    if _is_plain(combined):
        return zip(combined._running[0], itertools.count(), itertools.repeat(0), strict=False)
    return iter(combined.__next__, _END)
