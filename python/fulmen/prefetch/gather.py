"""Batches of datasets in memory: rows gathered by the core, for the stock loader's indices.

The pass is the stock loader's: its iterator is made, and asked for indices, so that every draw happens as it would. Only what
follows is different: the rows are copied to their place in the batch, each once, instead of being made into tensors that are
then stacked.

Small batches are gathered when they are asked for, into new tensors: that costs little more than making the tensors. Large
ones are gathered ahead by threads, into pooled buffers, where the sampler allows to know the indices early
(`fulmen.prefetch.samplers`). A tensor of the dataset that is written to meanwhile is noticed by its version, and the batch is
gathered anew. For a batch whose indices are not plain ints within bounds the stock loader's own code runs, with its errors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data._utils import collate
from torch.utils.dlpack import from_dlpack

from fulmen._core import Batch, Gatherer, Span
from fulmen.prefetch.datasets import Description, NotInMemory, describe
from fulmen.prefetch.dlpack_types import DLPACK_TYPES
from fulmen.prefetch.placed import PlacedSource
from fulmen.prefetch.samplers import batches_ahead
from fulmen.prefetch.stock_pass import StockPass, begin_pass, pinned, stock_batches

AHEAD_FROM = 64 * 1024
"""Bytes of a batch from which on handing it to threads costs less than it gains."""

AHEAD_BYTES = 64 * 1024 * 1024
"""Bytes that are gathered ahead, at most, unless a single batch has more."""


def reason_against(loader: DataLoader[Any]) -> str | None:
    """Why a loader's batches cannot be gathered, None if they can.

    The description is tried on one sample: the core must give what the loader's own code gives.
    """
    if loader.batch_sampler is None:
        return "automatic batching is off"
    if loader.collate_fn is not collate.default_collate or not _default_collate_is_stock():
        return "its collate function is not torch's default"
    try:
        description = describe(loader.dataset)
    except NotInMemory as reason:
        return str(reason)
    return None if _proven(loader, description) else "its samples are not what their dataset's class says"


def _default_collate_is_stock() -> bool:
    registered = collate.default_collate_fn_map
    numpy_fn = next(
        (function for kind, function in registered.items() if getattr(kind, "__name__", "") == "ndarray"), None
    )
    return registered.get(Tensor) is collate.collate_tensor_fn and numpy_fn is collate.collate_numpy_array_fn


def _proven(loader: DataLoader[Any], description: Description) -> bool:
    try:
        stock = loader.collate_fn([loader.dataset[0]] * 2)
    except Exception:
        return False
    own = _structured(description.structure)(
        _gatherer(description, 0).now([0, 0], _templates(description, 2)) or [None] * len(description.fields)
    )
    return _same(stock, own)


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and a.stride() == b.stride()
        return same and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    return len(a) == len(b) and all(map(_same, a, b))


def _gatherer(description: Description, keep_bytes: int) -> Gatherer:
    fields = [(*DLPACK_TYPES.get(dtype, (1, 8 * dtype.itemsize)), list(shape)) for dtype, shape in description.fields]
    return Gatherer(description.plan, fields, keep_bytes, torch.empty_like, from_dlpack)


def _templates(description: Description, rows: int) -> list[Tensor]:
    """Tensors that a batch's new tensors are to be like."""
    with torch.inference_mode(False):
        return [torch.empty((rows, *shape), dtype=dtype, device="cpu") for dtype, shape in description.fields]


def _structured(structure: Any) -> Callable[[list[Any]], Any]:
    """What puts the fields of a batch, a fresh list of tensors, into the structure of the samples."""
    if isinstance(structure, int):
        return lambda fields: fields[structure]
    if isinstance(structure, dict):
        items = {key: _structured(part) for key, part in structure.items()}
        return lambda fields: {key: make(fields) for key, make in items.items()}
    parts = [_structured(part) for part in structure]
    return lambda fields: [make(fields) for make in parts]


def _is_flat(structure: Any) -> bool:
    """Whether the list of the fields is the batch."""
    return isinstance(structure, list) and structure == list(range(len(structure)))


