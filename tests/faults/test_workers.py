"""What happens when workers, or the process that has them, come to harm."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fulmen.prefetch import choose

pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore:.*worker processes in total.*")]

ROOT = Path(__file__).parent.parent.parent


class Numbers(Dataset[Any]):
    """Does something bad at one index."""

    def __init__(self, rows: int = 40, bad: Any = None, at: int = 13, width: int = 50) -> None:
        self.rows, self.bad, self.at, self.width = rows, bad, at, width

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Tensor:
        if index == self.at and self.bad is not None:
            self.bad()
        return torch.full((self.width,), float(index))


def loader_of(data: Dataset[Any], workers: int = 2, **more: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=4, num_workers=workers, **more)


def raises_value_error() -> None:
    raise ValueError("a bad sample")


class NoPickle(Exception):
    def __init__(self, one: Any, two: Any) -> None:
        super().__init__(f"{one} and {two}")


def raises_what_cannot_be_sent() -> None:
    raise NoPickle(1, lambda: 2)


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exits() -> None:
    os._exit(7)


def sleeps() -> None:
    time.sleep(60)


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and "Z" not in state_of(pid)]


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.02)


def test_an_exception_has_traceback_and_index_and_the_pass_goes_on() -> None:
    source = choose(loader_of(Numbers(bad=raises_value_error)))
    run = source.epoch()
    first = [next(run) for _ in range(3)]
    with pytest.raises(ValueError, match="index 13, in batch 3") as caught:
        next(run)
    assert "in raises_value_error" in str(caught.value)
    rest = list(run)
    assert [int(batch[0, 0]) for batch in (*first, *rest)] == [0, 4, 8, 16, 20, 24, 28, 32, 36]
    source.close()


def test_an_exception_that_cannot_be_sent() -> None:
    source = choose(loader_of(Numbers(bad=raises_what_cannot_be_sent)))
    with pytest.raises((RuntimeError, NoPickle), match="index 13"):
        list(source.epoch())
    source.close()


def bad_start(worker: int) -> None:
    raise KeyError("start")


def test_an_exception_in_worker_init_fn() -> None:
    source = choose(loader_of(Numbers(), worker_init_fn=bad_start))
    with pytest.raises(KeyError, match="worker_init_fn"):
        list(source.epoch())
    source.close()


@pytest.mark.parametrize(("bad", "text"), [(dies, "killed by signal: Killed"), (exits, "exit code 7")])
def test_a_worker_that_dies(bad: Any, text: str) -> None:
    source = choose(loader_of(Numbers(bad=bad)))
    run = source.epoch()
    taken = []
    with pytest.raises(RuntimeError, match=text) as caught:
        for batch in run:
            taken.append(int(batch[0, 0]))
    assert "batch 3" in str(caught.value)
    assert taken == [0, 4, 8]
    # the next pass has new workers
    source.loader.dataset.bad = None
    assert len(list(source.epoch())) == 10
    source.close()


def test_a_worker_that_is_killed_while_nobody_waits() -> None:
    source: Any = choose(loader_of(Numbers(rows=400)))
    run = source.epoch()
    next(run)
    os.kill(source.crew.workers[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="killed by signal"):
        list(run)
    assert len(list(source.epoch())) == 100
    source.close()


def test_timeout() -> None:
    source = choose(loader_of(Numbers(bad=sleeps), timeout=1))
    run = source.epoch()
    for _ in range(3):
        next(run)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="timed out after 1.* batch 3, which worker 1"):
        next(run)
    assert time.monotonic() - start < 5
    source.loader.dataset.bad = None
    source.crew.workers[1].kill()
    source.close()


def test_ctrl_c_while_waiting() -> None:
    source = choose(loader_of(Numbers(bad=lambda: time.sleep(3)), workers=1))
    run = source.epoch()
    for _ in range(3):
        next(run)
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(run)
    assert time.monotonic() - start < 2
    # whoever catches it may go on
    assert [int(batch[0, 0]) for batch in run] == [12, 16, 20, 24, 28, 32, 36]
    source.close()


def run_script(text: str, **more: Any) -> subprocess.Popen[str]:
    header = (
        "import os, sys, time, signal, threading, torch, warnings; warnings.simplefilter('ignore')\n"
        "from tests.faults.test_workers import *\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", header + textwrap.dedent(text)], cwd=ROOT, stdout=subprocess.PIPE, text=True, **more
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_parent_that_is_killed(method: str) -> None:
    before = set(os.listdir("/dev/shm"))
    parent = run_script(
        f"""
        source = choose(loader_of(Numbers(rows=4000, bad=sleeps, at=33), multiprocessing_context={method!r}))
        run = source.epoch()
        kept = [next(run) for _ in range(4)]
        print(*[worker.pid for worker in source.crew.workers], flush=True)
        time.sleep(60)
        """
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(alive(pids)) == 2
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(pids))
    assert set(os.listdir("/dev/shm")) <= before


ENDS = {
    "with batches in flight": "pass",
    "by an exception": "raise SystemExit(3)",
    "in a hurry": "os._exit(3)",
}


@pytest.mark.parametrize("how", ENDS)
def test_the_interpreter_ends(how: str) -> None:
    before = set(os.listdir("/dev/shm"))
    parent = run_script(
        f"""
        source = choose(loader_of(Numbers(rows=4000)))
        run = source.epoch()
        kept = [next(run) for _ in range(4)]
        print(*[worker.pid for worker in source.crew.workers], flush=True)
        {ENDS[how]}
        """
    )
    out, _ = parent.communicate(timeout=60)
    assert parent.returncode == (0 if how == "with batches in flight" else 3)
    pids = [int(pid) for pid in out.split()]
    wait_until(lambda: not alive(pids))
    assert set(os.listdir("/dev/shm")) <= before


def test_a_fork_keeps_the_batches_it_sees() -> None:
    # in a process of its own: a fork of one with the test runner's threads may hang for their reasons
    command = [sys.executable, "-c", f"from {__name__} import fork_and_look; fork_and_look()"]
    subprocess.run(command, cwd=Path(__file__).parents[2], timeout=100, check=True)


def heard(source: Any, task: Any) -> bool:
    """Whether all messages are read that workers have sent until this task's."""
    messages, _ = source.crew.hear(0.01)
    for _, message in messages:
        source._tasks[int.from_bytes(message[16:24], sys.byteorder)].message = message
    source.crew.broken = False
    return task.message is not None


