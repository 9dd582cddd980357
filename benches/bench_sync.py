"""Cost of merging ten logged values of two processes for one row, beside its floor and the ways not taken.

    python benches/bench_sync.py [rounds]

Processes on one machine, gloo. Floor: one bare `all_gather` of a block of the same size. Medians of interleaved rounds,
in microseconds per row, of the first process: on the clock, and of its own thread's computing time, which other processes
on the machine change less.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from fulmen._core import MetricStore
from fulmen.trainer.logging_entry import NumberEntry
from fulmen.trainer.logging_sync import CAPACITY, Synchroniser

KEYS, ROWS = 10, 50


def contestants() -> dict[str, Callable[[], Any]]:
    sync = Synchroniser(dist.get_rank(), dist.get_world_size())
    sync.begin_pass()
    store = MetricStore()
    entries = []
    for i in range(KEYS):
        entry = NumberEntry(
            store, "mean", False, name=f"key{i}", loader=None, suffix=True, step=True, epoch=True, prog_bar=False,
            logger=True, weighted=True,
        )  # fmt: skip
        entry.synced = sync.describe(entry, "training_step", "mean", None)
        entries.append(entry)
    block = torch.zeros(5 + 2 * CAPACITY, dtype=torch.float64)
    out = [torch.empty_like(block) for _ in range(dist.get_world_size())]
    names: list[Any] = [None] * dist.get_world_size()
    posts = iter(range(1 << 30))
    default = dist.distributed_c10d._get_default_store()

    def ours() -> None:
        for entry in entries:
            entry.update(1.0, 2.0)
        sync.row(entries, None, note=True)

    def per_key() -> None:
        for _ in range(KEYS):
            dist.all_reduce(torch.tensor(1.0))

    def objects() -> None:
        dist.all_gather_object(names, [(entry.base_name, entry.parts(True)) for entry in entries])

    def agree_first() -> None:
        """The block, after everybody said through the store that he comes."""
        post = next(posts)
        default.set(f"{post}/{dist.get_rank()}", "digest")
        for rank in range(dist.get_world_size()):
            default.get(f"{post}/{rank}")
        dist.all_gather(out, block)

    return {
        "floor: one bare all_gather": lambda: dist.all_gather(out, block),
        "merging ten values": ours,
        "an all_reduce for each value": per_key,
        "all_gather_object": objects,
        "the store first, then the block": agree_first,
        "leaving a note in the store": lambda: default.set(f"note/{dist.get_rank()}", "[1, 0, 1]"),
    }


def main(rounds: int) -> None:
    folder = tempfile.mkdtemp()
    torch.set_num_threads(1)
    child = os.fork()
    rank = 0 if child else 1
    host = dist.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False) if rank == 0 else None
    port_file = os.path.join(folder, "port")
    if host is not None:
        with open(port_file + "~", "w") as file:
            file.write(str(host.port))
        os.rename(port_file + "~", port_file)
        store = host
    else:
        while not os.path.exists(port_file):
            time.sleep(0.01)
        with open(port_file) as file:
            store = dist.TCPStore("127.0.0.1", int(file.read()), 2, is_master=False)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    ways = contestants()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            dist.barrier()
            start, busy = time.perf_counter(), time.thread_time()
            for _ in range(ROWS):
                way()
            times[name].append(((time.perf_counter() - start) / ROWS * 1e6, (time.thread_time() - busy) / ROWS * 1e6))
    dist.barrier()
    if rank == 0:
        for name, found in times.items():
            clock, computing = (statistics.median(column) for column in zip(*found, strict=True))
            print(f"{name:34} {clock:8.0f} µs {computing:8.0f} µs")
        os.waitpid(child, 0)
    os._exit(0) if rank else None


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
