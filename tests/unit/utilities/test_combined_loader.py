"""One iterable out of several."""

from __future__ import annotations

import copy
import pickle
from collections import namedtuple

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from fulmen.utilities.combined_loader import CombinedLoader

Pair = namedtuple("Pair", "a b")


class Endless:
    def __iter__(self):
        n = 0
        while True:
            yield n
            n += 1


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("min_size", [({"a": 0, "b": 0}, 0, 0), ({"a": 1, "b": 1}, 1, 0)]),
        ("max_size", [({"a": 0, "b": 0}, 0, 0), ({"a": 1, "b": 1}, 1, 0), ({"a": None, "b": 2}, 2, 0)]),
        ("max_size_cycle", [({"a": 0, "b": 0}, 0, 0), ({"a": 1, "b": 1}, 1, 0), ({"a": 0, "b": 2}, 2, 0)]),
        ("sequential", [(0, 0, 0), (1, 1, 0), (0, 0, 1), (1, 1, 1), (2, 2, 1)]),
    ],
)
def test_modes(mode, expected):
    loader = CombinedLoader({"a": range(2), "b": range(3)}, mode)
    for _ in range(2):
        assert list(loader) == expected
        assert len(loader) == len(expected)


def test_unknown_mode():
    with pytest.raises(ValueError, match="Unsupported mode 'longest'.*min_size"):
        CombinedLoader([], "longest")


@pytest.mark.parametrize(
    ("collection", "first"),
    [
        (range(3), 0),
        ([1, 2], 1),  # numbers and text only: an iterable, no collection
        (["x", 2.0], "x"),
        ([[4, 5], (6, 7)], [4, 6]),
        ({"a": range(2), "b": [range(2), {"c": range(2)}]}, {"a": 0, "b": [0, {"c": 0}]}),
        (Pair(range(1), [range(1)]), Pair(0, [0])),
    ],
)
def test_structures(collection, first):
    loader = CombinedLoader(collection)
    assert loader.iterables is collection
    assert next(iter(loader)) == (first, 0, 0)


def test_nothing_to_iterate():
    for collection in ([], {}, [[], []]):
        for mode in ("min_size", "max_size", "max_size_cycle", "sequential"):
            loader = CombinedLoader(collection, mode)
            assert list(loader) == []
            assert len(loader) == 0


def test_cycle_with_an_empty_iterable_ends():
    assert list(CombinedLoader([range(2), []], "max_size_cycle")) == []


def test_length_comes_with_iteration():
    loader = CombinedLoader([range(2), range(3)])
    with pytest.raises(RuntimeError, match=r"iter\(combined_loader\)"):
        len(loader)
    with pytest.raises(RuntimeError, match=r"iter\(combined_loader\)"):
        next(loader)
    assert iter(loader) is loader
    assert len(loader) == 2
    loader.reset()
    with pytest.raises(RuntimeError):
        len(loader)


@pytest.mark.parametrize(
    ("mode", "limits", "length"),
    [
        ("min_size", None, 3),
        ("max_size", None, None),
        ("sequential", None, None),
        ("max_size", 4, 4),
        ("max_size", [2, 1], 2),
        ("max_size_cycle", [float("inf"), 5], 5),
        ("sequential", [2, 5], 7),
        ("sequential", [9, 5], 8),
        ("min_size", [9, 2], 2),
    ],
)
def test_length_with_limits(mode, limits, length):
    loader = CombinedLoader([range(3), Endless()], mode)
    loader.limits = limits
    iter(loader)
    if length is None:
        with pytest.raises(TypeError, match="no length"):
            len(loader)
    else:
        assert len(loader) == length


def test_limits_of_sequential_loaders_fetch_nothing_more():
    fetched = []

    class Noting:
        def __init__(self, name):
            self.name = name

        def __iter__(self):
            for n in range(5):
                fetched.append(f"{self.name}{n}")
                yield n

    loader = CombinedLoader([Noting("a"), Noting("b"), Noting("c")], "sequential")
    loader.limits = [2, 0, 1]
    assert list(loader) == [(0, 0, 0), (1, 1, 0), (0, 0, 2)]
    assert fetched == ["a0", "a1", "c0"]


def test_wrong_number_of_limits():
    loader = CombinedLoader([range(1), range(1)])
    loader.limits = 3
    assert loader.limits == [3, 3]
    with pytest.raises(ValueError, match=r"Mismatch in number of limits \(1\) and number of iterables \(2\)"):
        loader.limits = [1]
    loader.limits = None
    assert loader.limits is None


def test_flattened_can_be_replaced():
    loader = CombinedLoader({"a": range(1), "b": [range(2)]})
    assert loader.flattened == [range(1), range(2)]
    loader.flattened = [range(3), range(4)]
    assert loader.iterables == {"a": range(3), "b": [range(4)]}
    with pytest.raises(ValueError, match=r"Mismatch in flattened length \(1\) and existing length \(2\)"):
        loader.flattened = [range(1)]


def test_samplers_have_the_structure():
    loaders = {"a": DataLoader(range(2)), "b": [DataLoader(range(2), shuffle=True), range(2)]}
    loader = CombinedLoader(loaders)
    assert isinstance(loader.sampler["a"], SequentialSampler)
    assert isinstance(loader.sampler["b"][0], RandomSampler)
    assert loader.sampler["b"][1] is None
    assert loader.batch_sampler["a"] is loaders["a"].batch_sampler


@pytest.mark.parametrize("mode", ["min_size", "sequential"])
def test_running_loaders_can_be_copied(mode):
    loader = CombinedLoader([DataLoader(range(2)), DataLoader(range(2))], mode)
    iter(loader)
    next(loader)
    for new in (pickle.loads(pickle.dumps(loader)), copy.deepcopy(loader)):
        assert len(list(new)) == {"min_size": 2, "sequential": 4}[mode]
    assert next(loader)[1] == 1


def test_workers_end_with_reset():
    data = DataLoader(range(4), num_workers=1, persistent_workers=True)
    loader = CombinedLoader([data])
    iter(loader)
    next(loader)
    workers = data._iterator._workers
    loader.reset()
    assert data._iterator is None
    assert not any(worker.is_alive() for worker in workers)


def test_dataset_length():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([])

    loaders = [DataLoader(range(3), batch_size=2), DataLoader(range(5)), DataLoader(Stream())]
    assert CombinedLoader(loaders, "min_size")._dataset_length() == 3
    assert CombinedLoader(loaders, "sequential")._dataset_length() == 8
    with pytest.raises(NotImplementedError):
        CombinedLoader([loaders[2]])._dataset_length()


class Stateful(list):
    def state_dict(self):
        return {"items": list(self)}

    def load_state_dict(self, state_dict):
        self[:] = state_dict["items"]


def test_states():
    loader = CombinedLoader({"a": Stateful([torch.ones(1)]), "b": range(1)})
    other = CombinedLoader({"a": Stateful([torch.zeros(1)]), "b": range(1)})
    states = loader._state_dicts()
    assert len(states) == 1
    other._load_state_dicts([])
    assert other.iterables["a"] == [torch.zeros(1)]
    other._load_state_dicts(states)
    assert other.iterables["a"] == [torch.ones(1)]
    with pytest.raises(RuntimeError, match="has 1 stateful loaders, but found 2 states"):
        other._load_state_dicts(states * 2)
