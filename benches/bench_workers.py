"""What it costs to bring batches from worker processes: through the ring, by the stock loader, the copy of the bytes beside.

    python benches/bench_workers.py [--quick] [--json out.json] [--check]

One worker, so that what the transport costs adds to the dataset's own work: the samples of a batch, stacked into memory
that is there, by one thread, in this process. Each round runs all four over the same data; the table gives medians over the
rounds, in microseconds a batch. "above" is the ring's time less the own work's; "worker" the worker's processor time less
the own work's, which says what the transport takes where the machine is busy with something else. The boundary is the time between a pass's
last batch and the first of the next one, with workers alive (the stock loader's persistent). ``--check`` fails where a
promise does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fulmen.prefetch import choose


class Case(NamedTuple):
    """A dataset, and what is promised: microseconds above the own work, or above it so many copies."""

    shape: tuple[int, ...]
    batch: int
    batches: int
    most: float | None
    copies: float | None


CASES = {
    "20 floats, 32 rows": Case((20,), 32, 600, None, None),
    "1 MB": Case((64, 128), 32, 300, 100.0, None),
    "38 MB": Case((3, 224, 224), 64, 16, None, 1.3),
}
BOUNDARY = 1000.0
"""Microseconds between two passes."""


class Rows(Dataset[Tensor]):
    """Rows in memory, behind code of its own."""

    def __init__(self, shape: tuple[int, ...], length: int) -> None:
        self.rows = torch.randn(256, *shape)
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[index % 256]


def a_batch(batches: Iterable[Any], leave_out: int = 4) -> float:
    """Microseconds a batch, without the first ones."""
    iterator = iter(batches)
    for _ in islice(iterator, leave_out):
        pass
    count, begin = 0, time.perf_counter()
    for _ in iterator:
        count += 1
    return (time.perf_counter() - begin) / count * 1e6


def own_work(data: Rows, batch: int, batches: int) -> float:
    """The dataset's own work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    into = torch.stack([data[index] for index in range(batch)])

    def work() -> Iterable[None]:
        for number in range(batches):
            torch.stack([data[index] for index in range(number * batch, (number + 1) * batch)], out=into)
            yield None

    try:
        return a_batch(work())
    finally:
        torch.set_num_threads(before)


def copy(data: Rows, batch: int, batches: int) -> float:
    """The copy of a batch's bytes, by one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    batch = min(batch, 128)
    into = torch.empty_like(data.rows[:batch])

    def work() -> Iterable[None]:
        for number in range(batches):
            into.copy_(data.rows[:batch] if number % 2 else data.rows[128 : 128 + batch])
            yield None

    try:
        return a_batch(work())
    finally:
        torch.set_num_threads(before)


def cpu_time(source: Any) -> float:
    """Seconds of processor time of the source's worker, once there is one."""
    if source.crew is None:
        return 0.0
    fields = Path(f"/proc/{source.crew.workers[0].pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def transport(case: Case, rounds: int) -> dict[str, float]:
    """Medians of one case."""
    data = Rows(case.shape, case.batch * case.batches)
    source = choose(DataLoader(data, case.batch, num_workers=1, persistent_workers=True))
    assert source.kind == "workers", source.why
    stock = DataLoader(data, case.batch, num_workers=1, persistent_workers=True)
    figures: dict[str, list[float]] = {"ring": [], "stock": [], "own": [], "copy": [], "above": [], "worker": []}
    for number in range(rounds + 1):
        own_cpu = time.process_time()
        own = own_work(data, case.batch, case.batches)
        own_cpu = (time.process_time() - own_cpu) / case.batches * 1e6
        worker_cpu = cpu_time(source)
        row = {
            "own": own,
            "ring": a_batch(source.epoch()),
            "stock": a_batch(stock),
            "copy": copy(data, case.batch, case.batches),
        }
        row["above"] = row["ring"] - row["own"]
        row["worker"] = (cpu_time(source) - worker_cpu) / case.batches * 1e6 - own_cpu
        if number:  # the first round warms up
            for name, value in row.items():
                figures[name].append(value)
    source.close()
    return {name: statistics.median(values) for name, values in figures.items()}


def boundary(rounds: int) -> dict[str, float]:
    """Medians of the time between two passes."""
    data = Rows((64, 64), 32 * 20)
    loaders = [
        DataLoader(data, 32, num_workers=1, persistent_workers=True, shuffle=True, generator=torch.Generator())
        for _ in range(2)
    ]
    source = choose(loaders[0])
    figures: dict[str, list[float]] = {"ring": [], "stock": []}
    starts: dict[str, Any] = {"ring": source.epoch, "stock": loaders[1].__iter__}
    runs = {name: start() for name, start in starts.items()}
    for number in range(rounds + 1):
        for name, start in starts.items():
            for _ in runs[name]:
                # a step of some length, so that there is time to make batches
                time.sleep(0.001)
            begin = time.perf_counter()
            runs[name] = start()
            next(runs[name])
            if number:
                figures[name].append((time.perf_counter() - begin) * 1e6)
    source.close()
    return {name: statistics.median(values) for name, values in figures.items()}


def main() -> int:
    """Measure, print, and check where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--check", action="store_true", help="fail where a promise does not hold")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rounds = 3 if options.quick else 9
    results: dict[str, dict[str, float]] = {}
    missed = []
    print(f"{'batch':<20}{'ring':>10}{'stock':>10}{'own work':>10}{'above':>10}{'worker':>10}{'copy':>10}   promise")
    for name, case in CASES.items():
        row = results[name] = transport(case, rounds)
        limit = case.most if case.most is not None else case.copies and case.copies * row["copy"]
        good = limit is None or row["above"] <= limit
        promise = "" if limit is None else f"above <= {limit:.0f}: {'kept' if good else 'BROKEN'}"
        if not good:
            missed.append(name)
        values = "".join(f"{row[column]:>10.0f}" for column in ("ring", "stock", "own", "above", "worker", "copy"))
        print(f"{name:<20}{values}   {promise}", flush=True)
    row = results["boundary"] = boundary(rounds)
    good = row["ring"] <= BOUNDARY
    if not good:
        missed.append("boundary")
    print(
        f"{'between two passes':<20}{row['ring']:>10.0f}{row['stock']:>10.0f}{'':>40}"
        f"   ring <= {BOUNDARY:.0f}: {'kept' if good else 'BROKEN'}"
    )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
