"""What a training step costs above the hand-written loop: fulmen's settings, and other trainers beside them.

    python benches/bench_step.py [--quick] [--only TEXT] [--json out.json] [--check]

A small linear model on the CPU, so that the trainer's own work shows. Every measurement lies between two of the
hand-written loop, over the same batches with the same model, and counts as the difference to their mean; the table gives
medians over the rounds. Lightning, Fabric, Accelerate and Ignite are measured in the same rounds where they are installed.

Every step is stamped where `training_step` begins, which costs all loops the same. A run's figure is the *median* of its
steps, which a busy machine moves least: it is what most steps cost. What comes every fiftieth step, the row for the
loggers, shows in the column ``with rows``: the median over blocks of 50 steps. What comes by the clock, such as a redrawn
bar ten times a second or rows on their way to a file once a second, shows in ``mean`` only, with all the noise.
Time runs from one `training_step` to a later one of the same epoch: start and end of a run (files, summaries, the
checkpoint at the end of an epoch) are not steps and not counted. The progress bars draw to a terminal that keeps the text
in memory. ``--check`` fails where a promise of the README does not hold.
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
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WARM = 50
#: steps in a block: as many as from one row for the loggers to the next
BLOCK = 50
#: microseconds a step that hold, see `figures`. Two cores with other work on them move a median by two or three, which
#: is why fifty callbacks, which cost nothing, are allowed as much.
PROMISES = {
    "bare": 10.0,
    "default settings": 10.0,
    "default, ten logs": 20.0,
    "fifty callbacks": 3.0,
    "one self.log": 2.0,
    "one self.log, on_step and on_epoch": 2.0,
    "the timeline": 1.5,
}
BARE = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
OTHERS = ("Lightning", "Fabric", "Accelerate", "Ignite")
#: A run of so many steps: its median step, its median block, and its mean, in microseconds a step.
Figures = tuple[float, float, float]
Run = Callable[[int], Figures]


class Terminal(io.StringIO):
    """A terminal as far as a progress bar can see; its text goes nowhere."""

    def isatty(self) -> bool:
        """Bars draw."""
        return True


class Stamps:
    """When each step began. `see` is called first thing in every step, in the hand-written loop too."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._clock, self._keep = time.perf_counter, self.times.append

    def see(self) -> None:
        """A step begins."""
        self._keep(self._clock())

    def figures(self, steps: int) -> Figures:
        """Those of the last ``steps`` steps."""
        times = self.times[-steps - 1 :]
        each = [(b - a) * 1e6 for a, b in pairwise(times)]
        blocks = [(b - a) * 1e6 / BLOCK for a, b in pairwise(times[::BLOCK])]
        return statistics.median(each), statistics.median(blocks), statistics.mean(each)


class Batches:
    """Ready-made batches: x of shape (8, 32), y of shape (8,). Not a list, which would mean several loaders."""

    def __init__(self, steps: int) -> None:
        generator = torch.Generator().manual_seed(0)
        some = [
            (torch.randn(8, 32, generator=generator), torch.randint(2, (8,), generator=generator)) for _ in range(16)
        ]
        self.content = [some[i % 16] for i in range(WARM + steps + 1)]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)


def layers(depth: int) -> nn.Module:
    """A linear model with ``2 * depth`` parameters."""
    if depth == 1:
        return nn.Linear(32, 2)
    return nn.Sequential(*(nn.Linear(32, 32) for _ in range(depth - 1)), nn.Linear(32, 2))


def hand_written(depth: int = 1) -> Run:
    """The floor: what a user would write without a trainer."""

    def run(steps: int) -> Figures:
        stamps, model = Stamps(), layers(depth)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for x, y in Batches(steps):
            stamps.see()
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return stamps.figures(steps)

    return run


def trained(package: Any, logs: int = 0, depth: int = 1, log: dict[str, Any] | None = None, **options: Any) -> Run:
    """A run with ``package``'s trainer; ``logs`` values are logged in every step, with the arguments ``log``."""

    def run(steps: int) -> Figures:
        stamps, names, arguments = Stamps(), [f"value{i}" for i in range(logs)], log or {}

        class Model(package.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.layer = layers(depth)

            def training_step(self, batch: Any, index: int) -> Tensor:
                stamps.see()
                x, y = batch
                loss = F.cross_entropy(self.layer(x), y)
                for name in names:
                    self.log(name, loss, **arguments)
                return loss

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=0.01)

        with tempfile.TemporaryDirectory() as folder:
            trainer = package.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, **options)
            trainer.fit(Model(), Batches(steps))
        return stamps.figures(steps)

    return run


