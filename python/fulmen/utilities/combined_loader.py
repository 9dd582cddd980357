"""One iterable out of several loaders."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from torch.utils._pytree import SUPPORTED_NODES, TreeSpec, tree_flatten, tree_unflatten
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from typing_extensions import Self

from fulmen.utilities.data import sized_len
from fulmen.utilities.types import _Stateful

if TYPE_CHECKING:
    from fulmen.prefetch.source import Source

Item = tuple[Any, int, int]
"""A batch, its index, and the index of its loader."""

Mode = Literal["min_size", "max_size_cycle", "max_size", "sequential"]
_INFINITE = float("inf")


class CombinedLoader(Iterable[Item]):
    """Draws from several iterables at once, or from one after the other.

    Iterating gives ``(batch, batch_idx, dataloader_idx)``. In all modes but the sequential one the batch has the
    structure of ``iterables``, with one batch of each in its place, and ``dataloader_idx`` is 0.

    Args:
        iterables: an iterable, or nested lists, tuples and dictionaries of iterables. A collection that holds nothing
            but numbers and text counts as an iterable itself.
        mode: when it ends.

            * ``"min_size"``: with the shortest iterable.
            * ``"max_size"``: with the longest; the exhausted ones give None.
            * ``"max_size_cycle"``: with the longest; the exhausted ones start again.
            * ``"sequential"``: after each has been consumed, one after the other.

    Raises:
        ValueError: unknown mode.
    """

    def __init__(self, iterables: Any, mode: Mode = "min_size") -> None:
        if mode not in _MODES:
            raise ValueError(f"mode: Unsupported mode {mode!r}, please select one of: {list(_MODES)}.")
        self._iterables = iterables
        self._mode = mode
        self._flattened, self._spec = tree_flatten(iterables, is_leaf=_is_leaf)
        self._limits: list[int | float] | None = None
        self._iterator: Iterator[Item] | None = None
        # the loaders' own iterators, for those who can do without the walk through this class
        self._running: list[Iterator[Any]] = []
        # a faster way to the batches of each, set by the trainer for as long as it runs
        self._sources: list[Source] | None = None

    @property
    def iterables(self) -> Any:
        """The iterables in the structure in which they were given."""
        return self._iterables

    @property
    def sampler(self) -> Any:
        """The iterables' samplers in the same structure, None where there is none."""
        return self._attribute("sampler")

    @property
    def batch_sampler(self) -> Any:
        """The iterables' batch samplers in the same structure, None where there is none."""
        return self._attribute("batch_sampler")

    def _attribute(self, name: str) -> Any:
        return tree_unflatten([getattr(iterable, name, None) for iterable in self._flattened], self._spec)

    @property
    def flattened(self) -> list[Any]:
        """The iterables as a plain list. Assigning another list of the same length replaces them."""
        return self._flattened

    @flattened.setter
    def flattened(self, flattened: list[Any]) -> None:
        if len(flattened) != len(self._flattened):
            raise ValueError(
                f"flattened: Mismatch in flattened length ({len(flattened)}) and existing length"
                f" ({len(self._flattened)})."
            )
        self._iterables = tree_unflatten(flattened, self._spec)
        self._flattened = flattened
        self._sources = None

    @property
    def limits(self) -> list[int | float] | None:
        """How many batches of each iterable count, or None. A single number assigned stands for all of them."""
        return self._limits

    @limits.setter
    def limits(self, limits: int | float | list[int | float] | None) -> None:
        if isinstance(limits, int | float):
            limits = [limits] * len(self._flattened)
        if limits is not None and len(limits) != len(self._flattened):
            raise ValueError(
                f"Mismatch in number of limits ({len(limits)}) and number of iterables ({len(self._flattened)}):"
                " give one limit for each, or a single number."
            )
        self._limits = limits

    def __iter__(self) -> Self:
        """Start again. All iterables are started here, in the sequential mode only the first one."""
        start = len(self._flattened) if self._mode != "sequential" else min(1, len(self._flattened))
        self._running = [self._start(number) for number in range(start)]
        self._iterator = _MODES[self._mode](self)
        return self

    def _start(self, number: int) -> Iterator[Any]:
        """One pass over the iterable of this number."""
        return iter(self._flattened[number]) if self._sources is None else self._sources[number].epoch()

    def __next__(self) -> Item:
        """The next ``(batch, batch_idx, dataloader_idx)``."""
        if self._iterator is None:
            raise RuntimeError("Please call `iter(combined_loader)` first.")
        return next(self._iterator)

    def __len__(self) -> int:
        """The number of batches, limits respected.

        Raises:
            RuntimeError: it was not iterated yet.
            TypeError: there is no end.
        """
        if self._iterator is None:
            raise RuntimeError("Please call `iter(combined_loader)` first.")
        length = self._length()
        if length == _INFINITE:
            raise TypeError("This CombinedLoader has no length: it has no limit, and an iterable without `len`.")
        return int(length)

    def _length(self) -> int | float:
        """The same, infinite where there is no end."""
        known = (sized_len(iterable) for iterable in self._flattened)
        lengths = [_INFINITE if length is None else length for length in known]
        if self._limits is not None and self._mode == "min_size":
            lengths += self._limits
        elif self._limits is not None:
            lengths = [min(pair) for pair in zip(lengths, self._limits, strict=True)]
        return _LENGTH[self._mode](lengths) if lengths else 0

    def reset(self) -> None:
        """Forget the iteration, and end the workers of the loaders, persistent ones too."""
        self._iterator = None
        self._running = []
        for source in self._sources or []:
            source.close()
        for loader in self._flattened:
            if hasattr(loader, "_iterator"):
                if isinstance(loader._iterator, _MultiProcessingDataLoaderIter):
                    loader._iterator._shutdown_workers()
                loader._iterator = None

    def _dataset_length(self) -> int:
        """The number of samples, combined as the mode combines batches."""
        datasets = (getattr(loader, "dataset", None) for loader in self._flattened)
        lengths = [length for dataset in datasets if (length := sized_len(dataset)) is not None]
        if not lengths:
            raise NotImplementedError("All datasets are iterable-style datasets: they have no length.")
        return int(_LENGTH[self._mode](lengths))

    def _stateful(self) -> list[_Stateful[Any]]:
        return [loader for loader in self._flattened if isinstance(loader, _Stateful)]

    def _state_dicts(self) -> list[dict[str, Any]]:
        """The states of those loaders that have one (``state_dict`` and ``load_state_dict``)."""
        return [loader.state_dict() for loader in self._stateful()]

    def _load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        """Restore what `_state_dicts` gave. Nothing happens for an empty list."""
        loaders = self._stateful()
        if states and len(states) != len(loaders):
            raise RuntimeError(
                f"The CombinedLoader has {len(loaders)} stateful loaders, but found {len(states)} states in the"
                " checkpoint. Please make sure you define the same dataloaders that were used when saving the"
                " checkpoint."
            )
        for loader, state in zip(loaders, states, strict=False):
            loader.load_state_dict(state)

    def __getstate__(self) -> dict[str, Any]:
        # running iterators hold workers, and generators cannot be pickled: the copy has to be iterated anew
        state: dict[str, Any] = {**self.__dict__, "_iterator": None, "_running": [], "_sources": None}
        del state["_flattened"], state["_spec"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._flattened, self._spec = tree_flatten(self._iterables, is_leaf=_is_leaf)


def _is_leaf(value: Any) -> bool:
    """Whether a node of the collection is one iterable: no collection, or one of numbers and text only."""
    kind = type(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        children: Iterable[Any] = value
    elif kind not in SUPPORTED_NODES:
        return True
    elif isinstance(value, Mapping):
        children = value.values()
    else:
        children = value if isinstance(value, Iterable) else SUPPORTED_NODES[kind].flatten_fn(value)[0]
    return all(isinstance(child, int | float | str) for child in children)


def _restore(spec: TreeSpec, keys: Any) -> Callable[[Any], Any]:
    """The function that puts a list of batches into the structure of the iterables; plain ones without a tree walk."""
    if spec.is_leaf():
        return lambda batches: batches[0]
    if keys is not None:
        return lambda batches: dict(zip(keys, batches, strict=True))
    return lambda batches: tree_unflatten(batches, spec)


def _restorer(loader: CombinedLoader) -> Callable[[Any], Any]:
    given = loader._iterables
    flat = type(given) is dict and len(given) == len(loader._flattened) and all(map(_is_leaf, given.values()))
    return _restore(loader._spec, list(given) if flat else None)


def _min_size(loader: CombinedLoader) -> Iterator[Item]:
    return _together(loader, zip(*loader._running))  # noqa: B905 (ends with the shortest, as Lightning does)


def _max_size(loader: CombinedLoader) -> Iterator[Item]:
    return _together(loader, itertools.zip_longest(*loader._running))


def _max_size_cycle(loader: CombinedLoader) -> Iterator[Item]:
    return _together(loader, _cycle(loader))


def _together(loader: CombinedLoader, rows: Iterable[Any]) -> Iterator[Item]:
    restore = _restorer(loader)
    for index, batches in enumerate(rows):
        yield restore(list(batches)), index, 0


def _cycle(loader: CombinedLoader) -> Iterator[list[Any]]:
    """One batch of each; whoever has ended starts again, until all have ended once."""
    running = loader._running
    ended = [False] * len(running)
    end = object()
    while running:
        row = []
        for i in range(len(running)):
            batch = next(running[i], end)
            if batch is end:
                ended[i] = True
                if all(ended):
                    return
                running[i] = loader._start(i)
                batch = next(running[i], end)
                if batch is end:  # it is empty: nothing to repeat
                    return
            row.append(batch)
        yield row


def _sequential(loader: CombinedLoader) -> Iterator[Item]:
    limits = loader._limits or [_INFINITE] * len(loader._flattened)
    for position, limit in enumerate(limits):
        if position:
            # only now: two loaders never have their workers at the same time
            loader._running.clear()
            loader._running.append(loader._start(position))
        if limit == _INFINITE:
            numbers: Iterable[int] = itertools.count()
        else:
            numbers = range(int(limit))
        # the numbers come first, so that nothing is fetched beyond the limit
        for index, batch in zip(numbers, loader._running[0], strict=False):
            yield batch, index, position


_MODES: dict[str, Callable[[CombinedLoader], Iterator[Item]]] = {
    "min_size": _min_size,
    "max_size_cycle": _max_size_cycle,
    "max_size": _max_size,
    "sequential": _sequential,
}
_LENGTH: dict[str, Callable[[list[Any]], int | float]] = {
    "min_size": min,
    "max_size_cycle": max,
    "max_size": max,
    "sequential": sum,
}
