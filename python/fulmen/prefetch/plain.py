"""The loader's own iterator, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fulmen.prefetch.placed import PlacedSource
from fulmen.prefetch.stock_pass import begin_pass, stock_batches


class PlainSource(PlacedSource):
    """Batches as ``iter(loader)`` gives them. Works for anything that can be iterated over."""

    kind = "plain"

    def epoch(self) -> Iterator[Any]:
        """Start a pass; one that is taken up asks the sampler for the indices it leaves out, if there is a sampler."""
        self._running = stock_batches(begin_pass(self.loader, self._place, unwrap=False), self._place)
        return self._running  # type: ignore[no-any-return]  # an attribute of any kind of pass
