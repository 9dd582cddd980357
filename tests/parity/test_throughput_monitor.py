"""Rows of ThroughputMonitor beside Lightning's, under a clock that both see alike."""

from __future__ import annotations

from typing import Any
from unittest import mock

import lightning.pytorch as lightning
import pytest
from lightning.pytorch.callbacks import ThroughputMonitor as Theirs
from lightning.pytorch.demos.boring_classes import BoringModel as TheirModel

import fulmen
from fulmen.callbacks import ThroughputMonitor
from fulmen.demos.boring_classes import BoringModel

CASES: dict[str, tuple[list[str], dict[str, Any], dict[str, Any]]] = {
    "evaluations": (
        ["validate", "validate", "test", "predict"],
        {"window_size": 3, "separator": "|"},
        {"limit_val_batches": 6, "limit_test_batches": 6, "limit_predict_batches": 6, "log_every_n_steps": 3},
    ),
    "validation within fit": (
        ["fit"],
        {"window_size": 2, "length_fn": lambda batch: 7},
        {"max_epochs": 2, "limit_train_batches": 4, "limit_val_batches": 2, "val_check_interval": 2,
         "log_every_n_steps": 1},
    ),
    "accumulation": (
        ["fit"],
        {"window_size": 3, "length_fn": lambda batch: 7},
        {"max_epochs": 2, "limit_train_batches": 5, "limit_val_batches": 3, "log_every_n_steps": 2,
         "accumulate_grad_batches": 2},
    ),
}  # fmt: skip


def rows(L: Any, monitor: Any, module: Any, case: str, folder: Any) -> Any:
    entry_points, monitor_options, options = CASES[case]
    logger = mock.Mock(save_dir=folder)
    module.flops_per_batch = 10
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=logger, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, callbacks=monitor(batch_size_fn=lambda batch: 3, **monitor_options), **options,
    )  # fmt: skip
    ticks = iter(range(10**6))
    with mock.patch("time.perf_counter", side_effect=lambda: float(next(ticks)) ** 1.5):
        for name in entry_points:
            getattr(trainer, name)(module)
    return logger.log_metrics.mock_calls


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore")
def test_rows_are_the_same(case: str, tmp_path: Any) -> None:
    theirs = rows(lightning, Theirs, TheirModel(), case, tmp_path)
    assert theirs
    assert rows(fulmen, ThroughputMonitor, BoringModel(), case, tmp_path) == theirs