class GatherSource(PlacedSource):
    """Passes over a loader whose dataset lies in memory.

    Args:
        loader: a loader that `reason_against` has nothing against.
        depth: batches to gather ahead, where they are gathered ahead; None: as many as `AHEAD_BYTES` hold, two to eight.
    """

    kind = "gather"

    def __init__(self, loader: DataLoader[Any], depth: int | None = None) -> None:
        description = describe(loader.dataset)
        size = getattr(loader.batch_sampler, "batch_size", None)
        batch_bytes = description.row_bytes() * (size if isinstance(size, int) else 1)
        self._depth = depth or max(2, min(8, AHEAD_BYTES // max(1, batch_bytes)))
        exotic = any(dtype not in DLPACK_TYPES for dtype, _ in description.fields)
        self._threaded = batch_bytes >= AHEAD_FROM and not exotic
        how = f"by threads, up to {self._depth} batches ahead" if self._threaded else "when they are asked for"
        super().__init__(loader, f"its dataset lies in memory: rows are gathered {how}")
        # what is on its way, what the consumer has, and what it had before; buffers are whole pages
        most = (self._depth + 3) * (batch_bytes + 4096 * len(description.fields))
        self._gatherer = _gatherer(description, most)
        self._fields = description.fields
        self._size = size

    def epoch(self) -> Iterator[Any]:
        """Start a pass. The dataset is looked at anew: where its rows lie, and which of them a subset has."""
        description = self._look_again()
        begun = begin_pass(self.loader, self._place, spans=description is not None)
        if description is None or not begun.by_index:
            self._running = stock_batches(begun, self._place)
        elif self._threaded:
            self._running = self._ahead(begun, description)
        else:
            self._running = self._at_once(begun, description)
        return self._running  # type: ignore[no-any-return]  # an attribute of any kind of pass

    def _look_again(self) -> Description | None:
        """The dataset as it is now; None if it is no longer what it was."""
        try:
            description = describe(self.loader.dataset)
        except NotInMemory:
            return None
        if description.fields != self._fields or not _default_collate_is_stock():
            return None
        self._gatherer = self._gatherer.replanned(description.plan)
        return description

    def _at_once(self, begun: StockPass, description: Description) -> Iterator[Any]:
        """Each batch when it is asked for: no index is drawn early, whatever the sampler."""
        inner, place, now = begun.inner, self._place, self._gatherer.now
        structured = None if _is_flat(description.structure) else _structured(description.structure)
        hand: list[Any] = []
        pins, like, rows = inner._pin_memory, _templates(description, self._size or 1), self._size
        if not begun.started:
            place.begin_sampler()
        for indices in begun.sampler:
            if len(indices) != rows:
                rows = len(indices)
                like = _templates(description, rows)
            batch = now(indices, like)
            if batch is None:
                batch = self._by_stock(inner, indices, description)
            elif structured is not None:
                batch = structured(batch)
            if pins:
                batch = pinned(batch, inner._pin_memory_device)
            place.taken += 1
            hand.append(batch)
            batch = None
            # handed over without a name here: the consumer alone shall hold its batch
            yield hand.pop()

    def _ahead(self, begun: StockPass, description: Description) -> Iterator[Any]:
        """Batches that threads gather, the next ones while the consumer has this one."""
        place, start, depth = self._place, self._gatherer.start, self._depth
        structured, drawn = _structured(description.structure), place.taken
        watched, limit = description.watched, batches_ahead(self.loader)
        coming: deque[tuple[Any, Batch | None, list[int]]] = deque()
        ended = False
        if not begun.started:
            place.begin_sampler()
        while True:
            while not ended and len(coming) <= depth and (not coming or drawn < limit):
                indices = next(begun.sampler, None)
                if indices is None:
                    ended = True
                    break
                drawn += 1
                coming.append((indices, start(indices), [tensor._version for tensor in watched]))
            if not coming:
                return
            # handed over without a name here: the consumer alone shall hold its batch
            yield self._arrived(begun.inner, description, structured, *coming.popleft())

    def _arrived(
        self,
        inner: Any,
        description: Description,
        structured: Callable[[list[Tensor]], Any],
        indices: Any,
        coming: Batch | None,
        versions: list[int],
    ) -> Any:
        """A batch that was begun, once it is there; made anew where somebody wrote to the dataset meanwhile."""
        if coming is None:
            batch = self._by_stock(inner, indices, description)
        else:
            fields = coming.take()
            if versions != [tensor._version for tensor in description.watched]:
                again = self._gatherer.start(indices)
                assert again is not None, "the indices were good before"
                fields = again.take()
            batch = structured(fields)
        if inner._pin_memory:
            batch = pinned(batch, inner._pin_memory_device)
        self._place.taken += 1
        return batch

    def _by_stock(self, inner: Any, indices: Any, description: Description) -> Any:
        """A batch of unusual indices: those that numpy's samplers give are ints all the same."""
        if type(indices) is Span:
            # the dataset has lost rows
            indices = indices.tolist()
        if isinstance(indices, list) and all(type(index).__name__ in ("int64", "int32") for index in indices):
            fields = self._gatherer.now([int(index) for index in indices], _templates(description, len(indices)))
            if fields is not None:
                return _structured(description.structure)(fields)
        return inner._dataset_fetcher.fetch(indices)
