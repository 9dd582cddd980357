from __future__ import annotations

import csv
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fulmen.loggers import CSVLogger, csv_logs, folders
from fulmen.loggers.csv_logs import ExperimentWriter


def read(writer: ExperimentWriter) -> list[dict[str, str]]:
    with open(writer.metrics_file_path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Name and mode of every file that was opened."""
    calls = []
    original = folders.open_text

    def record(path: str, mode: str) -> Any:
        calls.append((Path(path).name, mode))
        return original(path, mode)

    monkeypatch.setattr(csv_logs.folders, "open_text", record)
    return calls


def test_columns_are_sorted_and_rows_appended(tmp_path: Path, opened: list[tuple[str, str]]) -> None:
    writer = ExperimentWriter(str(tmp_path / "log"))
    for step in range(5):
        writer.log_metrics({"b": torch.tensor(0.5), "a": step}, step)
        writer.save()
    text = Path(writer.metrics_file_path).read_bytes()
    assert text == b"a,b,step\r\n0,0.5,0\r\n1,0.5,1\r\n2,0.5,2\r\n3,0.5,3\r\n4,0.5,4\r\n"
    assert opened == [("metrics.csv.tmp", "w")] + [("metrics.csv", "a")] * 4
    assert writer.metrics == []
    assert os.listdir(writer.log_dir) == ["metrics.csv"]


def test_a_new_name_widens_the_file(tmp_path: Path) -> None:
    writer = ExperimentWriter(str(tmp_path))
    writer.log_metrics({"b": 1}, 0)
    writer.save()
    writer.log_metrics({"a": 2, "b": 3}, 1)
    writer.log_metrics({"c": 'with "quotes", commas\nand lines'}, 2)
    writer.save()
    assert writer.metrics_keys == ["a", "b", "c", "step"]
    assert read(writer) == [
        {"a": "", "b": "1", "c": "", "step": "0"},
        {"a": "2", "b": "3", "c": "", "step": "1"},
        {"a": "", "b": "", "c": 'with "quotes", commas\nand lines', "step": "2"},
    ]


def test_without_step_rows_that_wait_are_counted(tmp_path: Path) -> None:
    writer = ExperimentWriter(str(tmp_path))
    for _ in range(2):
        writer.log_metrics({"a": 1})
    writer.save()
    writer.log_metrics({"a": 1})
    writer.save()
    assert [row["step"] for row in read(writer)] == ["0", "1", "0"]


def test_a_new_name_in_every_row_costs_no_more_than_a_few_rewrites(
    tmp_path: Path, opened: list[tuple[str, str]]
) -> None:
    logger = CSVLogger(tmp_path, name=None, version=0)
    rows = 600
    for step in range(rows):
        logger.log_metrics({f"name{step}": step}, step)
        logger.save()
    assert [mode for _, mode in opened].count("w") < 64 + 16 * 4
    # what waits is little, and the end of the run writes it
    assert 0 < len(logger.experiment.metrics) <= rows / 16 + 1
    logger.finalize("failed")
    found = read(logger.experiment)
    assert [row["step"] for row in found] == [str(step) for step in range(rows)]
    assert all(row[f"name{step}"] == str(step) for step, row in enumerate(found))


def test_rows_with_known_names_keep_their_place_behind_rows_that_wait(tmp_path: Path) -> None:
    writer = ExperimentWriter(str(tmp_path))
    for step in range(2000):
        writer.log_metrics({f"name{step}": 1} if step < 70 or step == 1500 else {"same": 2}, step)
        writer.save()
    writer.close()
    assert [int(row["step"]) for row in read(writer)] == list(range(2000))


def test_a_crash_while_rewriting_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = ExperimentWriter(str(tmp_path))
    writer.log_metrics({"a": 1}, 0)
    writer.save()
    before = Path(writer.metrics_file_path).read_bytes()

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(csv_logs.folders, "replace_file", crash)
    writer.log_metrics({"b": 1}, 1)
    with pytest.raises(KeyboardInterrupt):
        writer.save()
    assert Path(writer.metrics_file_path).read_bytes() == before
    # and nothing is lost if the process goes on
    monkeypatch.undo()
    writer.save()
    assert [row["step"] for row in read(writer)] == ["0", "1"]


def test_save_without_rows_makes_no_file(tmp_path: Path) -> None:
    writer = ExperimentWriter(str(tmp_path))
    writer.save()
    assert os.listdir(tmp_path) == []


def test_old_metrics_are_removed_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("old")
    (tmp_path / "other").write_text("kept")
    with pytest.warns(UserWarning, match="Experiment logs directory .* exists and is not empty"):
        writer = ExperimentWriter(str(tmp_path))
    # beside, in case that a resumed run goes on with it
    assert sorted(os.listdir(tmp_path)) == ["metrics.csv.former", "other"]
    writer.close()
    assert os.listdir(tmp_path) == ["other"]


def test_hyperparameters_add_up(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, version="mine")
    logger.log_hyperparams({"a": 1, "nested": {"b": [1, 2]}})
    logger.log_hyperparams({"c": "x"})
    logger.log_hyperparams()
    file = tmp_path / "lightning_logs" / "mine" / "hparams.yaml"
    assert yaml.safe_load(file.read_text()) == {"a": 1, "nested": {"b": [1, 2]}, "c": "x"}


def test_versions(tmp_path: Path) -> None:
    for name in ("version_0", "version_7", "version_x", "other", "version_9_old"):
        (tmp_path / "exp" / name).mkdir(parents=True)
    (tmp_path / "exp" / "version_20").touch()
    logger = CSVLogger(tmp_path, name="exp")
    assert logger.version == 10
    assert logger.log_dir == str(tmp_path / "exp" / "version_10")
    assert (logger.name, logger.save_dir, logger.root_dir) == ("exp", str(tmp_path), str(tmp_path / "exp"))
    # fixed from then on
    (tmp_path / "exp" / "version_11").mkdir()
    assert logger.version == 10


@pytest.mark.parametrize("name", ["", None])
def test_no_name(tmp_path: Path, name: str | None) -> None:
    logger = CSVLogger(tmp_path, name=name, version="v")
    assert logger.name == ""
    assert os.path.normpath(logger.log_dir) == str(tmp_path / "v")


def test_prefix_and_flush_interval(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, prefix="p", flush_logs_every_n_steps=2)
    logger.log_metrics({"a": 1}, 0)
    assert logger.experiment.metrics == [{"p-a": 1, "step": 0}]
    logger.log_metrics({"a": 2}, 1)
    assert logger.experiment.metrics == []
    assert [row["p-a"] for row in read(logger.experiment)] == ["1", "2"]


def test_finalize_of_an_unused_logger_makes_nothing(tmp_path: Path) -> None:
    CSVLogger(tmp_path).finalize("success")
    assert os.listdir(tmp_path) == []


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fulmen.utilities.rank_zero import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1}, 0)
    logger.log_hyperparams({"a": 1})
    logger.save()
    logger.experiment.anything()
    logger.finalize("success")
    assert os.listdir(tmp_path) == []


def test_pickle(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1}, 0)
    logger.save()
    copy = pickle.loads(pickle.dumps(logger))
    copy.log_metrics({"a": 2}, 1)
    copy.save()
    assert [row["a"] for row in read(logger.experiment)] == ["1", "2"]


def test_remote_file_system() -> None:
    fsspec = pytest.importorskip("fsspec")
    root = "memory://csv_logger_test"
    logger = CSVLogger(root)
    logger.log_metrics({"a": 1}, 0)
    logger.save()
    logger.log_metrics({"b": 2}, 1)
    logger.save()
    logger.log_metrics({"b": 3}, 2)
    logger.save()
    assert CSVLogger(root).version == 1
    filesystem = fsspec.filesystem("memory")
    try:
        text = filesystem.cat(logger.experiment.metrics_file_path).decode()
        assert text.split() == ["a,b,step", "1,,0", ",2,1", ",3,2"]
        with pytest.warns(UserWarning, match="not empty"):
            _ = CSVLogger(root, version=0).experiment
        assert not filesystem.exists(logger.experiment.metrics_file_path)
    finally:
        filesystem.rm("/csv_logger_test", recursive=True)
