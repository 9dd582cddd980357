"""What a profiler hears of a run, beside Lightning's: the same actions, as often."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as lightning
import lightning.pytorch.callbacks as their_callbacks
import pytest
from lightning.pytorch.profilers import SimpleProfiler as Theirs

import fulmen
import fulmen.callbacks as our_callbacks
from fulmen.profilers import AdvancedProfiler, SimpleProfiler
from tests.parity.harness import DataLoader, make_module, rows


def actions(L: Any, callbacks: Any, profiler: Any, folder: Any) -> dict[str, int]:
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=2, logger=False, enable_progress_bar=False, enable_model_summary=False,
        profiler=profiler, accumulate_grad_batches=2, default_root_dir=folder, gradient_clip_val=1.0,
        callbacks=[callbacks.EarlyStopping("val_loss"), callbacks.Timer()],
    )  # fmt: skip
    trainer.fit(make_module(L, scheduler="epoch"), DataLoader(rows(22, 1), batch_size=4), DataLoader(rows(9, 2), 4))
    return {name: len(times) for name, times in profiler.recorded_durations.items()}


def test_actions_are_lightnings(tmp_path: Any) -> None:
    theirs = actions(lightning, their_callbacks, Theirs(dirpath=tmp_path, filename="a"), tmp_path)
    ours = actions(fulmen, our_callbacks, SimpleProfiler(dirpath=tmp_path, filename="b"), tmp_path)
    needed = [
        "run_training_epoch", "run_training_batch", "[LightningModule]Net.configure_optimizers",
        "[LightningModule]Net.lr_scheduler_step", "[Strategy]SingleDeviceStrategy.training_step",
        "[Strategy]SingleDeviceStrategy.validation_step", "[Strategy]SingleDeviceStrategy.backward",
        "[Callback]Timer.on_train_batch_end",
    ]  # fmt: skip
    assert {n: ours.get(n) for n in needed} == {n: theirs[n] for n in needed}
    report = (tmp_path / "fit-b-0.txt").read_text()
    assert "run_training_batch" in report


def test_strategy_is_as_before_after_the_run(tmp_path: Any) -> None:
    trainer = fulmen.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        profiler=AdvancedProfiler(dirpath=tmp_path, filename="c"),
    )  # fmt: skip
    before = set(vars(trainer.strategy))
    trainer.fit(make_module(fulmen), DataLoader(rows(8, 1), batch_size=4))
    assert set(vars(trainer.strategy)) - before <= {"_lightning_module", "_model"}
    assert "training_step" in (tmp_path / "fit-c-0.txt").read_text()


def test_a_failed_run_closes_the_profiler(tmp_path: Any) -> None:
    class Fails(fulmen.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            raise RuntimeError("mine")

    profiler = SimpleProfiler(dirpath=tmp_path, filename="d")
    trainer = fulmen.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        profiler=profiler, callbacks=Fails(),
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="mine"):
        trainer.fit(make_module(fulmen), DataLoader(rows(8, 1), batch_size=4))
    assert not profiler.current_actions
    assert "training_step" not in vars(trainer.strategy)
