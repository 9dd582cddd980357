"""What a batch costs: gathered in memory, by the stock loader, and the plain copy of its bytes beside them.

    python benches/bench_prefetch.py [--quick] [--json out.json] [--check] [--only PART]

Each round runs all three over the same data, so that whatever else the machine does hits them alike; the table gives medians
over the rounds, in microseconds a batch. The copy is torch's ``copy_`` of as many rows that lie one after the other, with one
thread or with all of them, whichever is faster. Then the same small network is trained by a hand-written loop over the
stock loader and by the trainer over the same loader, end to end. ``--check`` fails where a promise does not hold.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from fulmen.prefetch import choose


class Case(NamedTuple):
    """A dataset, and what is promised of its batches: microseconds, or so many times the copy."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    batch: int
    rows: int
    most: float | None
    copies: float | None


CASES = {
    "20 floats, 32 rows": Case((20,), torch.float32, 32, 32_000, 6.0, None),
    "1x28x28 bytes, 64 rows": Case((1, 28, 28), torch.uint8, 64, 32_000, 20.0, None),
    "1x28x28 floats, 64 rows": Case((1, 28, 28), torch.float32, 64, 32_000, None, None),
    "3x32x32 bytes, 128 rows": Case((3, 32, 32), torch.uint8, 128, 25_600, 50.0, 1.5),
    "3x32x32 floats, 128 rows": Case((3, 32, 32), torch.float32, 128, 12_800, None, 1.5),
    "3x224x224 floats, 64 rows": Case((3, 224, 224), torch.float32, 64, 1024, None, 1.5),
}
END_TO_END = 0.75
"""Times the hand-written loop over the stock loader that training through the trainer may take."""


def a_batch(batches: Iterable[Any], most: int) -> float:
    """Microseconds a batch."""
    count, begin = 0, time.perf_counter()
    for _ in batches:
        count += 1
        if count == most:
            break
    return (time.perf_counter() - begin) / count * 1e6


def copies(x: torch.Tensor, batch: int) -> Iterable[None]:
    """Batches of neighbouring rows, copied into one place."""
    into = torch.empty((batch, *x.shape[1:]), dtype=x.dtype)
    for start in range(0, len(x) - batch + 1, batch):
        into.copy_(x[start : start + batch])
        yield None


def copy_with(threads: int, x: torch.Tensor, batch: int) -> float:
    """Microseconds for the copy of a batch."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return a_batch(copies(x, batch), len(x) // batch)
    finally:
        torch.set_num_threads(before)
        # torch's threads look for more to do for a while, at the cost of whoever is measured next
        time.sleep(0.02)


def gathering(case: Case, rounds: int) -> dict[str, float]:
    """Medians for one dataset with labels."""
    x = torch.zeros((case.rows, *case.shape), dtype=case.dtype)
    # every page for itself: a fresh zero tensor is one page of zeros, many times
    x.view(torch.uint8).view(-1)[::1024].random_(1, 100)
    loader = DataLoader(TensorDataset(x, torch.arange(case.rows)), batch_size=case.batch, shuffle=True)
    source = choose(loader)
    assert source.kind == "gather", source.why
    batches = case.rows // case.batch
    stock_batches = max(1, min(batches, 200 if x[0].nbytes < 100_000 else 6))
    figures: dict[str, list[float]] = {"gathered": [], "stock": [], "copy": []}
    for number in range(rounds + 1):
        row = {
            "gathered": a_batch(source.epoch(), batches),
            "stock": a_batch(loader, stock_batches),
            "copy": min(copy_with(threads, x, case.batch) for threads in (1, torch.get_num_threads())),
        }
        if number:  # the first round warms up
            for name, value in row.items():
                figures[name].append(value)
    source.close()
    return {name: statistics.median(values) for name, values in figures.items()}


class Mlp(nn.Module):
    """The small network of the end-to-end comparison."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))

    def loss(self, batch: Any) -> torch.Tensor:
        x, y = batch
        return F.cross_entropy(self.layers(x), y)


