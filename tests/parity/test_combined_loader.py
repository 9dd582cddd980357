"""`CombinedLoader` and the helpers for batches against Lightning's, on random collections."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from fulmen.utilities.combined_loader import CombinedLoader
from fulmen.utilities.data import extract_batch_size, sized_len
from fulmen.utilities.grads import grad_norm
from fulmen.utilities.move_data import move_data_to_device
from fulmen.utilities.seed import pl_worker_init_function, seed_everything

pytest.importorskip("lightning", reason="compares with Lightning, which is not installed")
oracle = pytest.importorskip("lightning.pytorch.utilities.combined_loader")

MODES = ("min_size", "max_size", "max_size_cycle", "sequential")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Events:
    """An iterable that writes down when it is started and when a batch is taken."""

    def __init__(self, name: str, length: int, sized: bool, log: list[str]) -> None:
        self.name, self.length, self.log = name, length, log
        if sized:
            self.__class__ = SizedEvents

    def __iter__(self):
        self.log.append(f"iter {self.name}")
        return self.generate()

    def generate(self):
        for n in range(self.length):
            self.log.append(f"{self.name}{n}")
            yield f"{self.name}{n}"
        self.log.append(f"end {self.name}")


class SizedEvents(Events):
    def __len__(self) -> int:
        return self.length


def collection(draw: random.Random, log: list[str]) -> Any:
    """Nested lists, tuples and dictionaries of one to five iterables."""
    names = iter("abcde")

    def node(depth: int) -> Any:
        kind = (
            draw.choice(["leaf", "list", "dict", "tuple"]) if depth else draw.choice(["list", "dict", "tuple", "leaf"])
        )
        if kind == "leaf" or depth > 2:
            name = next(names, None)
            return None if name is None else Events(name, draw.randrange(4), draw.random() < 0.7, log)
        children = [child for child in (node(depth + 1) for _ in range(draw.randint(1, 3))) if child is not None]
        if not children:
            return None
        return {"list": list, "tuple": tuple, "dict": lambda c: {f"k{i}": v for i, v in enumerate(c)}}[kind](children)

    return node(0)


def behaviour(cls: Any, seed: int, mode: str) -> Any:
    draw = random.Random(seed)
    log: list[str] = []
    loader = cls(collection(draw, log), mode)
    if draw.random() < 0.5:
        loader.limits = [draw.choice([0, 1, 2, 5, float("inf")]) for _ in loader.flattened]
    result: list[Any] = [len(loader.flattened), loader.limits]
    for _ in range(2):
        iter(loader)
        result.append(sized_len(loader))
        log.append("start")
        result.append(list(itertools.islice(loader, 12)))
    return result, log


@pytest.mark.parametrize("mode", MODES)
def test_same_batches_lengths_and_order_of_fetching(mode):
    for seed in range(150):
        ours, theirs = behaviour(CombinedLoader, seed, mode), behaviour(oracle.CombinedLoader, seed, mode)
        assert ours[0] == theirs[0], seed
        if mode != "max_size":  # theirs asks ended iterators again and again
            assert [e for e in ours[1] if e[:3] != "end"] == [e for e in theirs[1] if e[:3] != "end"], seed


@pytest.mark.parametrize("mode", MODES)
def test_same_draws_from_the_generators(mode):
    def run(cls: Any) -> Any:
        torch.manual_seed(1)
        loader = cls({"a": DataLoader(range(5), 2, shuffle=True), "b": DataLoader(range(7), 2, shuffle=True)}, mode)
        batches = [str(item) for _ in range(2) for item in loader]
        return batches, torch.get_rng_state().tolist()

    assert run(CombinedLoader) == run(oracle.CombinedLoader)


def test_same_batch_sizes():
    from lightning.pytorch.utilities.data import extract_batch_size as theirs

    for batch in (
        torch.zeros(3, 2),
        [torch.zeros(2)],
        {"a": ["x", torch.zeros(4)]},
        (torch.tensor(1.0),),
        [torch.zeros(0)],
    ):
        assert extract_batch_size(batch) == theirs(batch)


def test_same_seeds_in_workers():
    from lightning.fabric.utilities.seed import pl_worker_init_function as theirs

    def draws(function: Any, base: int, worker: int, rank: int) -> Any:
        import numpy as np

        torch.manual_seed(base + worker)
        function(worker, rank)
        return random.random(), torch.rand(2).tolist(), np.random.rand()

    seed_everything(0, verbose=False)
    for base, worker, rank in [(1, 0, 0), (2**40 + 3, 5, 7), (0, 1, 0)]:
        assert draws(pl_worker_init_function, base, worker, rank) == draws(theirs, base, worker, rank)


@pytest.mark.parametrize("kind", [1, 2, 3.5, "inf"])
def test_same_norms(kind):
    from lightning.pytorch.utilities.grads import grad_norm as theirs

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 1))
    module(torch.randn(4, 5)).sum().backward()
    assert {k: v.item() for k, v in grad_norm(module, kind).items()} == {
        k: v.item() for k, v in theirs(module, kind).items()
    }


def test_same_structures_after_a_move():
    from lightning.fabric.utilities import move_data_to_device as theirs

    def plain(value: Any) -> Any:
        return {"m": [t.device.type for t in value["m"]], "rest": value["rest"], "type": type(value["m"])}

    batch = {"m": (torch.zeros(1), torch.zeros(2)), "rest": ["a", None, 3]}
    assert plain(move_data_to_device(batch, "meta")) == plain(theirs(batch, "meta"))
