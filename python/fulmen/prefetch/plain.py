"""The loader's own iterator, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fulmen.prefetch.source import Source, State
from fulmen.prefetch.state import Place


class PlainSource(Source):
    """Batches as ``iter(loader)`` gives them. Works for anything that can be iterated over."""

    kind = "plain"

    def __init__(self, loader: Any, why: str) -> None:
        super().__init__(loader, why)
        self._place = Place(loader)
        self._running: Iterator[Any] | None = None

    def epoch(self) -> Iterator[Any]:
        """Start a pass; one that is taken up asks the sampler for the indices it leaves out, if there is a sampler."""
        place = self._place
        left_out = place.begin()
        inner = iter(self.loader)
        if left_out or place.arriving:
            place.begin_sampler()
            leave_out(inner, left_out)
            place.arrive()
        self._running = self._batches(inner, started=left_out > 0)
        return self._running

    def _batches(self, inner: Iterator[Any], started: bool) -> Iterator[Any]:
        place = self._place
        if not started:
            place.begin_sampler()
        for batch in inner:
            place.taken += 1
            yield batch

    def state(self) -> State:
        """Where the consumer stands."""
        return self._place.state()

    def restore(self, state: State) -> None:
        """The next pass begins there."""
        self._place.restore(state)

    def close(self) -> None:
        """Let go of the iterator."""
        if self._running is not None:
            self._running.close()  # type: ignore[attr-defined]
            self._running = None


def leave_out(inner: Iterator[Any], batches: int) -> None:
    """Pass over batches: by their indices where the iterator is the one of a stock loader without workers over a dataset
    with indices; otherwise they are loaded and dropped.
    """
    from torch.utils.data.dataloader import _DatasetKind, _SingleProcessDataLoaderIter

    by_index = type(inner) is _SingleProcessDataLoaderIter and inner._dataset_kind == _DatasetKind.Map
    for _ in range(batches):
        try:
            if by_index:
                inner._next_index()  # type: ignore[attr-defined]
            else:
                next(inner)
        except StopIteration:
            return
