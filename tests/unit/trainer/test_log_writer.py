from __future__ import annotations

import copy
import csv
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils.data import DataLoader

import fulmen as L
from fulmen.loggers import CSVLogger, Logger, TensorBoardLogger
from fulmen.trainer import log_writer
from fulmen.trainer.log_writer import RowWriter, can_wait
from fulmen.utilities.rank_zero import rank_zero_only


@pytest.fixture(autouse=True)
def long_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written but where somebody looks."""
    monkeypatch.setattr(log_writer, "INTERVAL", 3600.0)


class Recorder(Logger):
    """Takes rows from another thread."""

    threaded = True

    def __init__(self, fails_at: int | None = None) -> None:
        self.got: list[tuple[dict[str, Any], int | None, int]] = []
        self.saves = 0
        self.fails_at = fails_at
        self.status = ""

    @property
    def name(self) -> str:
        return "recorder"

    @property
    def version(self) -> str:
        return "0"

    def log_hyperparams(self, params: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if step is not None and self.fails_at is not None and step >= self.fails_at:
            raise OSError(f"no row {step}")
        self.got.append((dict(metrics), step, threading.get_ident()))

    @property
    def experiment(self) -> Any:
        self._settle()
        return self.got

    def save(self) -> None:
        self.saves += 1

    def finalize(self, status: str) -> None:
        self.status = status


class AtOnce(Recorder):
    threaded = False

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)


class Model(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = self.layer(batch).mean()
        self.log("loss", loss)
        self.log("index", float(index))
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val", self.layer(batch).mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def loader(batches: int = 12) -> DataLoader[Any]:
    data = torch.arange(batches * 4.0).reshape(batches, 4) / 100
    return DataLoader(data, batch_size=1)


def trainer(tmp_path: Path, *loggers: Any, **options: Any) -> L.Trainer:
    options = {
        "max_epochs": 1, "log_every_n_steps": 1, "enable_progress_bar": False, "enable_checkpointing": False,
        "enable_model_summary": False, "accelerator": "cpu", "default_root_dir": tmp_path, "num_sanity_val_steps": 0,
        **options,
    }  # fmt: skip
    return L.Trainer(logger=list(loggers), **options)


def rows_of(logger: CSVLogger) -> list[dict[str, str]]:
    path = Path(logger.log_dir, "metrics.csv")
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def writer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fulmen-rows"]


def test_rows_wait_and_come_in_order(tmp_path: Path) -> None:
    logger = Recorder()
    seen: list[int] = []

    class Watch(L.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            seen.append(len(logger.got))

    trainer(tmp_path, logger, callbacks=Watch()).fit(Model(), loader())
    assert set(seen) == {0}
    assert [step for _, step, _ in logger.got] == list(range(12))
    assert [row["index"] for row, _, _ in logger.got] == [float(i) for i in range(12)]
    # one for all rows, and one when hyperparameters are logged
    assert logger.saves == 2
    assert logger.status == "success"
    assert writer_threads() == []


def test_a_second_later_they_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "INTERVAL", 0.02)
    logger, writer = CSVLogger(tmp_path), RowWriter()
    for step in range(3):
        assert list(writer.send([logger], {"a": float(step)}, step)) == []
    deadline = time.monotonic() + 20
    while len(rows_of(logger)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [row["a"] for row in rows_of(logger)] == ["0.0", "1.0", "2.0"]
    assert len(writer_threads()) == 1
    writer.close()
    assert writer_threads() == []


def test_who_looks_sees_all(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    counts: dict[str, Any] = {"experiment": [], "checkpoint": [], "file": []}

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            counts["file"].append(len(rows_of(logger)))
            if index == 5:
                assert logger.experiment.metrics == []
                counts["experiment"].append(len(rows_of(logger)))
            if index == 8:
                trainer.save_checkpoint(tmp_path / "x.ckpt")

        def on_save_checkpoint(self, *args: Any) -> None:
            counts["checkpoint"].append(len(rows_of(logger)))

        def on_validation_end(self, *args: Any) -> None:
            counts["validation"] = rows_of(logger)[-1]["val"]

        def on_train_end(self, *args: Any) -> None:
            counts["end"] = len(rows_of(logger))

    trainer(tmp_path, logger, callbacks=Watch()).fit(Model(), loader(), loader(2))
    assert counts["experiment"] == [5] and counts["checkpoint"] == [8]
    assert counts["file"] == [0] * 6 + [5] * 3 + [8] * 3
    assert float(counts["validation"]) == float(rows_of(logger)[-1]["val"])
    assert counts["end"] == len(rows_of(logger)) == 13


def test_another_thread_sees_all(tmp_path: Path) -> None:
    logger, writer = CSVLogger(tmp_path), RowWriter()
    writer.send([logger], {"a": 1.0}, 0)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: (logger.experiment, seen.append(len(rows_of(logger)))))
    thread.start()
    thread.join()
    assert seen == [1]
    writer.close()


def test_own_methods_are_called_at_once(tmp_path: Path) -> None:
    logger, plain = AtOnce(), Recorder()
    seen: list[tuple[int, int]] = []

    class Watch(L.Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            seen.append((len(logger.got), len(plain.got)))

    trainer(tmp_path, plain, logger, callbacks=Watch()).fit(Model(), loader(3))
    assert seen == [(0, 0), (1, 0), (2, 0)]
    assert {thread for _, _, thread in logger.got} == {threading.get_ident()}
    assert len(plain.got) == 3


def test_who_can_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(CSVLogger):
        def save(self) -> None:
            super().save()

    class Renamed(CSVLogger):
        @property
        def name(self) -> str:
            return "other"

    logger = CSVLogger(tmp_path)
    assert can_wait(logger) and can_wait(Renamed(tmp_path)) and can_wait(TensorBoardLogger(tmp_path))
    assert not can_wait(Mine(tmp_path))
    assert not can_wait(L.loggers.logger.DummyLogger())
    assert not can_wait(mock.Mock())
    with mock.patch.object(CSVLogger, "log_metrics"):
        assert not can_wait(logger)
    with mock.patch.object(logger, "save"):
        assert not can_wait(logger)
    assert can_wait(logger)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert not can_wait(logger)


def test_an_error_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "INTERVAL", 0.001)
    broken, sound = Recorder(fails_at=1), Recorder()
    steps: list[int] = []

    class Slow(Model):
        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            steps.append(index)
            time.sleep(0.02)
            return super().training_step(batch, index)

    with pytest.raises(OSError, match="no row"):
        trainer(tmp_path, broken, sound).fit(Slow(), loader(500))
    assert len(steps) < 400
    assert [step for _, step, _ in broken.got] == [0]
    assert [step for _, step, _ in sound.got] == list(range(len(sound.got))) and len(sound.got) >= 2
    assert broken.status == sound.status == "failed"
    assert writer_threads() == []


def test_an_error_shows_at_the_end_at_the_latest(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no row 2"):
        trainer(tmp_path, Recorder(fails_at=2)).fit(Model(), loader(3))


def test_an_error_does_not_hide_another(tmp_path: Path) -> None:
    class Broken(Model):
        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            if index == 3:
                raise ZeroDivisionError("mine")
            return super().training_step(batch, index)

    logger = Recorder(fails_at=1)
    with pytest.warns(UserWarning, match="A logger failed after ZeroDivisionError"):
        with pytest.raises(ZeroDivisionError, match="mine"):
            trainer(tmp_path, logger).fit(Broken(), loader())
    assert logger.status == "failed" and writer_threads() == []


def test_rows_of_a_run_that_fails_are_written(tmp_path: Path) -> None:
    class Broken(Model):
        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            if index == 3:
                raise KeyboardInterrupt
            return super().training_step(batch, index)

    logger = CSVLogger(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, logger).fit(Broken(), loader())
    assert len(rows_of(logger)) == 3


def test_as_many_as_one_likes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "MOST_WAITING", 7)
    logger, writer = Recorder(), RowWriter()
    for step in range(30):
        writer.send([logger], {"a": 1.0}, step)
        assert len(writer._waiting) <= 7
    writer.close()
    assert [step for _, step, _ in logger.got] == list(range(30))


def test_two_trainers_share_a_logger() -> None:
    logger, first, second = Recorder(), RowWriter(), RowWriter()
    first.send([logger], {"a": 1.0}, 0)
    second.send([logger], {"a": 2.0}, 1)
    second.close()
    assert [step for _, step, _ in logger.got] == [0, 1]
    first.close()


def test_copies_start_empty(tmp_path: Path) -> None:
    logger, writer = CSVLogger(tmp_path), RowWriter()
    writer.send([logger], {"a": 1.0}, 0)
    for other in (copy.deepcopy(logger), pickle.loads(pickle.dumps(logger))):
        assert not other._rows._waiting
    writer.close()
    assert len(rows_of(logger)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_no_rows(tmp_path: Path) -> None:
    logger, writer = CSVLogger(tmp_path), RowWriter()
    writer.send([logger], {"a": 1.0}, 0)
    held = writer._lock
    with held:
        # a lock that some thread holds just now is not held in the child
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _ = logger.experiment
                code = 0 if not rows_of(logger) and writer._lock is not held and writer._thread is None else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    writer.close()
    assert len(rows_of(logger)) == 1


EXITS = """
import sys
from fulmen.loggers import CSVLogger
from fulmen.trainer import log_writer
log_writer.INTERVAL = 3600.0
writer = log_writer.RowWriter()
writer.send([CSVLogger(sys.argv[1], name=None, version="run")], {"a": 1.5}, 0)
"""


def test_an_interpreter_that_exits_writes_them(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", EXITS, str(tmp_path)], check=True, timeout=120)
    assert rows_of(CSVLogger(tmp_path, name=None, version="run"))[0]["a"] == "1.5"


def test_tensorboard_keeps_the_time_of_the_row(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger, writer = TensorBoardLogger(tmp_path), RowWriter()
    times = []
    for step in range(3):
        times.append(time.time())
        writer.send([logger], {"a": float(step), "b": True, "c": 2}, step)
        time.sleep(0.05)
    writer.close()
    logger.finalize("success")
    found = EventAccumulator(logger.log_dir).Reload()
    for tag in "abc":
        assert [event.step for event in found.Scalars(tag)] == [0, 1, 2]
        for event, sent in zip(found.Scalars(tag), times, strict=True):
            assert 0 <= event.wall_time - sent < 0.045
    assert [event.value for event in found.Scalars("b")] == [1.0] * 3


def test_tensorboard_asks_a_replaced_writer_for_each_value(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install tensorboard")
    logger = TensorBoardLogger(tmp_path)
    with mock.patch.object(logger.experiment, "add_scalar") as add:
        logger.log_metrics({"a": 1.0, "b": 2.0}, 3)
    assert [call.args for call in add.call_args_list] == [("a", 1.0, 3), ("b", 2.0, 3)]
    with pytest.raises(ValueError, match="you tried to log"):
        logger.log_metrics({"a": 1.0, "b": "text"}, 4)


def test_monitors_send_their_rows_the_same_way(tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    waiting, at_once = Recorder(), AtOnce()
    callbacks = [L.callbacks.LearningRateMonitor(), L.callbacks.DeviceStatsMonitor(cpu_stats=True)]
    trainer(tmp_path, waiting, at_once, callbacks=callbacks, log_every_n_steps=2).fit(Model(), loader(4))
    rows = [(sorted(row), step) for row, step, _ in waiting.got]
    assert rows == [(sorted(row), step) for row, step, _ in at_once.got]
    names = [name for row, _ in rows for name in row]
    assert "lr-SGD" in names and any(name.startswith("DeviceStatsMonitor") for name in names)
    # the hyperparameters' save, and one for all rows
    assert waiting.saves == 2
