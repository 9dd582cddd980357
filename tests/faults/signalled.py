"""Trainings in processes of their own that signals are sent to. `test_signals.py` starts this script once.

It reads a line of JSON, ``[folder, step, how, [option, ...], {variable: value}]``, forks a training, and answers by its status and output.
The training prints a line for everything that happens. At step STEP (or in validation STEP, or in setup) it sends itself the signals of HOW, such
as ``SIGTERM`` or ``SIGUSR1+SIGTERM``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from typing import Any

import torch

import fulmen as L
from fulmen.callbacks import ModelCheckpoint

FOLDER, STEP, HOW, OPTIONS = "", 0, "none", [""]


def say(*words: Any) -> None:
    print(*words, flush=True)


def send() -> None:
    for name in HOW.split("+") if HOW != "none" else ():
        if "group" in OPTIONS:
            os.killpg(0, getattr(signal, name))
        else:
            os.kill(os.getpid(), getattr(signal, name))


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def setup(self, stage: str) -> None:
        if "in-setup" in OPTIONS:
            send()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == STEP and "in-validation" not in OPTIONS and "in-setup" not in OPTIONS:
            send()
        if "slow" in OPTIONS:
            time.sleep(0.02)
        loss = self.layer(batch[0]).sum()
        say("step", batch_idx, batch[0][0, 0].item())
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if "in-validation" in OPTIONS and not self.trainer.sanity_checking and batch_idx == STEP:
            send()
        torch.rand(1)
        say("validation", batch_idx)

    def teardown(self, stage: str) -> None:
        say("teardown")

    def on_exception(self, *_: Any) -> None: ...

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Spy(L.Callback):
    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        say("on_exception", type(exception).__name__, getattr(exception, "code", None))
        if "dawdle" in OPTIONS:
            send()
            time.sleep(30)


def train() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(3)
    if "own-handler" in OPTIONS:
        signal.signal(signal.SIGTERM, lambda *_: say("own handler"))
        signal.signal(signal.SIGUSR1, lambda *_: say("own warning"))
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)]
    data = torch.utils.data.TensorDataset(torch.arange(12.0).reshape(6, 2))
    loader = torch.utils.data.DataLoader(data, shuffle=True, num_workers=2 if "workers" in OPTIONS else 0)
    callbacks: list[Any] = [Spy()] + ([ModelCheckpoint(FOLDER)] if "no-files" not in OPTIONS else [])
    more: dict[str, Any] = (
        {"max_time": {"seconds": 0.2}, "max_epochs": -1} if "max-time" in OPTIONS else {"max_epochs": 2}
    )
    trainer = L.Trainer(
        default_root_dir=FOLDER, accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=callbacks,
        enable_model_summary=False, enable_checkpointing="no-files" not in OPTIONS, **more,
    )  # fmt: skip
    path = next((o.removeprefix("from=") for o in OPTIONS if o.startswith("from=")), None)
    validation = torch.utils.data.DataLoader(data, batch_size=2) if "in-validation" in OPTIONS else None
    net = Net()
    try:
        trainer.fit(net, loader, validation, ckpt_path=path)
    finally:
        now = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)]
        say("handlers", "restored" if now == before else "changed")
    say("weights", net.layer.weight.tolist())


def fork(output: str, *what: Any) -> int:
    """A training in a child; returns its exit status as `subprocess` does."""
    global FOLDER, STEP, HOW, OPTIONS
    child = os.fork()
    if not child:
        FOLDER, STEP, HOW, OPTIONS, variables = what
        os.environ.update(variables)
        os.setsid()
        for number in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        status: Any = 1
        try:
            train()
            status = 0
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    for request in sys.stdin:
        output = tempfile.mktemp()
        status = fork(output, *json.loads(request))
        with open(output) as file:
            say(json.dumps([status, file.read()]))
        os.unlink(output)
