"""What a training step costs above the hand-written loop: fulmen's settings, and Lightning beside them.

    python benches/bench_step.py [--quick] [--json out.json] [--check]

A small linear model on the CPU, so that the trainer's own work shows. Every measurement lies between two of the
hand-written loop, over the same batches with the same model, and counts as the difference to their mean; the table gives
medians over the rounds. Time runs from one `training_step` to a later one of the same epoch: start and end of a run (files,
summaries, the checkpoint at the end of an epoch) are not steps and not counted. The progress bars draw to a terminal that
keeps the text in memory. ``--check`` fails where a promise of the README does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WARM = 50
#: microseconds per step over the hand-written loop that the README promises
PROMISES = {"bare": 10.0, "default settings": 60.0}
BARE = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Terminal(io.StringIO):
    """A terminal as far as a progress bar can see; its text goes nowhere."""

    def isatty(self) -> bool:
        """Bars draw."""
        return True


class Stamps:
    """When the measured stretch of steps began and ended."""

    def __init__(self, steps: int) -> None:
        self.last = WARM + steps
        self.begin = self.end = 0.0

    def see(self, index: int) -> None:
        """Called at the start of every step, in the hand-written loop too."""
        if index == WARM:
            self.begin = time.perf_counter()
        elif index == self.last:
            self.end = time.perf_counter()

    def per_step(self) -> float:
        """Microseconds."""
        return (self.end - self.begin) / (self.last - WARM) * 1e6


class Batches:
    """Ready-made batches: x of shape (8, 32), y of shape (8,). Not a list, which would mean several loaders."""

    def __init__(self, steps: int) -> None:
        self.content = _batches(WARM + steps + 2)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)


def _batches(number: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    some = [(torch.randn(8, 32, generator=generator), torch.randint(2, (8,), generator=generator)) for _ in range(16)]
    return [some[i % 16] for i in range(number)]


def hand_written(steps: int) -> float:
    """The floor: what a user would write without a trainer."""
    stamps, model = Stamps(steps), nn.Linear(32, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for index, (x, y) in enumerate(Batches(steps)):
        stamps.see(index)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return stamps.per_step()


def trained(package: Any, logs: int, prog_bar: bool, **options: Any) -> Callable[[int], float]:
    """A run with ``package``'s trainer; ``logs`` values are logged in every step."""

    def run(steps: int) -> float:
        stamps, names = Stamps(steps), [f"value{i}" for i in range(logs)]

        class Model(package.LightningModule):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(32, 2)

            def training_step(self, batch: Any, index: int) -> Tensor:
                stamps.see(index)
                x, y = batch
                loss = F.cross_entropy(self.layer(x), y)
                for name in names:
                    self.log(name, loss, prog_bar=prog_bar)
                return loss

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=0.01)

        with tempfile.TemporaryDirectory() as folder:
            trainer = package.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, **options)
            trainer.fit(Model(), Batches(steps))
        return stamps.per_step()

    return run


def variants() -> dict[str, Callable[[int], float]]:
    """What is measured, by name."""
    import fulmen

    found = {
        "bare": trained(fulmen, 0, False, **BARE),
        "bare, one log": trained(fulmen, 1, False, **BARE),
        "bare, ten logs": trained(fulmen, 10, False, **BARE),
        "default settings": trained(fulmen, 0, False),
        "default, one log": trained(fulmen, 1, True),
    }
    with contextlib.suppress(ImportError):
        import lightning.pytorch as lightning

        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        found |= {
            "Lightning, bare": trained(lightning, 0, False, **BARE),
            "Lightning, default settings": trained(lightning, 0, False),
            "Lightning, default, one log": trained(lightning, 1, True),
        }
    return found


def measure(steps: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians over ``rounds``, in microseconds: the step, and what it costs over the hand-written loop."""
    torch.set_num_threads(1)
    kinds = variants()
    raw: list[float] = []
    total: dict[str, list[float]] = {name: [] for name in kinds}
    extra: dict[str, list[float]] = {name: [] for name in kinds}
    hand_written(steps)
    real = sys.stdout, sys.stderr
    for number in range(rounds + 1):
        before = hand_written(steps)
        for name, run in kinds.items():
            # slow ones need fewer steps for the same precision
            count = steps if not name.startswith("Lightning") else max(steps // 4, 100)
            sys.stdout = sys.stderr = Terminal()
            try:
                taken = run(count)
            finally:
                sys.stdout, sys.stderr = real
            after = hand_written(steps)
            if number:  # the first round warms up
                total[name].append(taken)
                extra[name].append(taken - (before + after) / 2)
                raw.append(after)
            before = after
    table = {"hand-written loop": {"step": statistics.median(raw), "extra": 0.0}}
    for name in kinds:
        table[name] = {"step": statistics.median(total[name]), "extra": statistics.median(extra[name])}
    return table


def main() -> int:
    """Measure, print, compare with the promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps and rounds")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a promise does not hold")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("fulmen").setLevel(logging.ERROR)
    steps, rounds = (1000, 3) if arguments.quick else (3000, 9)
    table = measure(steps, rounds)
    raw = table["hand-written loop"]["step"]
    print(f"{'':<30} {'µs a step':>10} {'over the loop':>14} {'ratio':>7}   medians of {rounds} interleaved rounds")
    for name, row in table.items():
        print(f"{name:<30} {row['step']:>10.1f} {row['extra']:>+14.1f} {row['step'] / raw:>7.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2))
    broken = [f"{name}: {table[name]['extra']:.1f} > {most} µs" for name, most in PROMISES.items()
              if table[name]["extra"] > most]  # fmt: skip
    print("promises: " + ("; ".join(broken) if broken else "kept"))
    return 1 if arguments.check and broken else 0


if __name__ == "__main__":
    sys.exit(main())
