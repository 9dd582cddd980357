"""Loaders of all kinds, each made anew by a function, and a comparison of batches that overlooks nothing."""

from __future__ import annotations

import random
from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from fulmen.prefetch.state import generator_states, global_generators, own_generators

ROWS = 23
BIG = 3 * 40 * 40
"""Floats of a row that is gathered by threads, in batches of 4."""

CONFIGURATIONS: dict[str, Callable[[], DataLoader[Any]]] = {}
KINDS: dict[str, str] = {}


def configuration(kind: str = "gather") -> Callable[[Any], Any]:
    """Registers a loader, with the kind of source that it gets."""

    def register(make: Any) -> Any:
        CONFIGURATIONS[make.__name__] = make
        KINDS[make.__name__] = kind
        return make

    return register


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(ROWS, *shape, generator=generator, dtype=torch.float64) * 50
    return values.to(dtype)


def pairs(*shape: int) -> TensorDataset:
    return TensorDataset(numbers(*(shape or (5,))), torch.arange(ROWS))


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- samplers --------------------------------------------------------------------------------------------------------


class DrawsAtEveryStep(Sampler[int]):
    """A sampler that takes each index from the global generators, in turn."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        for step in range(self.rows):
            draws = (
                lambda: int(torch.randint(self.rows, ())),
                lambda: random.randrange(self.rows),
                lambda: int(np.random.randint(self.rows)),
            )
            yield draws[step % 3]()


class NumpySampler(Sampler[int]):
    """Indices that are numpy's integers, from a generator of its own."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(3)

    def __len__(self) -> int:
        return ROWS

    def __iter__(self) -> Iterator[int]:
        return iter(self.generator.permutation(ROWS))


