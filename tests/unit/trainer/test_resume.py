"""Where a run goes on from a file that was written within an epoch, and what it still owes then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import fulmen as L
from fulmen.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from fulmen.demos.boring_classes import BoringModel


class Tape(BoringModel):
    """Writes down batches (e.b), validations and their batches (v), epoch starts and ends."""

    def __init__(self, fail: bool = False) -> None:
        super().__init__()
        self.tape: list[str] = []
        self.fail = fail

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.tape.append(f"{self.current_epoch}.{batch_idx}")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.tape.append("v")
        if self.fail and batch_idx == 1:
            raise RuntimeError("broken")
        self.log("count", 1.0, reduce_fx="sum")

    def on_validation_start(self) -> None:
        self.tape.append("V")

    def on_train_epoch_start(self) -> None:
        self.tape.append("start")

    def on_train_epoch_end(self) -> None:
        self.tape.append("end")


def make(folder: Path, **options: Any) -> L.Trainer:
    base: dict[str, Any] = {
        "default_root_dir": folder, "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "limit_train_batches": 4, "limit_val_batches": 3, "val_check_interval": 2,
        "num_sanity_val_steps": 0, "max_epochs": 1,
    }  # fmt: skip
    return L.Trainer(**{**base, **options})


def test_the_validation_that_followed_the_file_runs(tmp_path: Path) -> None:
    make(tmp_path, callbacks=[ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1)]).fit(Tape())
    net = Tape()
    trainer = make(tmp_path, enable_checkpointing=False)
    trainer.fit(net, ckpt_path=tmp_path / "epoch=0-step=2.ckpt")
    assert net.tape == ["V", "v", "v", "v", "0.2", "0.3", "V", "v", "v", "v", "end"]
    assert trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.completed == 6


@pytest.mark.parametrize(("interval", "rest"), [(2, ["0.2", "0.3", "V", "v", "v", "v"]), (4, [])])
def test_an_interrupted_validation_runs_anew(tmp_path: Path, interval: int, rest: list[str]) -> None:
    failing = make(tmp_path, val_check_interval=interval, callbacks=[OnExceptionCheckpoint(tmp_path)])
    with pytest.raises(RuntimeError, match="broken"):
        failing.fit(Tape(fail=True))
    net = Tape()
    trainer = make(tmp_path, val_check_interval=interval, enable_checkpointing=False)
    trainer.fit(net, ckpt_path=tmp_path / "on_exception.ckpt")
    assert net.tape == ["V", "v", "v", "v", *rest, "end"]
    assert trainer.callback_metrics["count"] == 3
    # the batch that failed was begun once more than it was done
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total
    assert progress.ready == progress.completed + 1


def test_a_validation_that_is_done_does_not_run_again(tmp_path: Path) -> None:
    class Saves(Tape):
        def on_validation_end(self) -> None:
            self.trainer.save_checkpoint(tmp_path / f"{self.trainer.global_step}.ckpt")

    make(tmp_path, enable_checkpointing=False).fit(Saves())
    net = Tape()
    trainer = make(tmp_path, enable_checkpointing=False)
    trainer.fit(net, ckpt_path=tmp_path / "2.ckpt")
    assert net.tape == ["0.2", "0.3", "V", "v", "v", "v", "end"]
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 4, "the loggers' axis goes on without a gap"


@pytest.mark.parametrize(
    ("limit", "tape"),
    [
        ({"max_steps": 3, "max_epochs": -1}, ["0.1", "0.2", "end"]),
        ({"max_epochs": 2}, ["start", "1.0", "1.1", "1.2", "1.3", "end"]),
    ],
    ids=["by steps", "by epochs"],
)
def test_an_epoch_that_max_steps_cut_short(tmp_path: Path, limit: dict[str, int], tape: list[str]) -> None:
    make(tmp_path, max_steps=1, max_epochs=-1, limit_val_batches=0, callbacks=[ModelCheckpoint(tmp_path)]).fit(Tape())
    net = Tape()
    trainer = make(tmp_path, limit_val_batches=0, enable_checkpointing=False, **limit)
    trainer.fit(net, ckpt_path=tmp_path / "epoch=0-step=1.ckpt")
    assert net.tape == tape


def test_no_sanity_check_before_a_run_that_goes_on(tmp_path: Path) -> None:
    make(tmp_path, callbacks=[ModelCheckpoint(tmp_path, every_n_train_steps=4, save_top_k=-1)]).fit(Tape())
    net = Tape()
    trainer = make(tmp_path, enable_checkpointing=False, num_sanity_val_steps=2, max_epochs=2)
    trainer.fit(net, ckpt_path=tmp_path / "epoch=0-step=4.ckpt")
    assert net.tape[:2] == ["start", "1.0"]


def test_a_strategy_that_restores_the_optimizers_itself(tmp_path: Path) -> None:
    from fulmen.strategies import SingleDeviceStrategy

    class Own(SingleDeviceStrategy):
        asked = False
        lightning_restore_optimizer = False

        def load_optimizer_state_dict(self, checkpoint: Any) -> None:
            self.asked = True

    make(tmp_path, callbacks=[ModelCheckpoint(tmp_path, filename="x")]).fit(Tape())
    strategy = Own(torch.device("cpu"))
    make(tmp_path, strategy=strategy, enable_checkpointing=False, max_epochs=2).fit(
        Tape(), ckpt_path=tmp_path / "x.ckpt"
    )
    assert not strategy.asked


def test_a_file_of_plain_weights_is_named_as_such(tmp_path: Path) -> None:
    torch.save(Tape().state_dict(), tmp_path / "plain.pt")
    with pytest.raises(KeyError, match="plain.pt holds weights only"):
        make(tmp_path, enable_checkpointing=False).fit(Tape(), ckpt_path=tmp_path / "plain.pt")
