"""Gathered batches in unkind hands: kept alive in every way, many of them, forked, in threads, at the interpreter's end."""

from __future__ import annotations

import copy
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from fulmen.prefetch import choose

ROW = 12_000
"""Floats of a row that goes through threads and pooled buffers in batches of 4."""


def loader(rows: int = 64, width: int = ROW, batch_size: int = 4) -> DataLoader[Any]:
    x = torch.arange(rows, dtype=torch.float32).repeat_interleave(width).view(rows, width)
    return DataLoader(TensorDataset(x, torch.arange(rows)), batch_size=batch_size, shuffle=True)


class Sum(torch.autograd.Function):
    """Keeps its input for the backward pass."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (weight * x).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return gradient * x.sum(), None


def graph(x: Tensor) -> Tensor:
    weight = torch.ones((), requires_grad=True)
    loss = Sum.apply(weight, x)
    loss.weight = weight
    return loss


def gradient(loss: Tensor) -> Tensor:
    loss.backward(retain_graph=True)
    weight = loss.weight
    found = weight.grad
    weight.grad = None
    return found / ROW


WAYS: dict[str, tuple[Any, Any]] = {
    # how a batch's tensor is kept, and how its values are read from what was kept
    "tensor": (lambda x: x, lambda kept: kept[:, 0].sum()),
    "view": (lambda x: x[1:3], lambda kept: kept[:, 0].sum()),
    "strided": (lambda x: x[:, ::100], lambda kept: kept[:, 0].sum()),
    "row": (lambda x: x[2], lambda kept: kept[7]),
    "transposed": (lambda x: x.t(), lambda kept: kept[0].sum()),
    "detached": (lambda x: x.detach(), lambda kept: kept[:, 5].sum()),
    "data": (lambda x: x.data, lambda kept: kept[:, 5].sum()),
    "numpy": (lambda x: x.numpy(), lambda kept: torch.tensor(kept[:, 5].sum())),
    "numpy view": (lambda x: x.numpy()[1:, 3:9], lambda kept: torch.tensor(kept[:, 2].sum())),
    "memoryview": (lambda x: memoryview(x.numpy().reshape(-1))[2 * ROW :], lambda kept: torch.tensor(kept[11])),
    "dlpack": (lambda x: torch.utils.dlpack.to_dlpack(x), None),
    "from dlpack": (lambda x: torch.from_dlpack(x), lambda kept: kept[:, 5].sum()),
    "storage": (lambda x: x.untyped_storage(), lambda kept: torch.tensor([], dtype=torch.float32).set_(kept)[-1]),
    "graph": (graph, gradient),
    "cell": (lambda x: lambda: x[:, 0].sum(), lambda kept: kept()),
    "shallow copy": (lambda x: copy.copy(x), lambda kept: kept[:, 5].sum()),
    "parameter": (lambda x: torch.nn.Parameter(x), lambda kept: kept.detach()[:, 5].sum()),
    "unbound": (lambda x: x.unbind(0)[3], lambda kept: kept[1]),
    "dict in a list": (lambda x: [{"x": x}], lambda kept: kept[0]["x"][:, 0].sum()),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_that_is_kept_never_changes(way: str) -> None:
    keep, read = WAYS[way]
    source, kept = choose(loader()), []
    assert source.kind == "gather" and source._threaded
    for batch in source.epoch():
        expected = None if read is None else read(keep(batch[0].clone()))
        kept.append((keep(batch[0]), expected))
        del batch
        if len(kept) == 10:
            break
    for _ in range(3):
        for x, y in source.epoch():
            assert torch.equal(x[:, -1], y.float())
            x.fill_(-1)
    for held, expected in kept:
        if read is None:
            held = torch.utils.dlpack.from_dlpack(held)
            assert (held[:, 0] >= 0).all() and torch.equal(held[:, 0], held[:, -1])
        else:
            assert torch.equal(torch.as_tensor(read(held)), torch.as_tensor(expected))


def test_buffers_are_used_again_and_bounded() -> None:
    source = choose(loader())
    for _ in range(20):
        for _ in source.epoch():
            pass
    allocated, _ = source._gatherer.pool_counts()
    fields, ahead = 2, source._depth + 3
    assert allocated <= fields * ahead
    kept = [batch for _ in range(3) for batch in source.epoch()]
    del kept
    _, waiting = source._gatherer.pool_counts()
    assert waiting <= (source._depth + 3) * (4 * (4 * ROW + 8) + 4096 * fields)


def test_a_batch_in_a_cycle_comes_back_with_the_collector() -> None:
    source = choose(loader())
    x = next(source.epoch())[0]
    ring: list[Any] = [x]
    ring.append(ring)
    gone = weakref.ref(x)
    del x, ring
    gc.collect()
    assert gone() is None


def test_a_dataset_that_is_written_to_gives_its_new_values() -> None:
    given = loader()
    source = choose(given)
    x = given.dataset.tensors[0]
    for number, batch in enumerate(source.epoch()):
        assert (batch[0][:, 0] == batch[1] + number * 100).all(), number
        x.add_(100)


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize(("width", "batch_size"), [(20, 32), (ROW, 4)])
def test_memory_is_flat_over_ten_thousand_batches(width: int, batch_size: int) -> None:
    source = choose(loader(256 * batch_size, width, batch_size))

    def run(batches: int) -> None:
        while batches > 0:
            for _ in source.epoch():
                batches -= 1

    run(1000)
    before = resident()
    run(10_000)
    assert resident() - before < 4 << 20


# ---- processes and threads -------------------------------------------------------------------------------------------

SETUP = """
import os, sys, threading, time, torch
from torch.utils.data import DataLoader, TensorDataset
from fulmen.prefetch import choose
# OpenMP's threads do not survive a fork
torch.set_num_threads(1)
x = torch.arange(64.).repeat_interleave(50000).view(64, 50000)
def source():
    return choose(DataLoader(TensorDataset(x, torch.arange(64)), batch_size=8, shuffle=True))
