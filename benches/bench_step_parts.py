"""What a bare step is made of beyond the hand-written loop: the same step, with one part of the trainer more each time.

    python benches/bench_step_parts.py [--steps N] [--rounds N]

Each rung of the ladder runs in a real fit, in the place of `fit.train_epoch`, over the real feed, schedule and ledger; the
last rung is the real one. Rounds are interleaved; figures are medians over the rounds of medians over the steps, in µs.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import bench_step
import fulmen
from fulmen.trainer import fit
from fulmen.trainer.step import make_step, step_marks


class Enough(Exception):
    """A rung that leaves the schedule behind ends its fit by this."""


class Model(fulmen.LightningModule):
    """The bench's model, which stamps its steps."""

    def __init__(self, stamps: bench_step.Stamps) -> None:
        super().__init__()
        self.layer = bench_step.layers(1)
        self.see = stamps.see

    def training_step(self, batch: Any, index: int) -> Tensor:
        self.see()
        x, y = batch
        return F.cross_entropy(self.layer(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


Rung = Callable[[Any, Any], None]


def method(trainer: Any, feed: Any) -> None:
    """The user's module and its method, over a list."""
    step, optimizer = trainer.lightning_module.training_step, trainer.optimizers[0]
    for index, batch in enumerate(list(feed.batches())):
        loss = step(batch, index)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise Enough


def over_feed(trainer: Any, feed: Any) -> None:
    """The feed in the place of the list."""
    step, optimizer = trainer.lightning_module.training_step, trainer.optimizers[0]
    for index, batch in enumerate(feed.batches()):
        loss = step(batch, index)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise Enough


def counted(trainer: Any, feed: Any) -> None:
    """The schedule counts the batch and says what it is."""
    step, optimizer, begin = (
        trainer.lightning_module.training_step,
        trainer.optimizers[0],
        trainer._schedule.begin_batch,
    )
    for batch in feed.batches():
        code = begin(feed.last, batch)
        loss = step(batch, code >> 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise Enough


def finished(trainer: Any, feed: Any) -> None:
    """And says, after it, whether something is due."""
    schedule = trainer._schedule
    step, optimizer, begin = trainer.lightning_module.training_step, trainer.optimizers[0], schedule.begin_batch
    finish = schedule.finish
    schedule.count(3)
    for batch in feed.batches():
        code = begin(feed.last, batch)
        loss = step(batch, code >> 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if finish():
            schedule.settle()
    raise Enough


def known(trainer: Any, feed: Any) -> None:
    """`self.log` knows which hook runs."""
    schedule = trainer._schedule
    step, optimizer, begin = trainer.lightning_module.training_step, trainer.optimizers[0], schedule.begin_batch
    finish = schedule.finish
    schedule.count(3)
    for batch in feed.batches():
        code = begin(feed.last, batch)
        trainer._hook = "training_step"
        loss = step(batch, code >> 3)
        trainer._hook = None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if finish():
            schedule.settle()
    raise Enough


def marked(trainer: Any, feed: Any) -> None:
    """The timeline: four marks."""
    schedule = trainer._schedule
    step, optimizer, begin = trainer.lightning_module.training_step, trainer.optimizers[0], schedule.begin_batch
    finish = schedule.finish
    schedule.count(3)
    trainers, forward, backward, optimizers = step_marks(trainer)
    for batch in feed.batches():
        code = begin(feed.last, batch)
        trainer._hook = "training_step"
        trainers()
        loss = step(batch, code >> 3)
        forward()
        trainer._hook = None
        optimizer.zero_grad()
        loss.backward()
        backward()
        optimizer.step()
        optimizers()
        if finish():
            schedule.settle()
    raise Enough


def branched(trainer: Any, feed: Any) -> None:
    """The step as a function with its branches for hooks, clipping, accumulation."""
    schedule = trainer._schedule
    step, roles = make_step(trainer)
    schedule.count(roles)
    begin, finish = schedule.begin_batch, schedule.finish
    for batch in feed.batches():
        code = begin(feed.last, batch)
        outputs = step(batch, code >> 3, code & 7)  # noqa: F841 (keeps the loss until the next step)
        if finish():
            schedule.settle()
    raise Enough


REAL = fit.train_epoch
LADDER: dict[str, Rung] = {
    "the module's training_step": method,
    "+ feed": over_feed,
    "+ begin_batch": counted,
    "+ finish": finished,
    "+ hook's name": known,
    "+ four marks of the timeline": marked,
    "+ the step's branches": branched,
    "+ the loop's branches: the real one": REAL,
}


def climb(rung: Rung) -> bench_step.Run:
    """A bare fit with this rung."""

    def run(steps: int) -> bench_step.Figures:
        stamps = bench_step.Stamps()
        fit.train_epoch = rung
        try:
            with tempfile.TemporaryDirectory() as folder:
                trainer = fulmen.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, **bench_step.BARE)
                try:
                    trainer.fit(Model(stamps), bench_step.Batches(steps))
                except Enough:
                    assert rung is not REAL
        finally:
            fit.train_epoch = REAL
        return stamps.figures(steps)

    return run


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("fulmen").setLevel(logging.ERROR)
    kinds = {name: climb(rung) for name, rung in LADDER.items()}
    table = bench_step.measure(kinds, bench_step.hand_written(), arguments.steps, arguments.rounds)
    print(f"{'µs a step':<40} {'step':>8} {'over the loop':>14} {'this part':>10}")
    before = 0.0
    for name, row in table.items():
        print(f"{name:<40} {row['step']:>8.1f} {row['extra']:>+14.2f} {row['extra'] - before:>+10.2f}")
        before = row["extra"]
    print(f"(of {statistics.median(row['step'] for row in table.values()):.0f} µs)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