def digits(rows: int) -> DataLoader[Any]:
    """A stock shuffling loader."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 20, generator=generator)
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=32, shuffle=True)


def by_hand(loader: DataLoader[Any], epochs: int) -> tuple[float, torch.Tensor]:
    """The hand-written loop: seconds, and a weight to compare."""
    torch.manual_seed(0)
    model = Mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    begin = time.perf_counter()
    for _ in range(epochs):
        for batch in loader:
            loss = model.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return time.perf_counter() - begin, model.layers[0].weight.detach()


def by_trainer(loader: DataLoader[Any], epochs: int, **options: Any) -> tuple[float, torch.Tensor]:
    """The trainer, from the call of ``fit`` to its end."""
    import fulmen

    class Module(fulmen.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Mlp()

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return self.model.loss(batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    torch.manual_seed(0)
    module = Module()
    with tempfile.TemporaryDirectory() as folder:
        trainer = fulmen.Trainer(max_epochs=epochs, accelerator="cpu", default_root_dir=folder, **options)
        begin = time.perf_counter()
        trainer.fit(module, loader)
        taken = time.perf_counter() - begin
    return taken, module.model.layers[0].weight.detach()


def training(rounds: int, rows: int, epochs: int) -> dict[str, float]:
    """Medians of the seconds of a whole training."""
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    runs: dict[str, Callable[[], tuple[float, torch.Tensor]]] = {
        "hand-written": lambda: by_hand(digits(rows), epochs),
        "trainer": lambda: by_trainer(digits(rows), epochs, **quiet),
        "trainer, stock loader": lambda: by_trainer(digits(rows), epochs, prefetch="off", **quiet),
    }
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        weights = []
        for name, run in runs.items():
            seconds, weight = run()
            weights.append(weight)
            if number:
                figures[name].append(seconds)
        assert all(torch.equal(weights[0], weight) for weight in weights), "the runs learned different things"
    return {name: statistics.median(values) for name, values in figures.items()}


def main() -> int:
    """Measure, print, compare with the promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a promise does not hold")
    parser.add_argument("--only", default="", help="only cases with this in their name")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("fulmen").setLevel(logging.ERROR)
    rounds = 3 if arguments.quick else 9
    broken, table = [], {}
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch")
    print(f"{'microseconds a batch':<28} {'gathered':>9} {'stock':>10} {'copy':>9} {'/ copy':>7} {'/ stock':>8}")
    for name, case in CASES.items():
        if arguments.only not in name:
            continue
        row = table[name] = gathering(case, rounds)
        gathered, stock, copy = row["gathered"], row["stock"], row["copy"]
        print(
            f"{name:<28} {gathered:>9.1f} {stock:>10.1f} {copy:>9.1f} {gathered / copy:>7.2f} {gathered / stock:>8.3f}"
        )
        if case.most is not None and gathered > case.most:
            broken.append(f"{name}: {gathered:.1f} > {case.most} µs")
        if case.copies is not None and gathered > case.copies * copy:
            broken.append(f"{name}: {gathered / copy:.2f} > {case.copies} copies")
    if arguments.only in "training":
        torch.set_num_threads(1)
        row = table["training"] = training(max(3, rounds // 2), 16_000, 2 if arguments.quick else 4)
        print(f"\n{'seconds of a training':<28} {'':>9} {'/ hand-written':>15}")
        for name, seconds in row.items():
            print(f"{name:<28} {seconds:>9.2f} {seconds / row['hand-written']:>15.2f}")
        if row["trainer"] > END_TO_END * row["hand-written"]:
            broken.append(
                f"training: {row['trainer'] / row['hand-written']:.2f} > {END_TO_END} of the hand-written loop"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2))
    print("promises: " + ("; ".join(broken) if broken else "kept"))
    return 1 if arguments.check and broken else 0


if __name__ == "__main__":
    sys.exit(main())
