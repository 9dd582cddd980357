"""Runs over loaders with worker processes."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import fulmen as L

pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore:.*")]


class Noisy(Dataset[Any]):
    """Samples with noise from the global generator."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        return torch.rand(4) + index


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.seen: list[Any] = []
        self.pids: set[Any] = set()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen.append(batch.clone())
        self.pids |= {worker.pid for worker in multiprocessing.active_children()}
        return self.layer(batch).mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.pids |= {worker.pid for worker in multiprocessing.active_children()}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(folder: Path, workers: int = 2, net: Net | None = None, ckpt_path: Any = None, **more: Any) -> Net:
    net = net or Net()
    settings: dict[str, Any] = {
        "default_root_dir": folder, "max_epochs": 3, "logger": False, "accelerator": "cpu",
        "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
    }  # fmt: skip
    trainer = L.Trainer(**{**settings, **more})
    trainer.fit(
        net,
        DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=workers),
        DataLoader(Noisy(), batch_size=12, num_workers=workers),
        ckpt_path=ckpt_path,
    )
    return net


def test_processes_live_for_the_whole_run_and_no_longer(tmp_path: Path) -> None:
    net = fit(tmp_path)
    assert len(net.seen) == 18
    assert len(net.pids) == 4
    assert not multiprocessing.active_children()


def test_an_exception_ends_them(tmp_path: Path) -> None:
    class Failing(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 2:
                raise KeyError("in the step")
            return super().training_step(batch, batch_idx)

    with pytest.raises(KeyError):
        fit(tmp_path, net=Failing())
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_resumed_run_sees_the_same_noise(tmp_path: Path, workers: int) -> None:
    """From the middle of an epoch, with another number of workers."""
    L.seed_everything(5, verbose=False)
    whole = fit(tmp_path)

    class Saving(Net):
        def on_train_batch_end(self, *_: Any) -> None:
            if self.trainer.global_step == 8:
                self.trainer.save_checkpoint(tmp_path / "middle.ckpt")
                raise KeyboardInterrupt

    L.seed_everything(5, verbose=False)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, net=Saving())
    L.seed_everything(77, verbose=False)
    rest = fit(tmp_path, workers, ckpt_path=tmp_path / "middle.ckpt")
    assert len(rest.seen) == 10
    for ours, expected in zip(rest.seen, whole.seen[8:], strict=True):
        assert torch.equal(ours, expected)
    assert torch.equal(rest.layer.weight, whole.layer.weight)
