"""What every rank gets of the data, and the record of batches' indices."""

from __future__ import annotations

import copy
import pickle

import pytest
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from fulmen.trainer.sampler import (
    BatchIndexRecorder,
    DistributedSamplerWrapper,
    UnrepeatedDistributedSampler,
    UnrepeatedDistributedSamplerWrapper,
)


class Backwards:
    """A sampler of the user's, which wants to know the epoch."""

    def __init__(self, n):
        self.n, self.epoch = n, None

    def __len__(self):
        return self.n

    def __iter__(self):
        return iter(range(10 * (self.epoch or 0) + self.n, 10 * (self.epoch or 0), -1))

    def set_epoch(self, epoch):
        self.epoch = epoch


def ranks(kind, source, n=2, **options):
    return [list(kind(source, num_replicas=n, rank=rank, **options)) for rank in range(n)]


def test_wrapper_pads_with_repeats():
    assert ranks(DistributedSamplerWrapper, Backwards(5), shuffle=False) == [[5, 3, 1], [4, 2, 5]]


def test_wrapper_shuffles_by_seed_and_epoch():
    samplers = [DistributedSamplerWrapper(Backwards(8), num_replicas=2, rank=r, shuffle=True, seed=3) for r in range(2)]
    first = [list(s) for s in samplers]
    assert sorted(sum(first, [])) == list(range(1, 9))
    assert sum(first, []) != list(range(1, 9))
    for s in samplers:
        s.set_epoch(1)
    second = [list(s) for s in samplers]
    assert sorted(sum(second, [])) == list(range(11, 19))


def test_unrepeated():
    assert ranks(UnrepeatedDistributedSampler, range(7), shuffle=False) == [[0, 2, 4, 6], [1, 3, 5]]
    assert ranks(UnrepeatedDistributedSamplerWrapper, Backwards(3), shuffle=False) == [[3, 1], [2]]
    mixed = ranks(UnrepeatedDistributedSampler, range(7), shuffle=True)
    assert sorted(sum(mixed, [])) == list(range(7))
    assert len(mixed[0]) == 4
    assert len(UnrepeatedDistributedSampler(range(7), num_replicas=2, rank=1)) == 3


def test_nothing_to_predict_on_a_rank():
    with pytest.raises(ValueError, match="rank 1 has nothing to predict: 1 samples"):
        UnrepeatedDistributedSampler(range(1), num_replicas=2, rank=1)


@pytest.mark.parametrize("kind", [DistributedSamplerWrapper, UnrepeatedDistributedSamplerWrapper])
def test_samplers_need_a_finite_length(kind):
    class Endless:
        def __iter__(self):
            return iter([])

    with pytest.raises(TypeError, match="`Endless` does not provide a finite `__len__`.*use_distributed_sampler=False"):
        kind(Endless(), num_replicas=2, rank=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_recorder(workers):
    inner = BatchSampler(SequentialSampler(range(5)), 2, False)
    recorder = BatchIndexRecorder(inner)
    loader = DataLoader(range(5), batch_sampler=recorder, num_workers=workers)
    assert len(loader) == 3
    for _ in range(2):
        batches = list(loader)
        assert recorder.seen_batch_indices == [[0, 1], [2, 3], [4]]
        assert [b.tolist() for b in batches] == recorder.seen_batch_indices
    assert (recorder.batch_size, recorder.drop_last) == (2, False)
    with pytest.raises(AttributeError):
        recorder.no_such_thing  # noqa: B018 (reading it is the test)
    for new in (copy.copy(recorder), copy.deepcopy(recorder), pickle.loads(pickle.dumps(recorder))):
        assert list(new) == [[0, 1], [2, 3], [4]]
