"""Batches of worker processes are those of the stock loader, and so are the draws from every random generator."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from fulmen.prefetch import choose

from ..loader_configurations import difference, generators, seed
from ..worker_configurations import CONFIGURATIONS, augmented
from .test_prefetch import apart, assert_equal_content, in_another_process, passes

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*pin_memory.*"),
    pytest.mark.filterwarnings("ignore:.*worker processes in total.*"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*"),
    pytest.mark.timeout(120),
]


def compared(stock: Any, ours: Any, where: str) -> str | None:
    """The first difference; sparse tensors by their dense form."""
    if isinstance(stock, dict) and "sparse" in stock:
        stock, ours = dict(stock), dict(ours)
        assert stock["sparse"].layout == ours["sparse"].layout
        stock["sparse"], ours["sparse"] = stock["sparse"].to_dense(), ours["sparse"].to_dense()
    return difference(stock, ours, where)


def assert_passes_alike(stock: Any, ours: Any) -> None:
    for one, other in zip(stock, ours, strict=True):
        assert len(one) == len(other)
        for number, ((a, before), (b, after)) in enumerate(zip(one, other, strict=True)):
            found = compared(a, b, f"batch {number - 1}")
            assert found is None, found
            assert before == after, f"generators after batch {number - 1}"


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_same_batches_and_draws(name: str, workers: int) -> None:
    seed(1)
    loader = CONFIGURATIONS[name](workers)
    stock = passes(loader, lambda: iter(loader), 3)
    loader._iterator = None
    seed(1)
    loader = CONFIGURATIONS[name](workers)
    source = choose(loader)
    assert source.kind == "workers"
    ours = passes(loader, source.epoch, 3)
    source.close()
    assert_passes_alike(stock, ours)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_same_random_samples_with_stock_seeding(workers: int, persistent: bool) -> None:
    seed(1)
    loader = augmented(workers, persistent)
    stock = passes(loader, lambda: iter(loader), 3)
    loader._iterator = None
    seed(1)
    loader = augmented(workers, persistent)
    source = choose(loader, "auto", "stock")
    ours = passes(loader, source.epoch, 3)
    source.close()
    assert_passes_alike(stock, ours)


def test_random_samples_do_not_depend_on_the_number_of_workers() -> None:
    found = []
    for workers in (1, 2, 3):
        seed(1)
        source = choose(augmented(workers))
        found.append([list(source.epoch()) for _ in range(2)])
        source.close()
    assert difference(found[0], found[1]) is None
    assert difference(found[0], found[2]) is None
    first, second = found[0]
    assert difference(first, second) is not None


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_every_way_to_start_a_process(method: str) -> None:
    data = TensorDataset(torch.arange(24.0).reshape(12, 2))
    loader = DataLoader(data, batch_size=5, num_workers=1, multiprocessing_context=method)
    source = choose(loader)
    found = [list(source.epoch()) for _ in range(2)]
    source.close()
    expected = [[torch.stack(list(part))] for part in data.tensors[0].split(5)]
    assert difference(expected, found[0]) is None
    assert difference(expected, found[1]) is None


def test_any_order() -> None:
    loader = DataLoader(torch.arange(40), batch_size=4, num_workers=3, in_order=False)
    source = choose(loader)
    for _ in range(2):
        assert sorted(int(n) for batch in source.epoch() for n in batch) == list(range(40))
    source.close()


# ---- taken up again --------------------------------------------------------------------------------------------------

TAKEN_UP = [
    "sequential", "shuffled", "shuffled_and_persistent", "own_generator", "with_replacement", "draws_at_every_step",
    "numpy_sampler", "buckets", "buckets_and_persistent", "mixed", "augmented",
]  # fmt: skip


def make(name: str, workers: int) -> DataLoader[Any]:
    return augmented(workers) if name == "augmented" else CONFIGURATIONS[name](workers)


def rest_of(loader: Any, iterator: Any, source: Any) -> Any:
    rest = [(batch, torch.rand(1), generators(loader)) for batch in iterator]
    return rest, [(batch, torch.rand(1)) for batch in source.epoch()], generators(loader)


@pytest.mark.parametrize("name", TAKEN_UP)
@pytest.mark.parametrize("workers", [1, 3])
def test_taken_up_after_every_batch(name: str, workers: int) -> None:
    number = 0
    while True:
        seed(3)
        loader = make(name, workers)
        source = choose(loader)
        # not the first pass: the workers are there, and the number of the pass counts
        for _ in source.epoch():
            torch.rand(1)
        iterator = source.epoch()
        taken = 0
        for _ in iterator if number else ():
            taken += 1
            torch.rand(1)
            if taken == number:
                break
        if taken < number:
            source.close()
            return
        file = io.BytesIO()
        torch.save(source.state(), file)
        expected = rest_of(loader, iterator, source)
        source.close()
        seed(99)
        loader = make(name, workers)
        torch.rand(7)
        source = choose(loader)
        source.restore(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
        found = rest_of(loader, source.epoch(), source)
        source.close()
        assert difference(expected, found) is None, (number, difference(expected, found))
        number += 2


def take_up(name: str, saved: bytes) -> Any:
    seed(99)
    loader = make(name, 2)
    torch.rand(7)
    source = choose(loader)
    source.restore(torch.load(io.BytesIO(saved), weights_only=True))
    found = rest_of(loader, source.epoch(), source)
    source.close()
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_taken_up_after_every_batch_in_another_process(tmp_path: Path) -> None:
    saved, expected = {}, {}
    for name in [*CONFIGURATIONS, "augmented"]:
        for number in itertools.count():
            seed(3)
            loader = make(name, 2)
            source = choose(loader)
            iterator = source.epoch()
            taken = [torch.rand(1) for _ in itertools.islice(iterator, number)]
            if len(taken) < number:
                source.close()
                break
            file = io.BytesIO()
            torch.save(source.state(), file)
            saved[name, number] = file.getvalue()
            expected[name, number] = rest_of(loader, iterator, source)
            source.close()
    found = in_another_process("tests.parity.test_workers", saved, tmp_path)
    for key, rest in expected.items():
        assert difference(apart(rest), found[key]) is None, (key, difference(apart(rest), found[key]))


@pytest.mark.parametrize("others", [0, 1, 2])
def test_taken_up_with_another_number_of_workers(others: int) -> None:
    """Nothing but the moments of draws depends on it."""
    seed(3)
    source = choose(make("augmented" if others else "shuffled", 3))
    iterator = source.epoch()
    next(iterator), next(iterator)
    state = source.state()
    expected = list(iterator)
    source.close()
    seed(99)
    loader = make("augmented", others) if others else DataLoader(make("shuffled", 1).dataset, 4, shuffle=True)
    source = choose(loader)
    source.restore(state)
    found = list(source.epoch())
    source.close()
    assert_equal_content(expected, found, "rest")


@pytest.mark.parametrize("name", ["shuffled", "shuffled_and_persistent", "buckets_and_persistent", "augmented"])
def test_taken_up_between_two_passes(name: str) -> None:
    seed(3)
    loader = make(name, 2)
    source = choose(loader)
    for _ in range(2):
        list(source.epoch())
    state = source.state()
    expected = rest_of(loader, source.epoch(), source)
    source.close()
    seed(99)
    loader = make(name, 1)
    source = choose(loader)
    source.restore({**state, "taken": None})
    found = rest_of(loader, source.epoch(), source)
    source.close()
    assert_equal_content([e[0] for e in expected[0]], [f[0] for f in found[0]], "batches")
    assert_equal_content([e[0] for e in expected[1]], [f[0] for f in found[1]], "batches of the next pass")
