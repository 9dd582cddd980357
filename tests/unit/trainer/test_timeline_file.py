from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest

import fulmen as L
from fulmen.demos.boring_classes import BoringModel
from fulmen.loggers import CSVLogger
from fulmen.report import find_runs
from fulmen.trainer import timeline_file


def fit(folder: Path, **arguments) -> tuple[L.Trainer, CSVLogger]:
    logger = CSVLogger(folder, notes=True)
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=4, limit_val_batches=1, logger=logger, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, **arguments,
    )  # fmt: skip
    trainer.fit(BoringModel())
    return trainer, logger


def test_a_fit_leaves_its_environment_and_its_times(tmp_path: Path) -> None:
    trainer, logger = fit(tmp_path, log_every_n_steps=1)
    logger.log_metrics({"loss": 1.0}, 3)
    logger.save()
    folder = Path(logger.log_dir)
    assert sorted(path.name for path in folder.iterdir()) == ["environment.json", "metrics.csv", "timeline.json"]
    written = json.loads((folder / "timeline.json").read_text())
    assert written["version"] == 1 and written["steps"] == 4
    assert written["parts"] == pytest.approx(trainer.timeline.parts) and "forward" in written["parts"]
    assert sum(written["parts"].values()) == pytest.approx(written["wall_seconds"], rel=0.02)
    [run] = find_runs([folder])
    assert run.timeline is not None and run.timeline.steps == 4 and run.notes == []
    assert run.environment["device"] == "cpu" and run.started is not None


def test_a_file_that_cannot_be_written_fails_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(timeline_file.folders, "replace_file", full)
    with pytest.warns(UserWarning, match="timeline.json could not be written: .*No space left"):
        trainer, _ = fit(tmp_path)
    assert trainer.state.finished


def test_no_timeline_no_file(tmp_path: Path) -> None:
    _, logger = fit(tmp_path, timeline=False)
    assert not (Path(logger.log_dir) / "timeline.json").exists()


def test_a_trainer_can_be_copied_with_its_clock_running(tmp_path: Path) -> None:
    trainer, _ = fit(tmp_path)
    for other in (pickle.loads(pickle.dumps(trainer.timeline)), copy.deepcopy(trainer.timeline)):
        assert (other.steps, other.detailed) == (0, True)
        other.mark(other.here)
    pickle.dumps(trainer)
