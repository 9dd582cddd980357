"""Loaders with worker processes, each made anew by a function of the number of workers."""

from __future__ import annotations

import random
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset, default_collate

from .loader_configurations import ALL_TYPES, Buckets, DrawsAtEveryStep, NumpySampler, numbers, pairs, seeded

ROWS = 23

Make = Callable[[int], DataLoader[Any]]
CONFIGURATIONS: dict[str, Make] = {}


def configuration(make: Make) -> Make:
    CONFIGURATIONS[make.__name__] = make
    return make


@configuration
def sequential(workers: int) -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, num_workers=workers)


@configuration
def shuffled(workers: int) -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, shuffle=True, num_workers=workers)


@configuration
def shuffled_and_persistent(workers: int) -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, shuffle=True, num_workers=workers, persistent_workers=True)


@configuration
def own_generator(workers: int) -> DataLoader[Any]:
    return DataLoader(
        pairs(), batch_size=4, shuffle=True, generator=seeded(), num_workers=workers, drop_last=True, prefetch_factor=1
    )


@configuration
def own_generator_and_persistent(workers: int) -> DataLoader[Any]:
    return DataLoader(
        pairs(), batch_size=4, shuffle=True, generator=seeded(), num_workers=workers, persistent_workers=True
    )


@configuration
def with_replacement(workers: int) -> DataLoader[Any]:
    data = pairs()
    sampler = RandomSampler(data, replacement=True, num_samples=40, generator=seeded())
    return DataLoader(data, batch_size=3, sampler=sampler, num_workers=workers, prefetch_factor=3)


@configuration
def draws_at_every_step(workers: int) -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=2, sampler=DrawsAtEveryStep(ROWS), num_workers=workers)


@configuration
def numpy_sampler(workers: int) -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, sampler=NumpySampler(), num_workers=workers)


@configuration
def buckets(workers: int) -> DataLoader[Any]:
    return DataLoader(pairs(), batch_sampler=Buckets(), num_workers=workers)


@configuration
def buckets_and_persistent(workers: int) -> DataLoader[Any]:
    return DataLoader(pairs(), batch_sampler=Buckets(), num_workers=workers, persistent_workers=True)


@configuration
def empty(workers: int) -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=40, drop_last=True, num_workers=workers)


@configuration
def every_type(workers: int) -> DataLoader[Any]:
    data = TensorDataset(*(numbers(3, dtype=dtype) for dtype in ALL_TYPES))
    return DataLoader(data, batch_size=4, shuffle=True, num_workers=workers)


@configuration
def shapes(workers: int) -> DataLoader[Any]:
    data = TensorDataset(numbers(), numbers(0), numbers(1, 1), numbers(2, 0, 3), numbers(90, 90))
    return DataLoader(data, batch_size=4, num_workers=workers)


@configuration
def pinned(workers: int) -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, num_workers=workers, pin_memory=True)


Sample = namedtuple("Sample", "image label extra")


@dataclass
class Record:
    values: torch.Tensor
    name: str


class Mixed(Dataset[Any]):
    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> Any:
        image = torch.full((2, 3), float(index))
        return {
            "named": Sample(image, index, index / 3),
            "text": f"sample {index}",
            "list": [image[0], (np.float64(index), np.array([index, 1], dtype=np.int16))],
            "bytes": bytes([index]),
            "flag": index % 2 == 0,
            7: torch.tensor(index),
        }


@configuration
def mixed(workers: int) -> DataLoader[Any]:
    return DataLoader(Mixed(), batch_size=5, shuffle=True, num_workers=workers)


@configuration
def one_by_one(workers: int) -> DataLoader[Any]:
    return DataLoader(Mixed(), batch_size=None, num_workers=workers)


class Many(Dataset[Any]):
    def __len__(self) -> int:
        return ROWS

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [torch.tensor([index, len(indices)]) for index in indices]

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("samples are asked for together")


@configuration
def asked_together(workers: int) -> DataLoader[Any]:
    return DataLoader(Many(), batch_size=4, num_workers=workers)


def unusual(samples: list[Any]) -> Any:
    """Everything that is not a stack of tensors."""
    values = torch.stack([sample[0] for sample in samples])
    whole = torch.arange(12.0)
    frozen = np.arange(5.0)
    frozen.setflags(write=False)
    return {
        "twice": [values, values],
        "views": [whole, whole[2:6], whole.view(3, 4).t(), whole[:0]],
        "expanded": torch.ones(3, 1).expand(3, 4),
        "last": torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "sparse": torch.eye(3).to_sparse(),
        "conjugated": torch.ones(2, dtype=torch.complex64).conj().resolve_conj(),
        "array": np.arange(6).reshape(2, 3)[:, ::2],
        "large": np.arange(30000.0).reshape(100, 300),
        "fortran": np.asfortranarray(np.arange(20000.0).reshape(100, 200)),
        "frozen": frozen,
        "objects": np.array(["a", None], dtype=object),
        "record": [sample[1].item() for sample in samples],
        "nothing": None,
        "set": {1, 2},
    }


@configuration
def own_collate(workers: int) -> DataLoader[Any]:
    return DataLoader(pairs(), batch_size=4, num_workers=workers, collate_fn=unusual)


def wrapped(samples: list[Any]) -> Any:
    return {"all": default_collate(samples), "first": samples[0][0].clone()}


@configuration
def default_collate_inside(workers: int) -> DataLoader[Any]:
    return DataLoader(pairs(300), batch_size=4, num_workers=workers, collate_fn=wrapped)


class Growing(Dataset[Any]):
    """Each batch larger than the one before, up to half a megabyte."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return torch.arange(index**4 * 8, dtype=torch.float32), torch.full((3,), index)


@configuration
def growing(workers: int) -> DataLoader[Any]:
    return DataLoader(Growing(), batch_size=1, num_workers=workers)


class Augmented(Dataset[Any]):
    """Random samples, from all three global generators."""

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> Any:
        return torch.rand(3) + index, random.random(), np.random.rand(2)


def augmented(workers: int, persistent: bool = False, **more: Any) -> DataLoader[Any]:
    return DataLoader(
        Augmented(), batch_size=4, shuffle=True, num_workers=workers, persistent_workers=persistent, **more
    )
