"""What sources that make their batches in this process have in common."""

from __future__ import annotations

from typing import Any

from fulmen.prefetch.source import Source, State
from fulmen.prefetch.state import Place


class PlacedSource(Source):
    """A source with one running pass, whose place in the loader is that of its consumer.

    A subclass's `epoch` sets ``_running`` to the pass's generator, and counts what is taken in ``_place``.
    """

    def __init__(self, loader: Any, why: str) -> None:
        super().__init__(loader, why)
        self.place = self._place = Place(loader)
        self._running: Any = None

    def state(self) -> State:
        """Where the consumer stands."""
        return self._place.state()

    def restore(self, state: State) -> None:
        """The next pass begins there."""
        self._place.restore(state)

    def close(self) -> None:
        """End the pass, and what runs for it."""
        if self._running is not None:
            self._running.close()
            self._running = None
