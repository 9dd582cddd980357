"""Just enough of a trainer to drive a bar through a run, and a file that claims to be a terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def make_trainer(bar: Any, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "is_global_zero": True,
        "max_epochs": 3,
        "max_steps": -1,
        "global_step": 0,
        "current_epoch": 0,
        "num_training_batches": 10,
        "num_val_batches": [4, 6],
        "num_sanity_val_batches": [2, 1],
        "num_test_batches": [5],
        "num_predict_batches": [7],
        "sanity_checking": False,
        "training": True,
        "loggers": [],
        "progress_bar_metrics": {},
        "progress_bar_callback": bar,
        "state": SimpleNamespace(fn="fit"),
    }
    return SimpleNamespace(**{**values, **changes})


def run_epoch(bar: Any, trainer: Any, batches: int | None = None) -> None:
    """One training epoch: its hooks, in their order."""
    bar.on_train_epoch_start(trainer, None)
    for batch_idx in range(trainer.num_training_batches if batches is None else batches):
        bar.on_train_batch_end(trainer, None, None, None, batch_idx)
    bar.on_train_epoch_end(trainer, None)


def run_fit(bar: Any, trainer: Any, epochs: int = 1) -> None:
    """A whole fit without validation."""
    bar.setup(trainer, None, "fit")
    bar.on_train_start(trainer, None)
    for epoch in range(epochs):
        trainer.current_epoch = epoch
        run_epoch(bar, trainer)
    bar.on_train_end(trainer, None)
    bar.teardown(trainer, None, "fit")
