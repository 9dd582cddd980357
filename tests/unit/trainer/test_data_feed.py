"""One pass over the loaders: what is fetched when, and which batch is the last."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader

from fulmen.trainer.feed import Feed
from fulmen.utilities.combined_loader import CombinedLoader


class Noting:
    """An iterable that writes down what is taken from it."""

    def __init__(self, length, log=None):
        self.length, self.log = length, [] if log is None else log

    def __iter__(self):
        self.log.append("iter")
        return self.generate()

    def generate(self):
        for n in range(self.length):
            self.log.append(n)
            yield n


class Sized(Noting):
    def __len__(self):
        return self.length


def feed(iterables, mode="max_size_cycle", limits=None, **options):
    combined = CombinedLoader(iterables, mode)
    combined.limits = limits
    return Feed(combined, **options)


def taken(feed):
    return [(*item, feed.last) for item in feed]


def test_with_length_nothing_is_fetched_early():
    source = Sized(3)
    f = feed(source)
    assert (f.length, f.last, f.sequential) == (3, False, False)
    assert source.log == ["iter"]
    for n in range(3):
        assert next(f) == (n, n, 0)
        assert f.last is (n == 2)
        assert source.log == ["iter", *range(n + 1)]
    with pytest.raises(StopIteration):
        next(f)
    assert source.log == ["iter", 0, 1, 2]


def test_without_length_one_batch_is_ahead():
    source = Noting(3)
    f = feed(source)
    assert f.length is None
    assert source.log == ["iter", 0]
    assert next(f) == (0, 0, 0)
    assert source.log == ["iter", 0, 1]
    assert taken(f) == [(1, 1, 0, False), (2, 2, 0, True)]


def test_a_limit_is_a_length():
    source = Noting(9)
    f = feed(source, limits=2)
    assert source.log == ["iter"]
    assert taken(f) == [(0, 0, 0, False), (1, 1, 0, True)]
    assert source.log == ["iter", 0, 1]


@pytest.mark.parametrize("source", [Noting(0), Sized(0)])
def test_nothing(source):
    f = feed(source)
    assert taken(f) == []


def test_a_loader_that_ends_before_its_length():
    class Liar(Sized):
        def __len__(self):
            return 5

    assert taken(feed(Liar(2))) == [(0, 0, 0, False), (1, 1, 0, False)]


@pytest.mark.parametrize("kind", [Sized, Noting])
def test_sequential(kind):
    f = feed([kind(2), kind(1)], "sequential", [2, 5])
    assert f.sequential
    assert taken(f) == [(0, 0, 0, False), (1, 1, 0, False), (0, 0, 1, kind is Sized)] or kind is Noting
    if kind is Sized:
        assert f.length == 3


def test_sequential_without_length():
    f = feed([Noting(2), Noting(1)], "sequential", [float("inf")] * 2)
    assert f.length is None
    assert taken(f) == [(0, 0, 0, False), (1, 1, 0, False), (0, 0, 1, True)]


@pytest.mark.parametrize("kind", [Sized, Noting])
@pytest.mark.parametrize("mode", ["min_size", "max_size", "max_size_cycle", "sequential"])
def test_each_loader_starts_once(kind, mode):
    log = []
    f = feed([kind(2, log), kind(2, log)], mode)
    assert len(list(f)) == (4 if mode == "sequential" else 2)
    assert log.count("iter") == (3 if mode == "max_size_cycle" and kind is Noting else 2)  # the first one starts again


def test_several_at_once():
    f = feed({"a": Sized(1), "b": Sized(2)}, "max_size")
    assert taken(f) == [({"a": 0, "b": 0}, 0, 0, False), ({"a": None, "b": 1}, 1, 0, True)]


@pytest.mark.parametrize("kind", [Sized, Noting])
def test_skip_fetches_and_drops(kind):
    source = kind(4)
    f = feed(source)
    f.skip(2)
    assert taken(f) == [(2, 2, 0, False), (3, 3, 0, True)]
    assert source.log == ["iter", 0, 1, 2, 3]


def test_skip_leaves_restored_loaders_alone():
    class Resuming(Sized):
        def __iter__(self):
            return iter(["c", "d"])

    f = feed(Resuming(4), restored=True)
    f.skip(2)
    assert taken(f) == [("c", 2, 0, False), ("d", 3, 0, True)]


def test_reset_ends_the_workers():
    loader = DataLoader(range(4), num_workers=1, persistent_workers=True)
    f = feed(loader)
    next(f)
    workers = loader._iterator._workers
    f.reset()
    assert not any(worker.is_alive() for worker in workers)
    assert list(f) == []


def test_a_subclass_of_combined_loader_is_asked_itself():
    class Doubled(CombinedLoader):
        def __next__(self):
            batch, *rest = super().__next__()
            return batch * 2, *rest

    assert [item[0] for item in Feed(Doubled(Sized(3), "min_size"))] == [0, 2, 4]


def test_iterator_argument():
    turns = feed(Sized(3)).as_iterator_argument()
    assert (turns.length, turns.last) == (3, False)
    got = []
    for iterator, _, _ in turns:
        assert turns.last is (iterator.fetched == 2)
        got.append((next(iterator), iterator.fetched, iterator.done))
    assert got == [((0, 0, 0), 1, False), ((1, 1, 0), 2, False), ((2, 2, 0), 3, True)]


def test_iterator_argument_without_length():
    turns = feed(Noting(2)).as_iterator_argument()
    got = []
    for iterator, _, _ in turns:
        assert not turns.last
        got.append(next(iterator)[0])
    assert got == [0, 1]
    assert turns.last


def test_a_step_may_take_several_batches():
    turns = feed(Sized(3)).as_iterator_argument()
    iterator, _, _ = next(turns)
    next(iterator)
    assert [item[0] for item in iterator] == [1, 2]
    with pytest.raises(StopIteration):
        next(turns)
    with pytest.raises(StopIteration):
        next(iterator)
