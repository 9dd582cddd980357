"""What gives a stage its batches: one `Source` for each loader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal

from fulmen.prefetch.state import Place

Kind = Literal["gather", "workers", "look-ahead", "plain"]

State = dict[str, Any]
"""Plain data: dicts, lists, text, numbers."""


class Source(ABC):
    """Passes over one loader.

    Args:
        loader: the user's loader; it stays what it is, and its sampler and generators are used.
        why: one sentence for the user: why this kind, or why none that is faster.

    Attributes:
        kind: how the batches are made.
        place: where the consumer stands.
    """

    kind: Kind
    place: Place

    def __init__(self, loader: Any, why: str) -> None:
        self.loader = loader
        self.why = why

    @abstractmethod
    def epoch(self) -> Iterator[Any]:
        """Start a pass, as ``iter(loader)`` does: with its draws from the generators, at its moments.

        A pass that still runs is over then. After `restore` the pass begins where the restored one stood.
        """

    @abstractmethod
    def state(self) -> State:
        """Where the consumer stands, whatever is in flight, and the states of the loader's random generators.

        Before the first pass, and between two, it speaks of no place.
        """

    @abstractmethod
    def restore(self, state: State) -> None:
        """Take up what `state` gave; call it before `epoch`.

        Batches already taken are left out by their indices, without loading them. All random generators, the global ones
        too, stand afterwards (when `epoch` has returned) as they stood when `state` was called.

        Args:
            state: of a source of any kind over the same loader.

        Raises:
            RuntimeError: it does not fit this loader.
        """

    @abstractmethod
    def close(self) -> None:
        """End the pass, and what runs for it. A new pass may be started."""

    def __repr__(self) -> str:
        return f"<{self.kind} source of {type(self.loader).__name__}: {self.why}>"
