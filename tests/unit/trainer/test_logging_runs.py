"""What `self.log` keeps from one run to the next: nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.aggregation import MaxMetric, MeanMetric

import fulmen as L
from fulmen.demos.boring_classes import BoringModel
from fulmen.loggers import Logger
from fulmen.utilities.exceptions import MisconfigurationException


class Rows(Logger):
    name, version = "rows", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[dict[str, float], int | None]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((dict(metrics), step))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


def make(folder: Path, logger: Any = False) -> L.Trainer:
    return L.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=logger, enable_checkpointing=False, max_epochs=1,
        enable_progress_bar=False, enable_model_summary=False, limit_train_batches=2, limit_val_batches=2,
        limit_test_batches=2, num_sanity_val_steps=0,
    )  # fmt: skip


def test_another_module_may_log_the_same_name_otherwise(tmp_path: Path) -> None:
    class Shows(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", 1.0, prog_bar=True)
            return super().training_step(batch, batch_idx)

    class Sums(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", 2.0, on_epoch=True, on_step=False, reduce_fx="sum")
            return super().training_step(batch, batch_idx)

    trainer = make(tmp_path)
    trainer.fit(Shows())
    trainer.fit_loop.max_epochs = 2
    trainer.fit(Sums())
    assert trainer.callback_metrics["x"] == 4


def test_rows_of_evaluation_steps_count_from_zero_in_each_run(tmp_path: Path) -> None:
    class Steps(BoringModel):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("v", float(batch_idx), on_step=True, on_epoch=False)

    logger = Rows()
    trainer = make(tmp_path, logger)
    net = Steps()
    trainer.fit(net)
    trainer.validate(net, verbose=False)
    trainer.validate(net, verbose=False)
    assert [step for row, step in logger.rows if "v" in row] == [0, 1] * 3


def test_no_metrics_in_a_prediction(tmp_path: Path) -> None:
    class Logs(BoringModel):
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", 1.0)

    with pytest.raises(MisconfigurationException, match="`predict` has no metrics"):
        make(tmp_path).predict(Logs())


def test_a_users_own_collection_is_logged_without_copies(tmp_path: Path) -> None:
    class Own(MetricCollection):
        asked: list[dict[str, bool]] = []

        def items(self, **how: bool) -> Any:
            if how:
                self.asked.append(how)
            return super().items(**how)

    class Net(BoringModel):
        def __init__(self) -> None:
            super().__init__()
            self.metrics = Own({"mean": MeanMetric(), "max": MaxMetric()})

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.metrics.update(torch.tensor(float(batch_idx)))
            Own.asked.clear()
            self.log_dict(self.metrics, on_step=False, on_epoch=True)
            assert {"keep_base": False, "copy_state": False} in Own.asked
            return super().training_step(batch, batch_idx)

    trainer = make(tmp_path)
    trainer.fit(Net())
    assert trainer.callback_metrics["mean"] == 0.5
    assert trainer.callback_metrics["max"] == 1


def test_one_process_shares_nothing(tmp_path: Path) -> None:
    class Shares(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("loss", float(batch_idx), on_step=True, on_epoch=True, sync_dist=True)
            self.log("step", 1.0, sync_dist=True)
            return super().training_step(batch, batch_idx)

    trainer = make(tmp_path)
    trainer.fit(Shares())
    ledger = trainer._ledger
    assert ledger._sync is None
    entries = {key[1]: entry for key, entry in ledger._training.items()}
    assert all(entry.synced is None for entry in entries.values())
    assert entries["loss"].weighted
    assert not entries["step"].weighted
    assert trainer.callback_metrics["loss_epoch"] == 0.5