def fabric() -> Run:
    """Lightning's Fabric: the loop is the user's."""
    from lightning.fabric import Fabric

    def run(steps: int) -> Figures:
        stamps, model, tool = Stamps(), layers(1), Fabric(accelerator="cpu", devices=1)
        model, optimizer = tool.setup(model, torch.optim.SGD(model.parameters(), lr=0.01))
        for x, y in Batches(steps):
            stamps.see()
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            tool.backward(loss)
            optimizer.step()
        return stamps.figures(steps)

    return run


def accelerate() -> Run:
    """Accelerate: the loop is the user's."""
    from accelerate import Accelerator

    def run(steps: int) -> Figures:
        stamps, model, tool = Stamps(), layers(1), Accelerator(cpu=True)
        model, optimizer = tool.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01))
        for x, y in Batches(steps):
            stamps.see()
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            tool.backward(loss)
            optimizer.step()
        return stamps.figures(steps)

    return run


def ignite(logs: bool) -> Run:
    """Ignite: an engine around the user's step; with ``logs`` a running average of the loss and its progress bar."""
    from ignite.contrib.handlers import ProgressBar
    from ignite.engine import Engine
    from ignite.metrics import RunningAverage

    def run(steps: int) -> Figures:
        stamps, model = Stamps(), layers(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

        def step(engine: Any, batch: Any) -> float | Tensor:
            stamps.see()
            x, y = batch
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item() if logs else loss

        engine = Engine(step)
        if logs:
            RunningAverage(output_transform=float).attach(engine, "loss")
            ProgressBar().attach(engine, ["loss"])
        engine.run(Batches(steps), max_epochs=1)
        return stamps.figures(steps)

    return run


def fifty(package: Any) -> list[Any]:
    """Callbacks that have nothing to do with batches."""

    class Idle(package.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            """Nothing."""

    return [Idle() for _ in range(50)]


def variants() -> dict[str, Run]:
    """What is measured, by name."""
    import fulmen

    both, bar = {"on_step": True, "on_epoch": True}, {"prog_bar": True}
    found = {
        "bare": trained(fulmen, **BARE),
        "bare, one log": trained(fulmen, 1, **BARE),
        "bare, ten logs": trained(fulmen, 10, **BARE),
        "default settings": trained(fulmen),
        "default, no timeline": trained(fulmen, timeline=False),
        "default, one log": trained(fulmen, 1, log=bar),
        "default, ten logs": trained(fulmen, 10),
        "default, ten logs, on_step and on_epoch": trained(fulmen, 10, log=both),
        "default, fifty logs": trained(fulmen, 50),
        "default, fifty callbacks": trained(fulmen, callbacks=fifty(fulmen)),
        "default, one log, a row every step": trained(fulmen, 1, log=bar, log_every_n_steps=1),
    }
    with contextlib.suppress(ImportError):
        import lightning.pytorch as lightning

        logging.getLogger("lightning").setLevel(logging.ERROR)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        found |= {
            "Lightning, bare": trained(lightning, **BARE),
            "Lightning, default settings": trained(lightning),
            "Lightning, default, one log": trained(lightning, 1, log=bar),
            "Lightning, default, ten logs": trained(lightning, 10),
            "Lightning, default, fifty callbacks": trained(lightning, callbacks=fifty(lightning)),
        }
    with contextlib.suppress(ImportError):
        found["Fabric"] = fabric()
    with contextlib.suppress(ImportError):
        found["Accelerate"] = accelerate()
    with contextlib.suppress(ImportError):
        found["Ignite, bare"] = ignite(False)
        found["Ignite, loss and bar"] = ignite(True)
    return found


def silent(run: Run, steps: int) -> Figures:
    """The run, its prints lost."""
    real = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = Terminal()
    try:
        return run(steps)
    finally:
        sys.stdout, sys.stderr = real


def measure(kinds: dict[str, Run], floor: Run, steps: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians over ``rounds``, in microseconds: the step, and what it costs over the floor (see the module)."""
    torch.set_num_threads(1)
    raw: list[Figures] = []
    total: dict[str, list[Figures]] = {name: [] for name in kinds}
    extra: dict[str, list[Figures]] = {name: [] for name in kinds}
    floor(steps)
    for number in range(rounds + 1):
        before = floor(steps)
        for name, run in kinds.items():
            # slow ones need fewer steps for the same precision
            count = max(steps // 8, 4 * BLOCK) if name.startswith("Lightning") else steps
            taken = silent(run, count)
            after = floor(steps)
            if number:  # the first round warms up
                total[name].append(taken)
                extra[name].append(tuple(t - (a + b) / 2 for t, a, b in zip(taken, before, after, strict=True)))
                raw.append(after)
            before = after
    table = {"hand-written loop": {"step": _median(raw, 0), "extra": 0.0, "with rows": 0.0, "mean": 0.0}}
    for name in kinds:
        table[name] = {"step": _median(total[name], 0)} | {
            column: _median(extra[name], index) for index, column in enumerate(("extra", "with rows", "mean"))
        }
    return table


def _median(rounds: list[Figures], index: int) -> float:
    return statistics.median(figures[index] for figures in rounds)


def growth(steps: int, rounds: int) -> dict[str, float]:
    """What a bare step costs over the hand-written one with 2 and with 200 parameters; and late in a run."""
    import fulmen

    result: dict[str, float] = {}
    for depth in (1, 100):
        table = measure(
            {"x": trained(fulmen, depth=depth, **BARE)}, hand_written(depth), max(steps // depth, 200), rounds
        )
        result[f"bare, {2 * depth} parameter tensors"] = table["x"]["extra"]
    differences = []
    for _ in range(rounds):
        stamps, length = Stamps(), max(steps // 10, 100)

        class Model(fulmen.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.layer = layers(1)

            def training_step(self, batch: Any, index: int, stamps: Stamps = stamps) -> Tensor:
                stamps.see()
                loss = F.cross_entropy(self.layer(batch[0]), batch[1])
                self.log("loss", loss, on_epoch=True)
                return loss

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=0.01)

        with tempfile.TemporaryDirectory() as folder:
            trainer = fulmen.Trainer(max_epochs=40, accelerator="cpu", default_root_dir=folder, **BARE)
            trainer.fit(Model(), Batches(length - WARM - 1))
        each = [b - a for a, b in pairwise(stamps.times)]
        differences.append(
            (statistics.median(each[-4 * length :]) - statistics.median(each[2 * length : 6 * length])) * 1e6
        )
    result["a step after 36 epochs more than after 2"] = statistics.median(differences)
    return result


def figures(table: dict[str, dict[str, float]]) -> dict[str, float]:
    """What the promises speak of, in microseconds a step."""
    extra = {name: row["extra"] for name, row in table.items()}
    found = {name: extra[name] for name in ("bare", "default settings", "default, ten logs") if name in extra}
    if "default settings" not in extra:
        return found
    none = extra["default settings"]
    if "default, no timeline" in extra:
        found["the timeline"] = none - extra["default, no timeline"]
    for name, variant, number in (
        ("fifty callbacks", "default, fifty callbacks", 1),
        ("one self.log", "default, ten logs", 10),
        ("one self.log, on_step and on_epoch", "default, ten logs, on_step and on_epoch", 10),
        ("one self.log of fifty", "default, fifty logs", 50),
    ):
        if variant in extra:
            found[name] = (extra[variant] - none) / number
    return found


def main() -> int:
    """Measure, print, compare with the promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps and rounds")
    parser.add_argument("--only", help="only variants with this text in their name")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a promise does not hold")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("fulmen").setLevel(logging.ERROR)
    logging.getLogger("ignite").setLevel(logging.ERROR)
    steps, rounds = (1000, 3) if arguments.quick else (2000, 5)
    kinds = {name: run for name, run in variants().items() if not arguments.only or arguments.only in name}
    table = measure(kinds, hand_written(), steps, rounds)
    raw = table["hand-written loop"]["step"]
    print(
        f"µs a step, medians of {rounds} interleaved rounds; the three columns in the middle: over the hand-written loop"
    )
    print(f"{'':<42} {'step':>8} {'median':>8} {'with rows':>10} {'mean':>8} {'ratio':>7}")
    for name, row in table.items():
        print(f"{name:<42} {row['step']:>8.1f} {row['extra']:>+8.1f} {row['with rows']:>+10.1f} {row['mean']:>+8.1f} "
              f"{row['step'] / raw:>7.2f}")  # fmt: skip
    found = figures(table)
    grown = {} if arguments.only else growth(steps, rounds)
    print()
    for name, value in (found | grown).items():
        promise = f"  (promised: at most {PROMISES[name]:g})" if name in PROMISES else ""
        print(f"{name:<42} {value:>+10.2f}{promise}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table | {"figures": found | grown}, indent=2))
    broken = [f"{name}: {found[name]:.1f} > {most} µs" for name, most in PROMISES.items()
              if name in found and found[name] > most]  # fmt: skip
    print("promises: " + ("; ".join(broken) if broken else "kept"))
    return 1 if arguments.check and broken else 0


if __name__ == "__main__":
    sys.exit(main())
