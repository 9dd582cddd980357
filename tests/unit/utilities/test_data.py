"""Sizes and lengths."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from fulmen.utilities import data
from fulmen.utilities.exceptions import MisconfigurationException


@pytest.fixture(autouse=True)
def _forget_warnings():
    data.warning_cache.clear()


@dataclass
class Record:
    x: Any


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (torch.zeros(4, 2), 4),
        (torch.zeros(()), 1),
        ([torch.zeros(3), torch.zeros(3, 5)], 3),
        ({"x": {"y": torch.zeros(6)}}, 6),
        (Record({"x": [torch.zeros(2)]}), 2),
        (Pair(torch.zeros(2), torch.zeros(2, 2)), 2),
        (["text", None, torch.zeros(5)], 5),
        ((torch.zeros(n) for n in (3, 3)), 3),
    ],
)
def test_extract_batch_size(batch, size, recwarn):
    assert data.extract_batch_size(batch) == size
    assert not recwarn.list


def test_ambiguous_batch_size_warns_once():
    with pytest.warns(UserWarning, match="we found is 2"):
        assert data.extract_batch_size([torch.zeros(2), torch.zeros(3)]) == 2
    with pytest.warns(UserWarning, match="we found is 4"):
        assert data.extract_batch_size([torch.zeros(4), "text"]) == 4


@pytest.mark.parametrize("batch", ["text", None, [], {}, 1.0, [["a"], {"b": None}]])
def test_no_batch_size(batch):
    with pytest.raises(MisconfigurationException, match="batch_size=batch_size"):
        data.extract_batch_size(batch)


def test_batch_in_itself():
    batch: list[Any] = []
    batch.append(batch)
    with pytest.raises(RecursionError, match="batch_size=batch_size"):
        data.extract_batch_size(batch)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


class SizedStream(Stream):
    def __len__(self):
        return 3


class Shy:
    def __len__(self):
        raise NotImplementedError


class OneRank:
    root_device = torch.device("cpu")

    def __init__(self, elsewhere=0):
        self.elsewhere = elsewhere

    def reduce(self, tensor, reduce_op):
        assert reduce_op == "sum"
        return tensor + self.elsewhere


def test_sized_len():
    assert data.sized_len([1, 2]) == 2
    assert data.sized_len(Shy()) is None
    assert data.sized_len(iter([])) is None
    assert data.sized_len(DataLoader(Stream())) is None


@pytest.mark.parametrize("ask", [data.has_len, lambda loader: data.has_len_all_ranks(loader, OneRank())])
def test_has_len(ask, recwarn):
    assert ask(DataLoader(range(3)))
    assert not ask(DataLoader(Stream()))
    assert not ask(Shy())
    assert not recwarn.list
    with pytest.warns(UserWarning, match="`IterableDataset` has `__len__` defined"):
        assert ask(DataLoader(SizedStream()))
    with pytest.warns(UserWarning, match="make sure this was your intention"):
        assert ask([])


def test_empty_on_one_rank_only():
    with pytest.raises(RuntimeError, match="`list` within local rank has zero length"):
        data.has_len_all_ranks([], OneRank(elsewhere=2))
    with pytest.warns(UserWarning, match="zero length on the local rank"):
        assert data.has_len_all_ranks([], OneRank(elsewhere=2), True)


def test_has_iterable_dataset():
    assert data.has_iterable_dataset(DataLoader(Stream()))
    assert not data.has_iterable_dataset(DataLoader(range(2)))
    assert not data.has_iterable_dataset([1])


def test_suggested_max_num_workers(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [data.suggested_max_num_workers(n) for n in (1, 2, 3, 8, 100)] == [7, 3, 1, 1, 1]
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert data.suggested_max_num_workers(1) == 1
    with pytest.raises(ValueError, match="got 0"):
        data.suggested_max_num_workers(0)
