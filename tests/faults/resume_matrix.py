"""Stops trainings at every step in every way, goes on from what they left, and compares with the training that never stopped.

    python tests/faults/resume_matrix.py [--sample N] [--seed N] [--jobs N]

{every step of 3 epochs} x {0, 2 workers} x {accumulation 1, 3} x {automatic, manual} x {max_steps, the file of a batch's end;
max_steps, that of the epoch's end; exception; SIGKILL after a save; SIGTERM}. An exception comes in turn before, within and after the
forward pass of a batch. Equal to the last bit have to be: weights, statistics of batch norms, optimizers, schedulers, samples and their
order, draws of all generators, learning rates, and ``metrics.csv`` byte for byte.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, Dataset

import fulmen as L
from fulmen.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from fulmen.loggers import CSVLogger

EPOCHS, BATCHES, SIZE = 3, 4, 2
WAYS = ("max_steps", "epoch_end", "exception", "SIGKILL", "SIGTERM")
CASES = list(itertools.product(range(1, EPOCHS * BATCHES + 1), (0, 2), (1, 3), (True, False), WAYS))


class Stop(Exception):
    """What a training of this script is stopped by."""


class Noisy(Dataset[torch.Tensor]):
    """Rows of which nothing can be gathered ahead, since each draws a number."""

    def __len__(self) -> int:
        return BATCHES * SIZE

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.cat([torch.tensor([float(index)]), torch.rand(2)])


class Net(L.LightningModule):
    """Draws from every generator, logs in every way, accumulates by itself if it has to."""

    def __init__(self, tape: Path, automatic: bool, window: int) -> None:
        super().__init__()
        self.layer, self.norm, self.drop = nn.Linear(3, 2), nn.BatchNorm1d(3), nn.Dropout(0.3)
        self.metric = torchmetrics.MeanMetric()
        self.automatic_optimization = automatic
        self.window, self.tape = window, tape
        self.stops: tuple[str, int] | None = None

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
        done = self.trainer.fit_loop.total_batch_idx
        self.fail_if(done % 3 == 0)
        if self.stops == ("SIGTERM", done + 1):
            os.kill(os.getpid(), signal.SIGTERM)
        noise = random.random() + np.random.rand()
        loss = (self.layer(self.drop(self.norm(batch))) * noise).square().mean()
        self.metric(loss.detach())
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("count", 1.0, on_step=False, on_epoch=True, reduce_fx="sum")
        self.log("metric", self.metric, on_step=True, on_epoch=True)
        self.fail_if(done % 3 == 1)
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        with self.tape.open("a") as file:
            row = [self.current_epoch, batch_idx, batch[:, 0].tolist(), batch[:, 1:].tolist(), noise, loss.item(), rate]
            print(json.dumps(row), file=file)
        if not self.automatic_optimization:
            self.by_hand(loss, batch_idx)
        return loss

    def fail_if(self, here: bool) -> None:
        if here and self.stops == ("exception", self.trainer.fit_loop.total_batch_idx):
            raise Stop

    def on_after_backward(self) -> None:
        self.fail_if(self.trainer.fit_loop.total_batch_idx % 3 == 2)

    def by_hand(self, loss: torch.Tensor, batch_idx: int) -> None:
        optimizer = self.optimizers()
        self.manual_backward(loss / self.window)
        if (batch_idx + 1) % self.window == 0 or batch_idx + 1 == BATCHES:
            optimizer.step()
            optimizer.zero_grad()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val_loss", self.layer(batch).square().mean() + torch.rand(()))

    def on_train_epoch_end(self) -> None:
        if not self.automatic_optimization and self.trainer.fit_loop.epoch_loop._num_ready_batches_reached():
            for scheduler in self.lr_schedulers():
                scheduler.step(
                    *([self.trainer.callback_metrics["loss_epoch"]] if "Plateau" in type(scheduler).__name__ else [])
                )

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        schedulers = torch.optim.lr_scheduler
        return [optimizer], [
            {"scheduler": schedulers.StepLR(optimizer, 3, 0.9), "interval": "step"},
            {
                "scheduler": schedulers.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.5),
                "monitor": "loss_epoch",
            },
        ]


class SaveAndKill(ModelCheckpoint):
    """A file after every batch, also within an accumulation window; and SIGKILL in the batch after the last one to be kept.

    By then what followed the save, such as a row, a validation or an epoch's end, has happened, and is not in the file.
    """

    def __init__(self, folder: Path, saves: bool, kills_after: int | None) -> None:
        super().__init__(folder / "files")
        self.saves, self.kills_after, self.folder = saves, kills_after, folder / "files"

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self.saves:
            trainer.save_checkpoint(self.folder / f"batch={trainer.fit_loop.total_batch_idx + 1}.ckpt")

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self.saves:
            trainer.save_checkpoint(self.folder / "epoch_end.ckpt")

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self.kills_after is not None and trainer.fit_loop.total_batch_idx == self.kills_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self.kills_after is not None:
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder: Path, case: tuple[Any, ...], phase: str, path: Any = None) -> None:
    """One training: "straight", "first" (it is stopped), or "second" (it goes on)."""
    step, workers, window, automatic, way = case
    seed = 7 if phase != "second" else 99
    torch.set_num_threads(1)
    torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)
    net = Net(folder / f"{phase}.tape", automatic, window)
    limits: dict[str, Any] = {"max_epochs": EPOCHS}
    if phase == "first":
        net.stops = (way, step)
        if way in ("max_steps", "epoch_end"):
            limits["max_steps"] = step
    kills_after = step if phase == "first" and way == "SIGKILL" else None
    saving = SaveAndKill(folder, phase == "first" and way != "SIGTERM", kills_after)
    trainer = L.Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        accumulate_grad_batches=window if automatic else 1, num_sanity_val_steps=1,
        logger=CSVLogger(folder, name="logs", version="run"), default_root_dir=folder,
        callbacks=[saving, OnExceptionCheckpoint(folder / "files", "failed")] if way == "exception" else [saving],
        **limits,
    )  # fmt: skip
    loader = DataLoader(Noisy(), SIZE, shuffle=True, num_workers=workers, persistent_workers=False)
    trainer.fit(net, loader, DataLoader(Noisy(), SIZE), ckpt_path=path)
    torch.save(
        {
            "weights": net.state_dict(), "optimizers": [o.state_dict() for o in trainer.optimizers],
            "schedulers": [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs],
            "draws": [torch.rand(3), random.random(), np.random.rand()],
        },
        folder / f"{phase}.result",
    )  # fmt: skip


def child(folder: Path, *what: Any) -> int:
    """A training in a process of its own; its status as `subprocess` gives it."""
    folder.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if not pid:
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1), os.dup2(output, 2)
        status: Any = 1
        try:
            train(folder, *what)
            status = 0
        except Stop:
            status = 3
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


EXPECTED = {"max_steps": 0, "epoch_end": 0, "exception": 3, "SIGKILL": -signal.SIGKILL, "SIGTERM": 128 + signal.SIGTERM}


def difference(straight: Path, folder: Path, case: tuple[Any, ...]) -> str | None:
    """Runs one case; None, or what is not equal."""
    step, _, _, _, way = case
    status = child(folder, case, "first")
    past_the_end = step == EPOCHS * BATCHES and way == "exception" and status == 0
    if status != EXPECTED[way] and not past_the_end:
        return f"the first part ended with {status}: {(folder / 'output').read_text()[-1500:]}"
    begun = (folder / "first.tape").read_text().splitlines()
    path = {
        "SIGTERM": "auto",
        "epoch_end": folder / "files" / "epoch_end.ckpt",
        "exception": folder / "files" / "failed.ckpt",
    }.get("" if past_the_end else way, folder / "files" / f"batch={len(begun)}.ckpt")
    if way == "exception" and len(begun) > step:
        # the batch that failed, after it was noted
        del begun[-1]
    if child(folder, case, "second", path):
        return f"the second part failed: {(folder / 'output').read_text()[-1500:]}"
    whole = (straight / "straight.tape").read_text().splitlines()
    rest = (folder / "second.tape").read_text().splitlines() if (folder / "second.tape").exists() else []
    if begun + rest != whole:
        at = next(
            (i for i, (a, b) in enumerate(zip(begun + rest, whole)) if a != b), min(len(begun + rest), len(whole))
        )
        return f"batches differ at {at} of {len(begun)}+{len(rest)}: {(begun + rest)[at : at + 1]} instead of {whole[at : at + 1]}"
    one, other = (torch.load(p, weights_only=False) for p in (straight / "straight.result", folder / "second.result"))
    for key, value in one.items():
        if not same(value, other[key]):
            return f"{key}: {other[key]} instead of {value}"
    rows, expected = ((p / "logs" / "run" / "metrics.csv").read_text() for p in (folder, straight))
    if rows != expected:
        return f"rows:\n{rows}\ninstead of\n{expected}"
    return None


def run(cases: list[tuple[Any, ...]]) -> list[str]:
    """All differences found."""
    warnings.simplefilter("ignore")
    # the first optimizer of a process imports it, which takes longer than all the trainings here
    importlib.import_module("torch._dynamo")
    root = Path(tempfile.mkdtemp(prefix="fulmen-resume-"))
    found = []
    straights: dict[Any, Path] = {}
    try:
        for case in cases:
            kind = case[1:4]
            if kind not in straights:
                straights[kind] = root / "straight-{}-{}-{}".format(*kind)
                assert child(straights[kind], case, "straight") == 0, (straights[kind] / "output").read_text()
            folder = root / "case"
            what = difference(straights[kind], folder, case)
            shutil.rmtree(folder)
            if what is not None:
                found.append(
                    f"step {case[0]}, {case[1]} workers, window {case[2]}, "
                    f"{'automatic' if case[3] else 'manual'}, {case[4]}: {what}"
                )
                print(found[-1][:1500], flush=True)
    finally:
        shutil.rmtree(root)
    return found


def main() -> int:
    """Runs the matrix, or a sample of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, default=len(CASES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--only", default="", help="cases whose description contains this word: 0, 2, SIGTERM, ...")
    given = parser.parse_args()
    cases = [c for c in CASES if not given.only or given.only in map(str, c)]
    cases = random.Random(given.seed).sample(cases, min(given.sample, len(cases)))
    start = time.monotonic()
    by_kind = sorted(cases, key=lambda c: c[1:4])
    groups = [list(group) for _, group in itertools.groupby(by_kind, key=lambda c: c[1:4])]
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("fork")) as pool:
        found = [what for group in pool.map(run, groups) for what in group]
    print(
        f"{len(cases) - len(found)} of {len(cases)} resumed runs equal the straight one, {time.monotonic() - start:.0f} s"
    )
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
