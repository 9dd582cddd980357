"""Evaluation and prediction steps that take ``dataloader_iter``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fulmen as L
from fulmen.demos.boring_classes import BoringModel


class Fetches(BoringModel):
    def __init__(self) -> None:
        super().__init__()
        self.tape: list[Any] = []

    def _step(self, iterator: Any) -> Any:
        batch, index, loader = next(iterator)
        self.tape.append(("step", batch, index, loader))
        return batch

    def validation_step(self, dataloader_iter: Any) -> Any:
        batch = self._step(dataloader_iter)
        self.log("sum", float(batch), reduce_fx="sum")
        return batch

    def test_step(self, dataloader_iter: Any) -> Any:
        return self._step(dataloader_iter)

    def predict_step(self, dataloader_iter: Any) -> Any:
        return self._step(dataloader_iter)

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.tape.append(("start", batch, batch_idx, dataloader_idx))

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.tape.append(("end", batch, batch_idx, dataloader_idx))


@pytest.fixture
def trainer(tmp_path: Path) -> L.Trainer:
    return L.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, max_epochs=1, limit_train_batches=1,
    )  # fmt: skip


def test_hooks_see_the_batch_fetched_before_and_the_one_fetched_now(trainer: L.Trainer) -> None:
    net = Fetches()
    assert trainer.validate(net, [10, 11], verbose=False) == [{"sum": 21.0}]
    assert net.tape == [
        ("start", None, 0, 0), ("step", 10, 0, 0), ("end", 10, 0, 0),
        ("start", 10, 0, 0), ("step", 11, 1, 0), ("end", 11, 1, 0),
    ]  # fmt: skip
    assert trainer.validate_loop.batch_progress.current.completed == 2


def test_several_loaders_come_one_after_the_other(trainer: L.Trainer) -> None:
    net = Fetches()
    assert trainer.validate(net, [[1, 2], [3, 4]], verbose=False) == [
        {"sum/dataloader_idx_0": 3.0},
        {"sum/dataloader_idx_1": 7.0},
    ]
    assert trainer.predict(net, {"a": [1, 2], "b": [3]}) == [[1, 2], [3]]


@pytest.mark.parametrize("entry", ["test", "predict"])
def test_data_without_length_ends_by_itself(trainer: L.Trainer, entry: str) -> None:
    def numbers() -> Iterator[int]:
        yield from range(5)

    net = Fetches()
    getattr(trainer, entry)(net, numbers())
    assert [t[1] for t in net.tape] == [0, 1, 2, 3, 4]


def test_a_step_may_take_several_batches(trainer: L.Trainer) -> None:
    class Pairs(Fetches):
        def predict_step(self, dataloader_iter: Any) -> Any:
            return self._step(dataloader_iter) + self._step(dataloader_iter)

    assert trainer.predict(Pairs(), [1, 2, 3, 4]) == [3, 7]


def test_within_fit(trainer: L.Trainer) -> None:
    net = Fetches()
    trainer.fit(net, val_dataloaders=[5, 6, 7])
    assert trainer.callback_metrics["sum"] == 18.0
