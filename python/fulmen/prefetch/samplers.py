"""How far a sampler may be asked for indices before the consumer wants them.

Asking early must change nothing that anybody can see: neither the order of draws from a random generator that others use
too, nor what a sampler of the user's own would have answered later. torch's samplers draw when they are asked for the first
index; after that they only count, until they are asked beyond the end.
"""

from __future__ import annotations

from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

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