class Buckets(Sampler[list[int]]):
    """A batch sampler with batches of different sizes, shuffled by Python's generator."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[list[int]]:
        batches = [[0, 1, 2], [7, 5], [22], [9, 9, 9, 9, 1]]
        random.shuffle(batches)
        return iter(batches)


@configuration()
def sequential() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4)


@configuration()
def shuffled() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, shuffle=True)


@configuration()
def shuffled_drop_last() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, shuffle=True, drop_last=True)


@configuration()
def own_generator() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, shuffle=True, generator=seeded())


@configuration()
def whole_batches_and_own_generator() -> DataLoader[Any]:
    return DataLoader(Subset(pairs(), range(20)), batch_size=5, shuffle=True, generator=seeded())


@configuration()
def with_replacement() -> DataLoader[Any]:
    data = pairs()
    return DataLoader(data, batch_size=3, sampler=RandomSampler(data, replacement=True, num_samples=40))


@configuration()
def with_replacement_and_own_generator() -> DataLoader[Any]:
    data = pairs()
    sampler = RandomSampler(data, replacement=True, num_samples=40, generator=seeded())
    return DataLoader(data, batch_size=3, sampler=sampler)


@configuration()
def more_samples_than_rows() -> DataLoader[Any]:
    data = pairs()
    return DataLoader(data, batch_size=4, sampler=RandomSampler(data, num_samples=50, generator=seeded()))


@configuration()
def subset_random() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, sampler=SubsetRandomSampler(range(3, 20)))


@configuration()
def weighted() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, sampler=WeightedRandomSampler([1.0 + i for i in range(ROWS)], 18))


@configuration()
def distributed() -> DataLoader[Any]:
    data = pairs()
    return DataLoader(data, batch_size=4, sampler=DistributedSampler(data, num_replicas=2, rank=1, shuffle=True))


@configuration()
def draws_at_every_step() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, sampler=DrawsAtEveryStep(ROWS))


@configuration()
def numpy_sampler() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, sampler=NumpySampler())


@configuration()
def list_as_sampler() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, sampler=[5, 1, 1, 20, 7])


@configuration()
def negative_indices() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=2, sampler=[-1, 3, 4, -23, 0])


@configuration()
def buckets() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_sampler=Buckets())


@configuration()
def batch_sampler_over_random() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_sampler=BatchSampler(RandomSampler(range(ROWS)), 6, True))


# ---- datasets --------------------------------------------------------------------------------------------------------

ALL_TYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.float16,
    torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128, torch.float8_e5m2,
]  # fmt: skip


@configuration()
def every_type() -> DataLoader[Any]:
    return DataLoader(TensorDataset(*(numbers(3, dtype=dtype) for dtype in ALL_TYPES)), batch_size=4, shuffle=True)


@configuration()
def every_type_by_threads() -> DataLoader[Any]:
    types = [dtype for dtype in ALL_TYPES if dtype not in (torch.uint16, torch.float8_e5m2)]
    fields = [numbers(2, dtype=dtype) for dtype in types] + [numbers(BIG)]
    return DataLoader(TensorDataset(*fields), batch_size=4, shuffle=True)


@configuration()
def shapes() -> DataLoader[Any]:
    return DataLoader(TensorDataset(numbers(), numbers(0), numbers(1, 1), numbers(2, 0, 3)), batch_size=4)


@configuration()
def shapes_by_threads() -> DataLoader[Any]:
    fields = (numbers(), numbers(0), numbers(1, 1), numbers(2, 0, 3), numbers(3, 40, 40))
    return DataLoader(TensorDataset(*fields), batch_size=4, shuffle=True)


@configuration()
def rows_of_a_wider_tensor() -> DataLoader[Any]:
    return DataLoader(TensorDataset(numbers(8)[:, 2:5], numbers(4)[:, 0]), batch_size=4)


@configuration("look-ahead or plain")
def channels_last() -> DataLoader[Any]:
    data = numbers(3, 4, 4).contiguous(memory_format=torch.channels_last)
    return DataLoader(TensorDataset(data), batch_size=4)


@configuration()
def nested_subsets() -> DataLoader[Any]:
    inner = Subset(pairs(), [20, 3, 7, 7, 1, 15, 9, 12])
    return DataLoader(Subset(inner, range(7, 0, -2)), batch_size=3, shuffle=True)


@configuration()
def subset_by_numpy() -> DataLoader[Any]:
    return DataLoader(Subset(pairs(), np.array([4, 2, 9, 11, 0])), batch_size=2, shuffle=True)


@configuration()
def concatenated() -> DataLoader[Any]:
    parts = [pairs(), Subset(pairs(), [5, 3]), ConcatDataset([pairs(), Subset(pairs(), range(4))])]
    return DataLoader(ConcatDataset(parts), batch_size=7, shuffle=True)


@configuration("look-ahead or plain")
def concatenated_of_different_types() -> DataLoader[Any]:
    parts = [TensorDataset(numbers(2)), TensorDataset(numbers(2, dtype=torch.float64))]
    return DataLoader(ConcatDataset(parts), batch_size=7)


@configuration()
def stacked() -> DataLoader[Any]:
    return DataLoader(StackDataset(pairs(), Subset(pairs(2), range(ROWS)), numbers(2)), batch_size=4, shuffle=True)


@configuration()
def stacked_by_name() -> DataLoader[Any]:
    data = StackDataset(x=numbers(2), y=pairs(), z=StackDataset(a=numbers(), b=numbers(3)))
    return DataLoader(data, batch_size=4, shuffle=True)


@configuration()
def tensor_as_dataset() -> DataLoader[Any]:
    return DataLoader(numbers(3, 2), batch_size=4, shuffle=True)


@configuration()
def array_as_dataset() -> DataLoader[Any]:
    return DataLoader(numbers(3, 2, dtype=torch.float64).numpy(), batch_size=4, shuffle=True)


@configuration()
def array_of_scalars() -> DataLoader[Any]:
    return DataLoader(numbers(dtype=torch.float32).numpy(), batch_size=4)


@configuration()
def large_array() -> DataLoader[Any]:
    return DataLoader(StackDataset(numbers(BIG).numpy(), np.arange(ROWS)), batch_size=4, shuffle=True)


@configuration()
def large() -> DataLoader[Any]:
    return DataLoader(pairs(BIG), batch_size=4, shuffle=True)


@configuration()
def large_with_own_generator() -> DataLoader[Any]:
    return DataLoader(pairs(BIG), batch_size=4, shuffle=True, generator=seeded())


@configuration()
def large_whole_batches_and_own_generator() -> DataLoader[Any]:
    return DataLoader(Subset(pairs(BIG), range(20)), batch_size=4, shuffle=True, generator=seeded())


@configuration()
def large_with_drawing_sampler() -> DataLoader[Any]:
    return DataLoader(pairs(BIG), batch_size=4, sampler=DrawsAtEveryStep(ROWS))


@configuration()
def large_negative_indices() -> DataLoader[Any]:
    return DataLoader(pairs(BIG), batch_size=4, sampler=[-1, 3, 4, -23, 0])


class OnlyAName(TensorDataset):
    """A subclass that changes nothing about the samples."""

    name = "digits"


class Doubling(TensorDataset):
    """A subclass that does."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return 2 * x, y


@configuration()
def subclass_that_changes_nothing() -> DataLoader[Any]:
    return DataLoader(OnlyAName(numbers(2), torch.arange(ROWS)), batch_size=4, shuffle=True)


@configuration("look-ahead or plain")
def subclass_that_changes_samples() -> DataLoader[Any]:
    return DataLoader(Doubling(numbers(2), torch.arange(ROWS)), batch_size=4, shuffle=True)


@configuration("look-ahead or plain")
def pinned() -> DataLoader[Any]:
    return DataLoader(Doubling(numbers(2), torch.arange(ROWS)), batch_size=4, pin_memory=True)


@configuration()
def gathered_and_pinned() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, pin_memory=True)


# ---- samples and collate functions of all kinds ----------------------------------------------------------------------

Point = namedtuple("Point", ["x", "label"])


class Samples(Dataset[Any]):
    """Samples made by a function of the index."""

    def __init__(self, make: Callable[[int], Any], rows: int = ROWS) -> None:
        self.make, self.rows = make, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.rows:
            raise IndexError(index)
        return self.make(index)


