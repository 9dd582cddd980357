"""How far a sampler may be asked for indices before the consumer wants them.

Asking early must change nothing that anybody can see: neither the order of draws from a random generator that others use
too, nor what a sampler of the user's own would have answered later. torch's samplers draw when they are asked for the first
index; after that they only count, until they are asked beyond the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from fulmen._core import Order, Span

EVERYTHING = float("inf")


def batches_ahead(loader: DataLoader[Any]) -> float:
    """How many batches of a pass may be drawn early: 0 for samplers that are not known, `EVERYTHING` for most others."""
    from fulmen.trainer.sampler import BatchIndexRecorder

    batch_sampler: Any = loader.batch_sampler
    if type(batch_sampler) is BatchIndexRecorder:
        batch_sampler = batch_sampler._batch_sampler
    if type(batch_sampler) is not BatchSampler:
        return 0
    return _of_sampler(batch_sampler.sampler, batch_sampler.batch_size)


def draws_only(loader: DataLoader[Any]) -> bool:
    """Whether nothing but random generators would know that the loader's sampler was run."""
    from fulmen.trainer.sampler import UnrepeatedDistributedSampler

    batch_sampler: Any = loader.batch_sampler
    return type(batch_sampler) is BatchSampler and type(batch_sampler.sampler) in (
        SequentialSampler,
        RandomSampler,
        SubsetRandomSampler,
        WeightedRandomSampler,
        DistributedSampler,
        UnrepeatedDistributedSampler,
    )


def _of_sampler(sampler: Any, batch_size: int) -> float:
    from fulmen.trainer.sampler import (
        DistributedSamplerWrapper,
        UnrepeatedDistributedSampler,
        UnrepeatedDistributedSamplerWrapper,
    )

    at_the_start = (
        SequentialSampler,
        SubsetRandomSampler,
        WeightedRandomSampler,
        DistributedSampler,
        DistributedSamplerWrapper,
        UnrepeatedDistributedSampler,
        UnrepeatedDistributedSamplerWrapper,
    )
    if type(sampler) in at_the_start:
        return EVERYTHING
    if type(sampler) is not RandomSampler:
        return 0
    if sampler.generator is None:
        # the draws come from a generator of its own, whose seed is drawn at the start
        return EVERYTHING
    samples = len(sampler.data_source)
    if sampler.replacement or sampler.num_samples != samples:
        return 0
    # asked beyond the last sample it draws once more from the user's generator
    return samples // batch_size


def index_batches(loader: DataLoader[Any], inner: Any) -> Iterator[Any]:
    """The indices of a pass, batch by batch: those that the stock loader's iterator would ask for, drawn as it would.

    torch's `RandomSampler` hands out a list element by element through a generator; here the list's own iterator is used.

    Args:
        loader: the loader.
        inner: the stock iterator of the pass, which nobody has asked for an index yet.
    """
    batch_sampler: Any = loader.batch_sampler
    if type(batch_sampler) is BatchSampler and type(batch_sampler.sampler) is RandomSampler:
        drawn: Any = _Unwrapped(batch_sampler.sampler)
        return iter(BatchSampler(drawn, batch_sampler.batch_size, batch_sampler.drop_last))
    return inner._sampler_iter  # type: ignore[no-any-return]  # private to torch's loader


def index_spans(loader: DataLoader[Any], inner: Any) -> Iterator[Any]:
    """As `index_batches`, but of a whole pass's permutation the batches are `Span`, where one draw gives it."""
    batch_sampler: Any = loader.batch_sampler
    if type(batch_sampler) is BatchSampler:
        sampler = batch_sampler.sampler
        if (
            type(sampler) is RandomSampler
            # what it draws from one of its own at the end of the pass nobody sees
            and sampler.generator is None
            and not sampler.replacement
            and sampler.num_samples == len(sampler.data_source)
            and _draws_as_known()
        ):
            return _spans(sampler, batch_sampler)
    return index_batches(loader, inner)


def _spans(sampler: RandomSampler, batch_sampler: BatchSampler) -> Iterator[Span]:
    # drawn when the first index is asked for
    order = _permutation(len(sampler.data_source))
    yield from Order(order.data_ptr(), len(order), batch_sampler.batch_size, batch_sampler.drop_last)


def _permutation(rows: int) -> Tensor:
    """What torch's `RandomSampler` draws for a pass over so many rows, from a generator that it seeds by the global one."""
    generator = torch.Generator()
    generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
    return torch.randperm(rows, generator=generator, dtype=torch.int64, device="cpu")


@cache
def _draws_as_known() -> bool:
    """Whether the sampler of the torch that is installed draws so: tried once, the global generator is as before then."""
    before = torch.get_rng_state()
    try:
        stock = list(RandomSampler(range(7)))
        after = torch.get_rng_state()
        torch.set_rng_state(before)
        return _permutation(7).tolist() == stock and torch.equal(after, torch.get_rng_state())
    finally:
        torch.set_rng_state(before)


class _Unwrapped:
    """What a sampler gives, without the steps of its generator where that only passes a list on."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(_pieces(iter(self._sampler)))


def _pieces(generator: Iterator[Any]) -> Iterator[Iterable[Any]]:
    for first in generator:
        yield (first,)
        passed_on: Any = getattr(generator, "gi_yieldfrom", None)
        if type(passed_on) is _LIST_ITERATOR:
            # when it is used up, the generator goes on behind it
            yield passed_on


_LIST_ITERATOR = type(iter([0]))
