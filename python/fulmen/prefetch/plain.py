"""The loader's own iterator, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fulmen.prefetch.source import Source, State
from fulmen.prefetch.state import Place
from fulmen.prefetch.stock_pass import begin_pass, stock_batches


class PlainSource(Source):
    """Batches as ``iter(loader)`` gives them. Works for anything that can be iterated over."""

    kind = "plain"

    def __init__(self, loader: Any, why: str) -> None:
        super().__init__(loader, why)
        self._place = Place(loader)
        self._running: Iterator[Any] | None = None

    def epoch(self) -> Iterator[Any]:
        """Start a pass; one that is taken up asks the sampler for the indices it leaves out, if there is a sampler."""
        self._running = stock_batches(begin_pass(self.loader, self._place, unwrap=False), self._place)
        return self._running

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
