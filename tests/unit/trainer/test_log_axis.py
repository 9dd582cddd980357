"""What rows of metrics are counted by."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import fulmen as L
from fulmen.callbacks import LearningRateMonitor, ModelCheckpoint
from fulmen.loggers import CSVLogger, TensorBoardLogger
from fulmen.trainer.log_axis import STATE_KEY
from fulmen.utilities.exceptions import MisconfigurationException

from .test_logging_runs import Rows


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch[0]).square().mean()
        self.log("t", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("v", self.layer(batch[0]).mean(), on_step=True, on_epoch=True)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(samples: int = 10) -> DataLoader[Any]:
    """Batches of 4, 4 and 2 for ten samples."""
    return DataLoader(TensorDataset(torch.randn(samples, 4)), batch_size=4)


def make(folder: Path, axis: str, logger: Any, **options: Any) -> L.Trainer:
    options = {"max_epochs": 2, "enable_checkpointing": False, **options}
    return L.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=logger, enable_progress_bar=False, log_axis=axis,
        enable_model_summary=False, log_every_n_steps=1, num_sanity_val_steps=1, **options,
    )  # fmt: skip


def at(logger: Rows, name: str) -> list[int | None]:
    return [step for row, step in logger.rows if name in row]


EXPECTED = {
    # axis → training steps, training epochs, validation steps (two a validation), validation epochs
    "global_step": ([0, 1, 2, 3, 4, 5], [2, 5], [0, 1, 2, 3], [2, 5]),
    "samples": ([4, 8, 10, 14, 18, 20], [10, 20], [10, 10, 20, 20], [10, 20]),
    "epoch": ([333, 667, 1000, 1333, 1667, 2000], [1000, 2000], [1000, 1000, 2000, 2000], [1000, 2000]),
}


@pytest.mark.parametrize("axis", list(EXPECTED))
def test_training_and_validation(tmp_path: Path, axis: str) -> None:
    rows = Rows()
    trainer = make(tmp_path, axis, rows, callbacks=[LearningRateMonitor(logging_interval="step")])
    trainer.fit(Net(), loader(), loader(8))
    assert (at(rows, "t_step"), at(rows, "t_epoch"), at(rows, "v_step"), at(rows, "v_epoch")) == EXPECTED[axis]
    assert at(rows, "lr-SGD") == EXPECTED[axis][0], "callbacks log on the same axis"
    if axis == "epoch":
        fractions = [row["epoch"] for row, _ in rows.rows if "t_step" in row]
        assert fractions == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    else:
        assert [row["epoch"] for row, _ in rows.rows if "t_step" in row] == [0, 0, 0, 1, 1, 1]
    if axis != "global_step":
        # a test after the training stands at its end
        rows.rows.clear()
        trainer.validate(trainer.lightning_module, loader(8), verbose=False)
        assert at(rows, "v_epoch") == [EXPECTED[axis][1][-1]]


def test_validation_within_an_epoch_stands_between_the_training_rows(tmp_path: Path) -> None:
    rows = Rows()
    make(tmp_path, "samples", rows, max_epochs=1, val_check_interval=1).fit(Net(), loader(), loader(4))
    assert at(rows, "v_epoch") == at(rows, "t_step") == [4, 8, 10]


@pytest.mark.parametrize("axis", ["samples", "epoch"])
def test_accumulation_counts_batches_and_not_steps(tmp_path: Path, axis: str) -> None:
    rows = Rows()
    make(tmp_path, axis, rows, accumulate_grad_batches=2).fit(Net(), loader())
    every = EXPECTED[axis][0]
    assert at(rows, "t_step") == [every[1], every[2], every[4], every[5]]


@pytest.mark.parametrize("axis", ["samples", "epoch"])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_resumed_run_goes_on_with_the_axis(tmp_path: Path, axis: str, every: int) -> None:
    whole, rest = Rows(), Rows()
    saver = ModelCheckpoint(tmp_path / "c", every_n_train_steps=every, save_top_k=-1, filename="{step}")
    trainer = make(tmp_path, axis, whole, callbacks=[saver], enable_checkpointing=True)
    trainer.fit(Net(), loader())
    file = tmp_path / "c" / f"step={every}.ckpt"
    resumed = make(tmp_path, axis, rest)
    resumed.fit(Net(), loader(), ckpt_path=file)
    assert at(rest, "t_step") == EXPECTED[axis][0][every:]


def test_only_the_axis_that_counts_is_in_the_file(tmp_path: Path) -> None:
    for axis in EXPECTED:
        trainer = make(tmp_path, axis, False, max_epochs=1)
        trainer.fit(Net(), loader())
        trainer.fit_loop.setup_data()
        state = trainer.fit_loop.state_dict()["state_dict"]
        assert state.get(STATE_KEY) == ({"samples": 10, "newest": 2} if axis == "samples" else None)


def test_a_file_of_another_axis_is_told_about(tmp_path: Path) -> None:
    trainer = make(tmp_path, "global_step", False, max_epochs=1)
    trainer.fit(Net(), loader())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    rows = Rows()
    with pytest.warns(UserWarning, match="Counting starts at 0"):
        make(tmp_path, "samples", rows).fit(Net(), loader(), ckpt_path=tmp_path / "x.ckpt")
    assert at(rows, "t_step") == [4, 8, 10]


def test_files_hold_whole_numbers(tmp_path: Path) -> None:
    board, table = TensorBoardLogger(tmp_path, "tb"), CSVLogger(tmp_path, "csv")
    make(tmp_path, "epoch", [board, table]).fit(Net(), loader(), loader(8))
    with open(Path(table.log_dir) / "metrics.csv") as file:
        lines = [line for line in csv.DictReader(file) if line["t_step"]]
    assert [line["step"] for line in lines] == ["333", "667", "1000", "1333", "1667", "2000"]
    assert float(lines[0]["epoch"]) == pytest.approx(1 / 3)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(board.log_dir)
    events.Reload()
    assert [event.step for event in events.Scalars("t_step")] == EXPECTED["epoch"][0]


def test_what_nobody_can_count_is_refused(tmp_path: Path) -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(torch.randn(8, 4))

    class Fetches(Net):
        def training_step(self, dataloader_iter: Any) -> torch.Tensor:
            batch, index, _ = next(dataloader_iter)
            return super().training_step([batch], index)

    endless = DataLoader(Endless(), batch_size=4)
    with pytest.raises(MisconfigurationException, match="limit_train_batches=N"):
        make(tmp_path, "epoch", False).fit(Net(), endless)
    with pytest.raises(MisconfigurationException, match="dataloader_iter"):
        make(tmp_path, "samples", False).fit(Fetches(), loader())
    shapeless = DataLoader(range(8), batch_size=4, collate_fn=lambda samples: object())
    with pytest.raises(MisconfigurationException, match=r'log_axis="samples"'):
        make(tmp_path, "samples", False).fit(Net(), shapeless)
    rows = Rows()

    class Bare(Net):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return super().training_step([batch], batch_idx)

    make(tmp_path, "samples", rows, max_epochs=1).fit(Bare(), endless)
    assert at(rows, "t_step") == [4, 8]
