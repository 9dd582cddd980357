"""Logged values on a device: one copy for a row, for which no step waits."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fulmen as L
from fulmen.callbacks import EarlyStopping
from fulmen.loggers import CSVLogger
from fulmen.trainer import device_clock, device_values
from fulmen.trainer.device_clock import DeviceClock
from fulmen.trainer.device_values import Copy, LateRow, Newest, is_late


class Elsewhere(Tensor):
    """A tensor that says it is on a device."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda")


class Event:
    """What has come when somebody says so, or waits for it."""

    def __init__(self) -> None:
        self.come = self.waited = False

    def query(self) -> bool:
        return self.come

    def synchronize(self) -> None:
        self.waited = not self.come
        self.come = True


def there(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(value, dtype=dtype).as_subclass(Elsewhere)


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[float], Event]]:
    """The copies that were started: values and event of each."""
    started: list[tuple[list[float], Event]] = []

    def start(values: Tensor) -> tuple[Tensor, Event]:
        values, event = values.as_subclass(Tensor), Event()
        started.append((values.tolist(), event))
        return values, event

    monkeypatch.setattr(device_values, "_start", start)
    return started


def test_a_row_is_one_copy_for_each_type(copies: list[Any]) -> None:
    row = LateRow({"a": there(1.0), "step": 3, "b": there(2.0), "c": there(0.1, torch.float64), "d": there(4.0)})
    assert [values for values, _ in copies] == [[1.0, 2.0, 4.0], [0.1]]
    assert not any(event.waited for _, event in copies)
    row.arrive()
    assert list(row.items()) == [("a", 1.0), ("step", 3), ("b", 2.0), ("c", 0.1), ("d", 4.0)]
    assert all(event.waited for _, event in copies)
    row.arrive()
    assert len(copies) == 2


def test_a_copy_holds_what_the_values_were(copies: list[Any]) -> None:
    value = there(1.0)
    copy = Copy({"x": value})
    value.add_(1)
    assert copy.numbers() == {"x": 1.0}


def test_a_display_shows_the_newest_that_has_come(copies: list[Any]) -> None:
    newest = Newest()
    here = torch.tensor(0.5)
    assert newest.look({"x": there(1.0), "here": here}) == {"here": 0.5}
    assert newest.look({"x": there(2.0), "here": here}) == {"here": 0.5}
    assert len(copies) == 1, "the next copy starts when the last one has come"
    copies[0][1].come = True
    assert newest.look({"x": there(3.0), "here": here}) == {"x": 1.0, "here": 0.5}
    copies[1][1].come = True
    assert newest.look({"x": there(4.0), "here": here}) == {"x": 3.0, "here": 0.5}
    assert not any(event.waited for _, event in copies)
    assert newest.look({"here": here}) == {"here": 0.5}


class OnDevice(L.LightningModule):
    """Logs values that say they are on a device."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.automatic_optimization = False
        self.options = options

    def training_step(self, batch: float, batch_idx: int) -> None:
        for name in "abc":
            self.log(name, there(batch_idx + ord(name)), prog_bar=True, batch_size=1, **self.options)

    def configure_optimizers(self) -> None:
        return None


def test_rows_of_a_run_arrive_complete(copies: list[Any], tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=logger, log_every_n_steps=2, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(OnDevice(on_epoch=True), torch.utils.data.DataLoader([0.0] * 8, batch_size=None))
    rows = list(csv.DictReader((Path(logger.log_dir) / "metrics.csv").open()))
    steps = [float(row["a_step"]) for row in rows if row["a_step"]]
    assert steps == [98.0, 100.0, 102.0, 104.0]
    assert [float(row["c_epoch"]) for row in rows if row["c_epoch"]] == [statistics.mean(range(99, 107))]
    assert len(copies) == 4 + 1, "one for each row"


def test_a_bar_does_not_wait(copies: list[Any]) -> None:
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    seen: list[dict[str, float]] = []

    class Bar(L.Callback):
        def _wake(self, trainer: L.Trainer, module: L.LightningModule) -> float:
            seen.append(dict(trainer.progress_bar_metrics))
            return 0.0

    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, callbacks=[Bar()],
    )  # fmt: skip
    trainer.fit(OnDevice(), torch.utils.data.DataLoader([0.0] * 4, batch_size=None))
    assert seen == [{}] * 4
    assert not any(event.waited for _, event in copies)
    # whoever asks by himself gets what there is
    assert trainer.progress_bar_metrics == {"a": 100.0, "b": 101.0, "c": 102.0}


def test_the_clock_of_a_device_looks_at_one_step_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    class Timed(Event):
        now = 0.0

        def record(self) -> None:
            Timed.now += 2.0
            self.at = Timed.now

        def elapsed_time(self, other: Timed) -> float:
            return other.at - self.at

    events: list[Timed] = []

    def make() -> Timed:
        events.append(Timed())
        return events[-1]

    monkeypatch.setattr(device_clock, "_event", make)
    marks: list[str] = []
    clock = DeviceClock(10)
    trainer, forward, backward, optimizer = clock.follow(
        tuple(lambda name=name: marks.append(name) for name in ("trainer", "forward", "backward", "optimizer"))
    )
    for step in range(40):
        # the device comes by two steps later
        for event in events:
            event.come = event.step <= step - 2
        trainer(), forward(), optimizer(), backward(), optimizer()
        for event in events:
            event.step = getattr(event, "step", step)
    assert marks == ["trainer", "forward", "optimizer", "backward", "optimizer"] * 40
    assert sorted({event.step for event in events}) == [4, 14, 24, 34]
    assert clock.samples == 4
    assert clock.parts == pytest.approx({"forward": 0.002, "optimizer": 0.004, "backward": 0.002})
    assert not any(event.waited for event in events)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("logger", ["csv", "tensorboard"])
def test_no_step_waits_for_the_device(tmp_path: Path, logger: str) -> None:
    """With logging, a bar, gradient clipping and early stopping."""

    class Net(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx == 2:
                torch.cuda.set_sync_debug_mode("error")
            loss = self.layer(batch[0]).square().mean()
            self.log("loss", loss, prog_bar=True, on_epoch=True)
            self.log("number", 1.5, prog_bar=True)
            if batch_idx == 98:
                torch.cuda.set_sync_debug_mode("default")
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val", self.layer(batch[0]).mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    from fulmen.loggers import TensorBoardLogger

    data = torch.randn(200, 4, device="cuda")
    batches = [(data[i : i + 2],) for i in range(0, 200, 2)]
    chosen = CSVLogger(tmp_path) if logger == "csv" else TensorBoardLogger(tmp_path)
    trainer = L.Trainer(
        accelerator="gpu", devices=1, max_epochs=2, logger=chosen, log_every_n_steps=5, gradient_clip_val=1.0,
        callbacks=[EarlyStopping("val", patience=5)], default_root_dir=tmp_path, num_sanity_val_steps=0,
    )  # fmt: skip
    try:
        trainer.fit(Net(), torch.utils.data.DataLoader(batches, batch_size=None), batches[:2])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert set(trainer.timeline.device) == {"forward", "backward", "optimizer"}
    assert is_late(trainer.callback_metrics["loss_epoch"])
