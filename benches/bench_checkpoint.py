"""What saving and loading checkpoints costs, beside the disk itself, torch and Lightning.

    python benches/bench_checkpoint.py [--quick] [--json out.json] [--check] [--folder DIR]

All contenders take turns within one run, and the table gives medians over the rounds. Four questions:

- a synchronous save of a large state (until it is durable) beside a plain write and fsync of the same bytes;
- what a training waits for when `ModelCheckpoint` saves such a state: the time in the callback, and at the optimizer;
- 10,000 small tensors; loading with a map; memory above the state (in processes of their own).

``--quick`` takes a tenth of the size. ``--check`` fails where a promise does not hold.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

WIDTH = 2048
#: what the project promises; ratios and milliseconds and megabytes
PROMISES = {
    "synchronous save / raw write+fsync": 1.1,
    "stall of a save in the background, ms": 50.0,
    "memory of a synchronous save, MB": 64.0,
    "memory of a save in the background / state": 1.05,
    "mapped load, ms": 5.0,
    "torch.save / fulmen, 10,000 small tensors": 5.0,
}
AT_LEAST = {"torch.save / fulmen, 10,000 small tensors"}


def state(megabytes: int) -> dict[str, Any]:
    """Weights and two moments, as a checkpoint has them."""
    count = max(1, megabytes * 1_000_000 // (WIDTH * WIDTH * 4 * 3))
    generator = torch.Generator().manual_seed(0)
    weights = {f"layers.{i}.weight": torch.rand(WIDTH, WIDTH, generator=generator) for i in range(count)}
    moments = {
        i: {"step": torch.tensor(1.0), "exp_avg": torch.rand(WIDTH, WIDTH), "exp_avg_sq": torch.rand(WIDTH, WIDTH)}
        for i in range(count)
    }
    return {"epoch": 0, "state_dict": weights, "optimizer_states": [{"state": moments, "param_groups": [{"lr": 0.1}]}]}


def nbytes(value: Any) -> int:
    """Bytes of all tensors."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(nbytes(v) for v in value.values())
    return sum(nbytes(v) for v in value) if isinstance(value, list) else 0


