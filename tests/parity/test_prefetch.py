"""Sources give what the stock loader gives: batches bit for bit, and the same draws from every random generator."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fulmen.prefetch import choose

from .. import loader_configurations as known
from ..loader_configurations import CONFIGURATIONS, KINDS, difference, generators, seed

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*")


def passes(loader: Any, start: Any, number: int) -> list[list[tuple[Any, Any]]]:
    """Passes, each as its batches with the generators' states after each of them, and after the end."""
    found = []
    for epoch in range(number):
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(epoch)
        one: list[tuple[Any, Any]] = []
        iterator = start()
        one.append((None, generators(loader)))
        for batch in iterator:
            # a training step draws too
            torch.rand(1)
            one.append((batch, generators(loader)))
        one.append((None, generators(loader)))
        found.append(one)
    return found


def assert_same(stock: Any, ours: Any) -> None:
    assert len(stock) == len(ours)
    for number, ((a, before), (b, after)) in enumerate(zip(stock, ours, strict=True)):
        assert difference(a, b, f"batch {number - 1}") is None, difference(a, b, f"batch {number - 1}")
        assert before == after, f"generators after batch {number - 1}"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_same_batches_and_draws(name: str) -> None:
    make = CONFIGURATIONS[name]
    seed(1)
    loader = make()
    stock = passes(loader, lambda: iter(loader), 2)
    seed(1)
    loader = make()
    source = choose(loader)
    assert source.kind in KINDS[name]
    ours = passes(loader, source.epoch, 2)
    for a, b in zip(stock, ours, strict=True):
        assert_same(a, b)
    source.close()


@pytest.mark.parametrize("mode", ["off", 1, 5])
@pytest.mark.parametrize("name", ["shuffled", "large", "large_with_own_generator", "mixed_samples"])
def test_same_in_every_mode(name: str, mode: Any) -> None:
    make = CONFIGURATIONS[name]
    seed(1)
    loader = make()
    stock = passes(loader, lambda: iter(loader), 2)
    seed(1)
    loader = make()
    ours = passes(loader, choose(loader, mode).epoch, 2)
    for a, b in zip(stock, ours, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_pass_that_is_left_early(name: str) -> None:
    """A pass that nobody finishes leaves the generators where the stock loader leaves them."""
    make = CONFIGURATIONS[name]
    states = []
    for ours in (False, True):
        seed(2)
        loader = make()
        start = choose(loader).epoch if ours else loader.__iter__
        for left_after in (1, 2):
            iterator = start()
            for _ in range(left_after):
                next(iterator)
            states.append(generators(loader))
            del iterator
        states.append(difference(list(start()), None))
    half = len(states) // 2
    assert states[:half] == states[half:]


def rest_of(loader: Any, source: Any) -> Any:
    """What a consumer sees from here on: the rest of this pass, and another."""
    rest = [(batch, torch.rand(1), generators(loader)) for batch in source.epoch()]
    return rest, [(batch, torch.rand(1), generators(loader)) for batch in source.epoch()]


def stop_after(name: str, batches: int | None) -> tuple[Any, bytes, Any]:
    """The state after some batches (None: after the pass), saved, and what a run that goes on sees afterwards."""
    seed(3)
    loader = CONFIGURATIONS[name]()
    source = choose(loader)
    iterator = source.epoch()
    taken = 0
    for _ in iterator if batches != 0 else ():
        taken += 1
        torch.rand(1)
        if taken == batches:
            break
    state = source.state()
    file = io.BytesIO()
    torch.save(state, file)
    rest = [(batch, torch.rand(1), generators(loader)) for batch in iterator]
    rest = (rest, [(batch, torch.rand(1), generators(loader)) for batch in source.epoch()])
    return taken, file.getvalue(), rest


def take_up(name: str, saved: bytes) -> Any:
    seed(99)
    loader = CONFIGURATIONS[name]()
    torch.rand(7)
    source = choose(loader)
    source.restore(torch.load(io.BytesIO(saved), weights_only=True))
    return rest_of(loader, source)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_take_up_after_every_batch(name: str) -> None:
    batches, saved, expected = stop_after(name, None)
    for number in range(batches + 1):
        taken, saved, expected = stop_after(name, number)
        assert taken == number
        found = take_up(name, saved)
        assert difference(expected, found, f"after {number}") is None, difference(expected, found, f"after {number}")


def test_take_up_after_every_batch_in_another_process(tmp_path: Path) -> None:
    """Every state of every loader, taken up by a process that has made none of it."""
    saved: dict[tuple[str, int], bytes] = {}
    expected: dict[tuple[str, int], Any] = {}
    for name in CONFIGURATIONS:
        batches, _, _ = stop_after(name, None)
        for number in range(batches + 1):
            _, saved[name, number], expected[name, number] = stop_after(name, number)
    found = in_another_process("tests.parity.test_prefetch", saved, tmp_path)
    for key, rest in expected.items():
        # a file makes several tensors of a batch share a storage or not, so only what was in them is compared here
        assert_equal_content(rest, found[key], str(key))


def in_another_process(module: str, saved: dict[tuple[str, int], bytes], folder: Path) -> Any:
    """What ``take_up`` of a module gives there for each of these."""
    torch.save(saved, folder / "states")
    code = (
        "import torch, warnings; warnings.simplefilter('ignore')\n"
        f"from {module} import take_up\n"
        f"states = torch.load({str(folder / 'states')!r}, weights_only=False)\n"
        "found = {key: take_up(key[0], saved) for key, saved in states.items()}\n"
        "from tests.parity.test_prefetch import apart\n"
        f"torch.save(apart(found), {str(folder / 'found')!r})\n"
    )
    root = Path(known.__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=600)
    return torch.load(folder / "found", weights_only=False)


def apart(value: Any) -> Any:
    """The same, with memory of its own under each tensor: torch.save refuses tensors of several types over the same."""
    if isinstance(value, torch.Tensor):
        return value.clone() if value.layout is torch.strided else value.to_dense()
    if isinstance(value, dict):
        return type(value)((key, apart(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        items = [apart(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def assert_equal_content(a: Any, b: Any, where: str) -> None:
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape and known.bits(a) == known.bits(b), where
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_equal_content(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal_content(x, y, f"{where}[{number}]")
    else:
        assert difference(a, b, where) is None
