"""Kills trainings at random moments, and looks at what is left.

    python tests/faults/kill.py [KILLS] [--seed N]

One process loads torch and forks the trainings. Each saves after every second step and is killed; the next one resumes by
``ckpt_path="auto"``. After every kill: every file under a final name loads; nothing that was reported as saved is lost; what was being
saved is at most one save ahead; there is at most one temporary file, and no more checkpoints than are meant to be kept.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import fulmen as L
from fulmen.callbacks import ModelCheckpoint
from fulmen.plugins.io import NativeCheckpointIO
from fulmen.plugins.io.loading import load
from fulmen.plugins.io.moments import afterwards

EVERY = 2
#: forms of saving that take turns: how large a state has to be for the background, and what `last` is
FORMS = ((None, True), (0, True), (0, "link"), (None, "link"))


class Model(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(256, 256)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.ones(1, 256).expand(100_000, 256), batch_size=4)


class Report(L.Callback):
    """Says on a pipe which step is being saved, and which one is on the disk."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def _say(self, word: str, step: int) -> None:
        os.write(self.pipe, f"{word} {step}\n".encode())

    def on_train_batch_start(self, *_: Any) -> None: ...

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        # called before ModelCheckpoint, which comes last: what was saved before this step is asked for
        step = trainer.global_step
        if step % EVERY == 0:
            self._say("begun", step)
        elif step > 1:
            afterwards(trainer, lambda: self._say("saved", step - 1))


def train(folder: Path, form: tuple[Any, Any], pipe: int) -> None:
    """In the child: trains until it is killed."""
    torch.set_num_threads(1)
    size, last = form
    trainer = L.Trainer(
        max_steps=1_000_000, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        default_root_dir=str(folder), plugins=[NativeCheckpointIO(background_from=size)],
        callbacks=[
            Report(pipe),
            ModelCheckpoint(folder, every_n_train_steps=EVERY, save_last=last, save_top_k=2, monitor="step", mode="max"),
        ],
    )  # fmt: skip
    trainer.fit(Model(), ckpt_path="auto")


def look(folder: Path) -> tuple[int, list[str]]:
    """The newest file's step, and the names of temporary files. Every file has to load."""
    highest, temporaries = 0, []
    for path in folder.iterdir():
        if path.suffix != ".ckpt":
            assert path.name.endswith(".fulmen-part"), path
            temporaries.append(path.name)
            continue
        content = load(path)
        assert (
            len(content["optimizer_states"][0]["state"]) == 2
            and torch.isfinite(content["state_dict"]["layer.weight"]).all()
        )
        highest = max(highest, content["global_step"])
    return highest, temporaries


def fork(work: Callable[[int], None]) -> tuple[int, int]:
    """A child that does the work, and the reading end of its pipe."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    status = 1
    try:
        os.close(reading)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        work(writing)
        status = 0
    finally:
        if status:
            import traceback

            traceback.print_exc()
        os._exit(status)


def kill_many(kills: int, seed: int = 0, folder: Path | None = None) -> dict[str, int]:
    """Runs the test.

    Returns:
        The steps reached, how many kills met a save, the most checkpoints and temporaries ever seen.
    """
    randomness = random.Random(seed)
    folder = folder or Path(tempfile.mkdtemp(prefix="fulmen-kill-"))
    step = 0
    counts = {"kills": 0, "step": 0, "during a save": 0, "most checkpoints": 0, "most temporaries": 0}
    while counts["kills"] < kills:
        form = FORMS[counts["kills"] // 5 % len(FORMS)]
        child, pipe = fork(lambda writing, form=form: train(folder, form, writing))
        ready, _, _ = select.select([pipe], [], [], 60)
        assert ready, "a training did not begin within a minute"
        time.sleep(randomness.random() * 0.12)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "a training ended by itself"
        with os.fdopen(pipe) as lines:
            words = [line.split() for line in lines if line.endswith("\n")]
        begun = max([int(n) for word, n in words if word == "begun"], default=step)
        saved = max([int(n) for word, n in words if word == "saved"], default=step)
        found, temporaries = look(folder)
        assert found >= saved, f"step {saved} was on the disk, the newest is {found}"
        # in the background one save may be in flight while the next one, already announced, waits for it
        slack = EVERY if form[0] is None else 2 * EVERY
        assert found >= begun - slack, f"step {begun} was being saved, the newest is {found}"
        files = [p for p in folder.iterdir() if p.suffix == ".ckpt"]
        counts["during a save"] += bool(temporaries) or found < begun
        counts["most checkpoints"] = max(counts["most checkpoints"], len(files))
        counts["most temporaries"] = max(counts["most temporaries"], len(temporaries))
        assert len(temporaries) <= 2, temporaries
        # two best, the last, one that is being replaced; a second `last` where the form changed from link to file
        assert len(files) <= 5, files
        counts["kills"] += 1
        counts["step"] = step = found
        if counts["kills"] % 100 == 0:
            print(counts, file=sys.stderr, flush=True)
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kills", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(kill_many(given.kills, given.seed))
    sys.exit(0)