def good(batch):
    assert torch.equal(batch[0][:, -1], batch[1].float()), batch
def passes(one, number=3):
    for _ in range(number):
        batches = list(one.epoch())
        assert len(batches) == 8
        for batch in batches:
            good(batch)
"""


def run_script(code: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SETUP + code], capture_output=True, text=True, timeout=timeout
    )


def assert_ends_well(code: str) -> None:
    done = run_script(code)
    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout


def test_no_thread_before_the_first_batch() -> None:
    assert_ends_well(
        "count = lambda: len(os.listdir('/proc/self/task'))\n"
        "before = count(); import fulmen; one = source(); assert count() == before\n"
        "passes(one); assert count() > before; print('done')"
    )


@pytest.mark.parametrize("when", ["between", "within", "in flight"])
def test_a_forked_process_goes_on_alone(when: str) -> None:
    """The child uses its parent's source, in the middle of a pass too, and drops its parent's batches."""
    prepare = {
        "between": "passes(one); iterator = None; kept = None",
        "within": "iterator = one.epoch(); kept = [next(iterator), next(iterator)]",
        "in flight": "iterator = one.epoch(); kept = next(iterator)",
    }[when]
    assert_ends_well(
        f"one = source(); {prepare}\n"
        "children = []\n"
        "for _ in range(5):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        status = 1\n"
        "        try:\n"
        "            rest = list(iterator) if iterator is not None else []\n"
        "            [good(batch) for batch in rest]\n"
        "            del kept, rest\n"
        "            passes(one); passes(source()); status = 0\n"
        "        finally:\n"
        "            os._exit(status)\n"
        "    children.append(child)\n"
        "for child in children:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "rest = list(iterator) if iterator is not None else []\n"
        "[good(batch) for batch in rest]\n"
        "passes(one); print('done')"
    )


def test_several_consumers_at_once() -> None:
    assert_ends_well(
        "failed = []\n"
        "def consume():\n"
        "    try: passes(source(), 10)\n"
        "    except BaseException as error: failed.append(error)\n"
        "threads = [threading.Thread(target=consume) for _ in range(4)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "assert not failed, failed\n"
        "print('done')"
    )


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "kept = next(iterator)", "del x, one, iterator", "os._exit(0)"])
def test_the_interpreter_ends_with_batches_in_flight(ending: str) -> None:
    code = f"one = source(); iterator = one.epoch(); next(iterator); print('done', flush=True)\n{ending}"
    for _ in range(2):
        assert_ends_well(code)


def test_the_interpreter_ends_by_an_exception() -> None:
    done = run_script("iterator = source().epoch(); next(iterator); raise ValueError('enough')")
    assert done.returncode == 1 and "ValueError: enough" in done.stderr


def test_interrupt_while_batches_come() -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SETUP + "one = source(); print('go', flush=True)\nwhile True: passes(one)"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stdout.readline() == "go\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT or "KeyboardInterrupt" in errors


def test_an_exception_in_a_pass_leaves_the_next_one_whole() -> None:
    source = choose(loader())
    for _ in range(20):
        with pytest.raises(RuntimeError, match="step"):
            for _ in source.epoch():
                raise RuntimeError("step")
    for x, y in source.epoch():
        assert torch.equal(x[:, -1], y.float())


def test_a_consumer_in_another_thread_than_the_one_before() -> None:
    source = choose(loader())
    iterator = source.epoch()
    found = [next(iterator)]
    thread = threading.Thread(target=lambda: found.extend(iterator))
    thread.start()
    thread.join()
    assert sorted(label for _, y in found for label in y.tolist()) == list(range(64))