def mixed(index: int) -> Any:
    return {
        "text": f"number {index}",
        "bytes": bytes([index]),
        "number": index,
        "real": index / 3,
        "flag": index % 2 == 0,
        "list": [torch.tensor(index), np.float32(index)],
        "point": Point(torch.full((2,), float(index)), np.arange(3) + index),
        "nested": {"empty": torch.empty(0), "scalar": np.array(index)},
    }


def as_they_are(samples: list[Any]) -> Any:
    return samples


def longest_first(samples: list[Any]) -> Any:
    return torch.nn.utils.rnn.pad_sequence(samples, batch_first=True), [len(sample) for sample in samples]


def ramp(index: int) -> Tensor:
    return torch.arange(index % 5 + 1)


def augmented(index: int) -> Any:
    return torch.rand(2) + index, np.random.rand(), random.random()


@configuration("look-ahead or plain")
def mixed_samples() -> DataLoader[Any]:
    return DataLoader(Samples(mixed), batch_size=4, shuffle=True)


@configuration("look-ahead or plain")
def collate_of_its_own() -> DataLoader[Any]:
    return DataLoader(Samples(ramp), batch_size=4, shuffle=True, collate_fn=longest_first)


@configuration("look-ahead or plain")
def collate_that_does_nothing() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, collate_fn=as_they_are)


@configuration("look-ahead or plain")
def no_batches() -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=None, shuffle=True)


@configuration("look-ahead or plain")
def samples_that_draw() -> DataLoader[Any]:
    return DataLoader(Samples(augmented), batch_size=4, shuffle=True)


class Stream(IterableDataset[Any]):
    """Samples one after the other; each worker has its share."""

    def __iter__(self) -> Iterator[Any]:
        info = torch.utils.data.get_worker_info()
        start, step = (0, 1) if info is None else (info.id, info.num_workers)
        return (torch.tensor(index) for index in range(start, ROWS, step))


@configuration("look-ahead or plain")
def stream() -> DataLoader[Any]:
    return DataLoader(Stream(), batch_size=4)


@configuration("look-ahead or plain")
def stream_without_batches() -> DataLoader[Any]:
    return DataLoader(Stream(), batch_size=None)


class OwnIteration(DataLoader[Any]):
    """A loader that makes its batches itself."""

    def __iter__(self) -> Any:
        return iter([batch[0] + 1 for batch in super().__iter__()])


@configuration("look-ahead or plain")
def loader_with_its_own_iteration() -> DataLoader[Any]:
    return OwnIteration(pairs(), batch_size=4, shuffle=True)


class NamedLoader(DataLoader[Any]):
    """A loader with an attribute more."""

    name = "train"


@configuration()
def loader_with_a_name() -> DataLoader[Any]:
    return NamedLoader(pairs(), batch_size=4, shuffle=True)


# ---- comparing -------------------------------------------------------------------------------------------------------


def difference(a: Any, b: Any, where: str = "batch") -> str | None:
    """The first difference between two batches, None if there is none that anybody could see."""
    if type(a) is not type(b):
        return f"{where}: {type(a)} and {type(b)}"
    if isinstance(a, Tensor):
        for name, look in _TENSOR_LOOKS.items():
            if look(a) != look(b):
                return f"{where}: {name} {look(a)} and {look(b)}"
        return None
    if isinstance(a, np.ndarray):
        return None if a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() else f"{where}: {a} {b}"
    if isinstance(a, dict):
        if list(a) != list(b):
            return f"{where}: keys {list(a)} and {list(b)}"
        pairs_of = [(f"{where}[{key!r}]", a[key], b[key]) for key in a]
    elif isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return f"{where}: length {len(a)} and {len(b)}"
        pairs_of = [(f"{where}[{i}]", x, y) for i, (x, y) in enumerate(zip(a, b))]
    else:
        return None if a == b or (a != a and b != b) else f"{where}: {a!r} and {b!r}"
    return next((found for name, x, y in pairs_of if (found := difference(x, y, name))), None)


def bits(tensor: Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


_TENSOR_LOOKS: dict[str, Callable[[Tensor], Any]] = {
    "dtype": lambda t: t.dtype,
    "shape": lambda t: tuple(t.shape),
    "stride": lambda t: t.stride(),
    "offset": lambda t: t.storage_offset(),
    "storage": lambda t: t.untyped_storage().nbytes(),
    "device": lambda t: t.device,
    "pinned": lambda t: t.is_pinned(),
    "gradient": lambda t: t.requires_grad,
    "inference": lambda t: t.is_inference(),
    "view": lambda t: t._is_view(),
    "values": bits,
}


def seed(number: int) -> None:
    torch.manual_seed(number), np.random.seed(number), random.seed(number)


def generators(loader: Any) -> Any:
    """All random generators' states, comparable."""
    states = {"global": global_generators(), "own": generator_states(own_generators(loader))}
    return _hashable(states)


def _hashable(value: Any) -> Any:
    if isinstance(value, Tensor):
        return bytes(value.view(torch.uint8).numpy())
    if isinstance(value, dict):
        return {key: _hashable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hashable(item) for item in value]
    return value