def interleaved(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round; the order turns from round to round."""
    names = list(contenders)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            os.sync()
            begin = time.perf_counter()
            contenders[name]()
            taken[name].append(time.perf_counter() - begin)
    return taken


def median(values: list[float]) -> float:
    return statistics.median(values)


def lightning_io(kind: str) -> Any:
    try:
        from lightning.pytorch.plugins import io
    except ImportError:
        return None
    return getattr(io, kind)()


# ---- saving and loading ----------------------------------------------------------------------------------------------


def raw(path: Path, checkpoint: dict[str, Any]) -> None:
    """The floor: the same bytes, from the same memory, in large writes, then fsync."""
    with open(path, "wb", buffering=0) as file:

        def write(value: Any) -> None:
            if isinstance(value, torch.Tensor):
                view = memoryview(value.reshape(-1).view(torch.uint8).numpy())
                for start in range(0, len(view), 8 << 20):
                    file.write(view[start : start + (8 << 20)])
            elif isinstance(value, dict):
                for part in value.values():
                    write(part)
            elif isinstance(value, list):
                for part in value:
                    write(part)

        write(checkpoint)
        os.fsync(file.fileno())


def synced(save: Callable[[], None], path: Path) -> None:
    save()
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def bench_save(folder: Path, megabytes: int, rounds: int) -> dict[str, float]:
    from fulmen.plugins.io import NativeCheckpointIO

    checkpoint = state(megabytes)
    ours, theirs = NativeCheckpointIO(), lightning_io("TorchCheckpointIO")
    contenders: dict[str, Callable[[], Any]] = {
        "raw write+fsync": lambda: raw(folder / "raw", checkpoint),
        "fulmen, durable": lambda: ours.save_checkpoint(checkpoint, folder / "f.ckpt"),
        "torch.save": lambda: torch.save(checkpoint, folder / "t.ckpt"),
        "torch.save+fsync": lambda: synced(lambda: torch.save(checkpoint, folder / "s.ckpt"), folder / "s.ckpt"),
    }
    if theirs is not None:
        contenders["Lightning"] = lambda: theirs.save_checkpoint(checkpoint, folder / "l.ckpt")
    interleaved(contenders, 1)  # the files exist from now on: nobody is the first to allocate
    taken = interleaved(contenders, rounds)
    found = {f"save {nbytes(checkpoint) / 1e9:.2f} GB, {name}, s": median(times) for name, times in taken.items()}
    ratios = [a / b for a, b in zip(taken["fulmen, durable"], taken["raw write+fsync"], strict=True)]
    found["synchronous save / raw write+fsync"] = median(ratios)
    return found | bench_load(folder / "f.ckpt", rounds)


def bench_load(path: Path, rounds: int) -> dict[str, float]:
    from fulmen.plugins.io.loading import load

    contenders: dict[str, Callable[[], Any]] = {
        "fulmen, mapped": lambda: load(path, verify=False),
        "fulmen, mapped, sums compared": lambda: load(path),
        "fulmen, read, sums compared": lambda: load(path, map_file=False),
        "torch.load(mmap=True)": lambda: torch.load(path, mmap=True, weights_only=True),
        "torch.load": lambda: torch.load(path, weights_only=True),
    }
    interleaved(contenders, 1)
    taken = interleaved(contenders, max(3, rounds))
    found = {f"load, {name}, ms": median(times) * 1e3 for name, times in taken.items()}
    found["mapped load, ms"] = median(taken["fulmen, mapped"]) * 1e3
    return found


def bench_small(folder: Path, rounds: int) -> dict[str, float]:
    from fulmen.plugins.io import NativeCheckpointIO

    small = {"state_dict": {f"layers.{i}.bias": torch.rand(256) for i in range(10_000)}}
    ours, theirs = NativeCheckpointIO(), lightning_io("TorchCheckpointIO")
    contenders: dict[str, Callable[[], Any]] = {
        "fulmen, durable": lambda: ours.save_checkpoint(small, folder / "f.ckpt"),
        "torch.save": lambda: torch.save(small, folder / "t.ckpt"),
    }
    if theirs is not None:
        contenders["Lightning"] = lambda: theirs.save_checkpoint(small, folder / "l.ckpt")
    interleaved(contenders, 1)
    taken = interleaved(contenders, rounds)
    found = {f"10,000 tensors of 1 KB, {name}, ms": median(times) * 1e3 for name, times in taken.items()}
    ratios = [a / b for a, b in zip(taken["torch.save"], taken["fulmen, durable"], strict=True)]
    found["torch.save / fulmen, 10,000 small tensors"] = median(ratios)
    return found


# ---- training --------------------------------------------------------------------------------------------------------


def module_of(lightning: Any, layers: int) -> Any:
    """A chain of square layers, whose step takes longer than a copy of the state."""

    class Chain(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers)))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layers(batch).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-6)

    return Chain()


class Batches(torch.utils.data.Dataset):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return self.steps * 256

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((WIDTH,), float(index % 7))


SAVE_EVERY, SAVES = 5, 5


def train(lightning: Any, plugins: list[Any], folder: Path, megabytes: int) -> dict[str, float]:
    """One training with five saves: what it waited for them, and the longest of the waits."""
    layers = max(1, megabytes * 1_000_000 // (WIDTH * WIDTH * 4 * 3))
    callback_time: list[float] = []

    class Timed(
        lightning.pytorch.callbacks.ModelCheckpoint
        if hasattr(lightning, "pytorch")
        else lightning.callbacks.ModelCheckpoint
    ):
        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            begin = time.perf_counter()
            super().on_train_batch_end(*args, **kwargs)
            callback_time.append(time.perf_counter() - begin)

    # the subclass only measures; to the rules of overlap it is the callback that it derives from
    Timed.__module__ = Timed.__mro__[1].__module__
    stamps: list[float] = []
    callback = Timed(
        dirpath=folder / "run", every_n_train_steps=SAVE_EVERY, save_top_k=1, save_on_train_epoch_end=False
    )
    trainer = lightning.Trainer(
        max_steps=SAVE_EVERY * SAVES + SAVE_EVERY - 1, logger=False, enable_progress_bar=False, callbacks=[callback],
        enable_model_summary=False, plugins=plugins, accelerator="cpu", default_root_dir=str(folder),
    )  # fmt: skip
    module = module_of(lightning, layers)
    step = module.training_step

    def stamped(batch: Any, batch_idx: int) -> Any:
        stamps.append(time.perf_counter())
        return step(batch, batch_idx)

    module.training_step = stamped
    waits = _waits(trainer)
    begin = time.perf_counter()
    trainer.fit(module, torch.utils.data.DataLoader(Batches(SAVE_EVERY * SAVES + SAVE_EVERY), batch_size=256))
    total = time.perf_counter() - begin
    shutil.rmtree(folder / "run")
    saving = [callback_time[i] for i in range(SAVE_EVERY - 1, SAVE_EVERY * SAVES, SAVE_EVERY)]
    blocked = [s + w for s, w in zip(saving, waits(), strict=True)]
    steps = [b - a for a, b in itertools.pairwise(stamps)]
    quiet = [steps[i] for i in range(len(steps)) if i % SAVE_EVERY == SAVE_EVERY - 2]
    # the first save makes the buffers that all later ones use
    return {
        "stall": median(blocked[1:]), "first stall": blocked[0], "step": median(quiet), "total": total,
    }  # fmt: skip


def _waits(trainer: Any) -> Callable[[], list[float]]:
    """Seconds that the optimizer waited for each copy; zero for trainers that copy at once."""
    background = getattr(getattr(trainer.strategy, "checkpoint_io", None), "background", None)
    if background is None:
        return lambda: [0.0] * SAVES
    waits: list[float] = []
    original = background._before_step

    def before_step(*args: Any) -> None:
        before, counts = background.waited, background._guarded is not None
        original(*args)
        if counts:
            waits.append(background.waited - before)

    background._before_step = before_step
    return lambda: waits + [0.0] * (SAVES - len(waits))


def bench_train(folder: Path, megabytes: int, rounds: int) -> dict[str, float]:
    import fulmen
    from fulmen.plugins.io import NativeCheckpointIO

    runs: dict[str, Callable[[], dict[str, float]]] = {
        "fulmen": lambda: train(fulmen, [], folder, megabytes),
        "fulmen, synchronous": lambda: train(fulmen, [NativeCheckpointIO(background_from=None)], folder, megabytes),
    }
    try:
        import lightning
        from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

        runs["Lightning"] = lambda: train(lightning, [], folder, megabytes)
        runs["Lightning, AsyncCheckpointIO"] = lambda: train(
            lightning, [AsyncCheckpointIO(TorchCheckpointIO())], folder, megabytes
        )
    except ImportError:
        pass
    found: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
    table = {}
    for name, results in found.items():
        for key in ("stall", "first stall", "step"):
            table[f"training, {name}: {key}, ms"] = median([r[key] for r in results]) * 1e3
    table["stall of a save in the background, ms"] = table["training, fulmen: stall, ms"]
    return table


# ---- memory ----------------------------------------------------------------------------------------------------------


def peak_above(work: Callable[[], Any]) -> float:
    """Megabytes of resident memory, at most, above what there was before; shared file pages not counted."""
    import threading

    def resident() -> int:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(fields["RssAnon"].split()[0]) * 1024

    before, highest, done = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, resident())
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    work()
    done.set()
    thread.join()
    return (max(highest, resident()) - before) / 1e6


def memory(kind: str, folder: Path, megabytes: int) -> float:
    """Runs in a process of its own."""
    from fulmen.plugins.io import AsyncCheckpointIO, NativeCheckpointIO

    checkpoint = state(megabytes)
    if kind == "synchronous":
        io: Any = NativeCheckpointIO()
        io.save_checkpoint({"epoch": 0}, folder / "warm.ckpt")
        return peak_above(lambda: io.save_checkpoint(checkpoint, folder / "m.ckpt"))
    io = AsyncCheckpointIO()

    def twice() -> None:
        for _ in range(3):
            io.save_checkpoint(checkpoint, folder / "m.ckpt")
        io.teardown()

    return peak_above(twice) / (nbytes(checkpoint) / 1e6)


def bench_memory(folder: Path, megabytes: int) -> dict[str, float]:
    found = {}
    for kind, name in (
        ("synchronous", "memory of a synchronous save, MB"),
        ("background", "memory of a save in the background / state"),
    ):
        command = [sys.executable, __file__, "--memory", kind, "--folder", str(folder), "--size", str(megabytes)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = float(answer.stdout.split()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--size", type=int, default=1000, help="megabytes of the large state")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in ("fulmen", "lightning.pytorch", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if given.memory:
        print(memory(given.memory, given.folder, given.size))
        return 0
    size, rounds = (given.size // 10, 3) if given.quick else (given.size, given.rounds)
    folder = Path(tempfile.mkdtemp(prefix="fulmen-bench-", dir=given.folder))
    try:
        found: dict[str, float] = {}
        for bench in (
            lambda: bench_save(folder, size, rounds),
            lambda: bench_small(folder, rounds),
            lambda: bench_memory(folder, size),
            lambda: bench_train(folder, size, 1 if given.quick else max(1, rounds // 2)),
        ):
            part = bench()
            found |= part
            for name, value in part.items():
                promise = f"   promised: {PROMISES[name]:g}" if name in PROMISES else ""
                print(f"{name:<58}  {value:10.3f}{promise}", flush=True)
    finally:
        shutil.rmtree(folder)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    broken = [n for n, p in PROMISES.items() if (found[n] < p if n in AT_LEAST else found[n] > p)]
    if given.check and broken:
        print("not kept:", *broken, sep="\n  ")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
