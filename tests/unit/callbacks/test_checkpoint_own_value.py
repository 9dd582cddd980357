"""A file by steps is filed under the monitored value of its own step, or under none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import fulmen as L
from fulmen.callbacks import ModelCheckpoint
from fulmen.utilities.exceptions import MisconfigurationException

pytestmark = pytest.mark.filterwarnings("ignore")


class Scored(L.LightningModule):
    """Three batches an epoch; the validations' scores are given."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.scores = iter(scores)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.log("number", float(self.trainer.global_step + 1))
        self.log("both", float(self.trainer.global_step + 1), on_step=True, on_epoch=True)
        return self.layer(batch).square().mean()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None: ...

    def on_validation_epoch_end(self) -> None:
        self.log("score", float("nan") if self.trainer.sanity_checking else next(self.scores))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.ones(6, 2), batch_size=2)

    def val_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.ones(2, 2), batch_size=2)


def saved(
    folder: Path, scores: list[float], monitor: str = "score", trainer: dict[str, Any] | None = None, **options: Any
) -> ModelCheckpoint:
    callback = ModelCheckpoint(
        folder, filename="{step}-{" + monitor + ":.1f}", auto_insert_metric_name=False, monitor=monitor,
        **{"every_n_train_steps": 1, "save_top_k": -1, **options},
    )  # fmt: skip
    L.Trainer(
        **{"max_epochs": 3, **(trainer or {})}, logger=False, callbacks=[callback], accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    ).fit(Scored(scores))  # fmt: skip
    return callback


def names(folder: Path) -> list[str]:
    return sorted((path.stem for path in folder.glob("*.ckpt")), key=lambda name: int(name.split("-")[0]))


def test_every_file_has_the_value_of_its_step_or_none(tmp_path: Path) -> None:
    callback = saved(tmp_path, [4, 2, 3])
    assert names(tmp_path) == ["1-nan", "2-nan", "3-4.0", "4-nan", "5-nan", "6-2.0", "7-nan", "8-nan", "9-3.0"]
    assert callback.best_model_score == 2 and Path(callback.best_model_path).stem == "6-2.0"


def test_validations_within_the_epoch(tmp_path: Path) -> None:
    saved(tmp_path, [5, 4, 3], trainer={"max_epochs": 1, "val_check_interval": 1})
    assert names(tmp_path) == ["1-5.0", "2-4.0", "3-3.0"]


def test_epochs_without_a_validation(tmp_path: Path) -> None:
    saved(tmp_path, [5], trainer={"max_epochs": 3, "check_val_every_n_epoch": 2}, every_n_train_steps=3)
    assert names(tmp_path) == ["3-nan", "6-5.0", "9-nan"]


def test_the_newest_of_those_without_a_value_stays_until_there_is_one(tmp_path: Path) -> None:
    saved(tmp_path, [], save_top_k=1, trainer={"max_steps": 2})
    assert names(tmp_path) == ["2-nan"]
    saved(tmp_path / "b", [4, 2, 3], save_top_k=1)
    assert names(tmp_path / "b") == ["6-2.0"]
    saved(tmp_path / "c", [4, 2, 3], save_top_k=2)
    assert names(tmp_path / "c") == ["6-2.0", "9-3.0"]


@pytest.mark.parametrize("monitor", ["number", "both", "both_step"])
def test_values_of_the_training_step_are_those_of_the_step(tmp_path: Path, monitor: str) -> None:
    saved(tmp_path, [4], monitor=monitor, trainer={"max_epochs": 1})
    assert names(tmp_path) == ["1-1.0", "2-2.0", "3-3.0"]


def test_means_of_the_epoch_are_of_no_step(tmp_path: Path) -> None:
    saved(tmp_path, [4, 5], monitor="both_epoch", trainer={"max_epochs": 2})
    assert names(tmp_path) == [f"{step}-nan" for step in range(1, 7)]


def test_a_name_that_nobody_logs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="could not find the monitored key"):
        saved(tmp_path, [4], monitor="scores", trainer={"max_epochs": 1})


def test_last_is_the_newest_all_the_same(tmp_path: Path) -> None:
    saved(tmp_path, [4, 2], save_top_k=1, save_last=True, trainer={"max_epochs": 2, "max_steps": 5})
    assert torch.load(tmp_path / "last.ckpt")["global_step"] == 5
