"""Files that Lightning 1.x wrote: read, continued, and left as they are.

``files`` holds what three versions saved after two epochs of the run that `Net` is: 3 batches an epoch, Adam and StepLR,
`ModelCheckpoint(dirpath="/var/tmp/run", monitor="val", save_top_k=-1)` and `EarlyStopping("val", patience=7)`.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fulmen as L
from fulmen.core.migration import VERSION_KEY, in_todays_form
from fulmen.plugins.io.loading import load
from tests.parity import crossing

pytestmark = pytest.mark.filterwarnings("ignore")

FILES = sorted(Path(__file__).with_name("files").glob("*.ckpt"))


def module(package: Any) -> Any:
    class Net(package.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.layer(batch[0]).square().mean()
            self.log("loss", loss)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val", self.layer(batch[0]).square().mean())

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    return Net()


def goes_on(package: str, path: Path, folder: Path) -> tuple[Any, dict[str, Any]]:
    """Two more epochs."""
    kit = importlib.import_module(package)
    callbacks = importlib.import_module("lightning.pytorch.callbacks" if package == "lightning" else "fulmen.callbacks")
    data = DataLoader(TensorDataset(torch.arange(48.0).reshape(12, 4) / 48), batch_size=4)
    trainer = kit.Trainer(
        max_epochs=4, logger=False, default_root_dir=folder, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            callbacks.ModelCheckpoint(dirpath=folder, monitor="val", save_top_k=-1), callbacks.EarlyStopping("val"),
        ],
    )  # fmt: skip
    options = {"weights_only": False} if package == "lightning" else {}
    trainer.fit(module(kit), data, data, ckpt_path=str(path), **options)
    trainer.save_checkpoint(folder / "final.ckpt")
    return trainer, crossing.contents(str(folder / "final.ckpt"), folder)


@pytest.mark.parametrize("path", FILES[1:], ids=lambda path: path.stem)
def test_goes_on_as_under_lightning(tmp_path: Path, path: Path) -> None:
    pytest.importorskip("lightning")
    before = hashlib.sha256(path.read_bytes()).digest()
    theirs, left = goes_on("lightning", path, tmp_path / "lightning")
    ours, right = goes_on("fulmen", path, tmp_path / "fulmen")
    assert crossing.differences(left, right) == []
    assert (ours.global_step, ours.current_epoch) == (theirs.global_step, theirs.current_epoch)
    assert ours.current_epoch == 4 and ours.global_step in (12, 13)
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_a_file_without_counters_goes_on_after_its_last_epoch(tmp_path: Path) -> None:
    """Lightning 2.6 begins at epoch 0 again. All three versions trained the same, so that the end is the same too."""
    assert FILES[0].stem == "lightning-1.4.9"
    trainer, old = goes_on("fulmen", FILES[0], tmp_path / "old")
    _, new = goes_on("fulmen", FILES[-1], tmp_path / "new")
    assert (trainer.current_epoch, trainer.global_step) == (4, 13)  # one more than steps were made: as the file says
    parts = (".state_dict", ".optimizer_states", ".lr_schedulers", ".callbacks.EarlyStopping")
    assert [d for d in crossing.differences(new, old) if d.startswith(parts) and "_initial_step" not in d] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_states_of_callbacks_are_found(tmp_path: Path, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        trainer, _ = goes_on("fulmen", path, tmp_path)
    stopping = trainer.early_stopping_callback
    assert stopping.patience == 7 and stopping.best_score < 0.001, "from the file; the constructor says 3"
    assert "Please add the following callbacks" not in caplog.text


def test_classes_as_keys_need_no_trust() -> None:
    """A name of Lightning's is never imported, and cannot be called."""
    content = load(Path(__file__).with_name("files") / "lightning-1.4.9.ckpt", weights_only=True)
    assert {str(key) for key in content["callbacks"]} == {"<class EarlyStopping>", "<class ModelCheckpoint>"}
    with pytest.raises(TypeError):
        next(iter(content["callbacks"]))()


def test_load_from_checkpoint(tmp_path: Path) -> None:
    for path in FILES:
        loaded = type(module(L)).load_from_checkpoint(path)
        assert torch.equal(loaded.layer.weight, load(path)["state_dict"]["layer.weight"])


def test_the_oldest_keys() -> None:
    old = {
        "epoch": 3, "global_step": 30, "state_dict": {"w": torch.ones(1)}, "hparams": {"lr": 0.1},
        "checkpoint_callback_best_model_score": torch.tensor(0.3), "checkpoint_callback_best_model_path": "a.ckpt",
        "early_stop_callback_wait": 2, "early_stop_callback_patience": 4, "optimizer_states": [], "lr_schedulers": [],
    }  # fmt: skip
    kept = dict(old)
    new = in_todays_form(old, "a.ckpt")
    assert old == kept and VERSION_KEY not in old
    assert new["hyper_parameters"] == {"lr": 0.1}
    states = {str(key): state for key, state in new["callbacks"].items()}
    assert states == {
        "<class ModelCheckpoint>": {"best_model_score": torch.tensor(0.3), "best_model_path": "a.ckpt"},
        "<class EarlyStopping>": {"wait_count": 2, "patience": 4},
    }
    assert new["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"] == 3


def test_what_is_of_today_stays_the_same_object() -> None:
    today = {VERSION_KEY: "2.0.0", "state_dict": {}, "callbacks": {}}
    assert in_todays_form(today, "a.ckpt") is today
    without = {"state_dict": {"w": torch.ones(1)}}
    assert in_todays_form(without, "a.ckpt") is without


def test_plain_weights_are_named_as_such(tmp_path: Path) -> None:
    torch.save(module(L).state_dict(), tmp_path / "plain.pt")
    with pytest.raises(KeyError, match=r"plain\.pt holds weights only"):
        type(module(L)).load_from_checkpoint(tmp_path / "plain.pt")
