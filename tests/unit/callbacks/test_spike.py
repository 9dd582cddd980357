"""SpikeDetection by itself and in a run."""

import json

import pytest
import torch

import fulmen as L
from fulmen.callbacks.spike import SpikeDetection, TrainingSpikeException
from fulmen.demos.boring_classes import BoringModel


class Losses(BoringModel):
    def __init__(self, values):
        super().__init__()
        self.values = values

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)["loss"] * 0 + self.values[batch_idx]


def run(values, **options):
    callback = SpikeDetection(**options)
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=len(values), limit_val_batches=0, logger=False, callbacks=callback,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    try:
        trainer.fit(Losses(values))
    except TrainingSpikeException as spike:
        return callback, spike.batch_idx
    return callback, None


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "options", "batch"),
    [
        ([1, 1, 1, 50, 1], {}, 3),
        ([1, 1, 1, 0.01, 1], {}, None),
        ([1, 50, 50], {"warmup": 2}, None),
        ([1, NAN, 1], {}, 1),
        ([1, NAN, 1], {"finite_only": False}, None),
        ([1, 1.2, 2], {"atol": 0.5, "rtol": None}, 2),
        ([1, 1.2, 2], {"atol": 1.5, "rtol": None}, None),
        ([1, 1.2, 2, 0.5], {"mode": "max", "rtol": 0.1}, 3),
        ([1, 1, 1, 4, 4, 10, 10], {"window": 2, "rtol": 1.4}, 3),
        ([1, 2, 4, 8, 16], {"window": 1, "rtol": 1.5}, None),
    ],
)
def test_which_loss_is_a_spike(values, options, batch, tmp_path):
    callback, found = run(values, exclude_batches_path=tmp_path, **options)
    assert found == batch
    file = tmp_path / "skip_batches.json"
    assert (json.loads(file.read_text()) if file.exists() else None) == (None if batch is None else [batch - 1, batch])
    assert callback.bad_batches == ([] if batch is None else [batch - 1, batch])


def test_file_is_named_or_lies_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run([1, 50])
    assert (tmp_path / "skip_batches.json").exists()
    run([1, 50], exclude_batches_path=tmp_path / "new" / "bad.json")
    assert json.loads((tmp_path / "new" / "bad.json").read_text()) == [0, 1]


def test_state_goes_on(tmp_path):
    callback, _ = run([1, 2, 50], exclude_batches_path=tmp_path)
    state = callback.state_dict()
    assert list(state) == [
        "last_val", "mode", "warmup", "atol", "rtol", "bad_batches", "bad_batches_path", "running", "mean",
    ]  # fmt: skip
    again = SpikeDetection(mode="max")
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert torch.as_tensor(state["last_val"]) == 2


def test_mode_is_checked():
    with pytest.raises(ValueError, match='"min" or "max"'):
        SpikeDetection(mode="lowest")
