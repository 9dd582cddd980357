"""`Trainer(profiler=...)`: hooks and steps are measured where one is given, and nothing is wrapped where none is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fulmen as L
from fulmen.demos.boring_classes import BoringDataModule, BoringModel
from fulmen.errors import NotYet
from fulmen.profilers import AdvancedProfiler, PassThroughProfiler, SimpleProfiler
from fulmen.trainer.hook_table import profiled


def fit(folder: Path, module: Any | None = None, **options: Any) -> L.Trainer:
    trainer = L.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, max_epochs=1, limit_train_batches=3,
        limit_val_batches=2, num_sanity_val_steps=0, **options,
    )  # fmt: skip
    trainer.fit(module or BoringModel(), datamodule=BoringDataModule())
    return trainer


class Hooked(L.Callback):
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        pass


def test_steps_hooks_and_data_are_measured(tmp_path: Path) -> None:
    trainer = fit(tmp_path, profiler="simple", callbacks=Hooked())
    assert isinstance(trainer.profiler, SimpleProfiler)
    calls = {name: len(times) for name, times in trainer.profiler.recorded_durations.items()}
    assert calls["[Strategy]SingleDeviceStrategy.training_step"] == 3
    assert calls["[Strategy]SingleDeviceStrategy.validation_step"] == 2
    assert calls["[LightningDataModule]BoringDataModule.setup"] == 1
    assert calls["[Callback]Hooked.on_train_start"] == 1


def test_the_report_is_written(tmp_path: Path) -> None:
    fit(tmp_path, profiler=SimpleProfiler(dirpath=tmp_path, filename="times"))
    (report,) = tmp_path.glob("fit-times*.txt")
    assert "[Strategy]SingleDeviceStrategy.training_step" in report.read_text()


def test_the_report_is_written_after_an_error(tmp_path: Path) -> None:
    class Fails(BoringModel):
        def on_train_end(self) -> None:
            raise RuntimeError("late")

    with pytest.raises(RuntimeError, match="late"):
        fit(tmp_path, Fails(), profiler=AdvancedProfiler(dirpath=tmp_path, filename="functions"))
    (report,) = tmp_path.glob("fit-functions*.txt")
    assert "training_step" in report.read_text()


def test_without_a_profiler_nothing_stands_between(tmp_path: Path) -> None:
    trainer = fit(tmp_path)
    assert type(trainer.profiler) is PassThroughProfiler

    def call() -> None:
        pass

    assert profiled(trainer, "x", "y", call) is call


def test_one_that_is_not_built_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotYet, match="PyTorchProfiler"):
        L.Trainer(default_root_dir=tmp_path, accelerator="cpu", profiler="pytorch")