def fork_and_look() -> None:
    """The child's batches stay as they are, whatever the parent does; the child may go on, and make passes of its own."""
    source: Any = choose(loader_of(Numbers(rows=400, width=5000), workers=1))
    run = source.epoch()
    kept = next(run)
    # a batch that the parent has heard of and not taken: it is the parent's
    wait_until(lambda: len(run._open) > 1 and heard(source, run._open[-1]))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.read(reader, 1)
            status = 0 if bool((kept[0] == 0).all() and (kept[3] == 3).all()) else 2
            if not bool((next(run)[1] == 5).all()):
                status = 4
            if len(list(source.epoch())) != 100:
                status = 3
            source.close()
        finally:
            os._exit(status)
    del kept
    rest = sum(1 for _ in run)
    os.write(writer, b"x")
    assert rest == 99
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(list(source.epoch())) == 100
    source.close()


@pytest.mark.parametrize("size", [50, 40_000])
def test_kept_batches_never_change(size: int) -> None:
    """In every way in which memory can be kept; and the ring does not grow with what is kept."""
    source: Any = choose(loader_of(Numbers(rows=400, width=size), workers=2))
    kept: list[Any] = []
    weight = torch.ones((), requires_grad=True)
    ways = (
        lambda b: b,
        lambda b: b[1],
        lambda b: b.numpy(),
        lambda b: b.view(-1)[2 * size :],
        lambda b: torch.from_dlpack(b),
        lambda b: memoryview(b.numpy()),
        lambda b: b.untyped_storage(),
        lambda b: (b * weight).sum(),
    )
    for _ in range(2):
        for number, batch in enumerate(source.epoch()):
            kept.append((number, ways[number % len(ways)](batch), batch[:, 0].tolist()))
            del batch
    for number, what, values in kept:
        assert values == [4.0 * number + row for row in range(4)]
        way = number % len(ways)
        if way == 0:
            assert what[:, -1].tolist() == values
        elif way == 1:
            assert bool((what == values[1]).all())
        elif way in (2, 5):
            assert np.asarray(what)[:, -1].tolist() == values
        elif way == 3:
            assert what[::size].tolist() == values[2:]
        elif way == 4:
            assert what[:, -1].tolist() == values
        elif way == 6:
            assert torch.tensor(what, dtype=torch.uint8).view(torch.float32)[::size].tolist() == values
        elif way == 7:
            (gradient,) = torch.autograd.grad(what, weight)
            assert float(gradient) == sum(values) * size
    source.close()
    assert kept[0][1][:, -1].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_ten_thousand_batches_in_the_same_memory() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    source: Any = choose(loader_of(Numbers(rows=8000, width=2000), workers=1))
    seen = []
    for _ in range(5):
        for _ in source.epoch():
            pass
        gc.collect()
        seen.append(resident())
    source.close()
    assert seen[-1] - seen[1] < 2 * 1024 * 1024


def test_a_dataset_that_changes_between_passes() -> None:
    data = Numbers(rows=8)
    source = choose(loader_of(data))
    assert [int(batch[0, 0]) for batch in source.epoch()] == [0, 4]
    data.width = 7
    assert [batch.shape[1] for batch in source.epoch()] == [7, 7]
    source.close()


def test_two_in_threads() -> None:
    found: dict[int, int] = {}

    def consume(number: int) -> None:
        source = choose(loader_of(Numbers(rows=400)))
        for _ in range(2):
            found[number] = found.get(number, 0) + sum(int(batch[0, 0]) for batch in source.epoch())
        source.close()

    threads = [threading.Thread(target=consume, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == dict.fromkeys(range(2), 2 * sum(range(0, 400, 4)))


def test_workers_outlive_the_thread_that_started_them() -> None:
    source = choose(loader_of(Numbers(rows=400)))
    runs: list[Any] = []
    thread = threading.Thread(target=lambda: runs.append(source.epoch()))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert sum(1 for _ in runs[0]) == 100
    source.close()


def test_workers_stay_from_pass_to_pass_and_end_with_the_source() -> None:
    source: Any = choose(loader_of(Numbers()))
    pids = []
    for _ in range(3):
        list(source.epoch())
        pids.append([worker.pid for worker in source.crew.workers])
    assert pids[0] == pids[1] == pids[2]
    files = len(os.listdir("/proc/self/fd"))
    source.close()
    assert not alive(pids[0])
    assert len(os.listdir("/proc/self/fd")) <= files - 6


def test_a_closed_source_goes_on() -> None:
    source = choose(loader_of(Numbers()))
    run = source.epoch()
    next(run)
    source.close()
    assert list(run) == []
    assert len(list(source.epoch())) == 10
    source.close()
