"""`save_last="link"`: the name never leads nowhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import fulmen as L
from fulmen.callbacks import ModelCheckpoint
from fulmen.plugins.io import NativeCheckpointIO


class Tiny(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.ones(8, 2), batch_size=2)


class Watching(NativeCheckpointIO):
    """Looks at the folder after every change."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(**options)
        self.folder = folder
        self.removed = 0

    def remove_checkpoint(self, path: str | Path) -> None:
        super().remove_checkpoint(path)
        self.removed += 1
        for found in self.folder.iterdir():
            assert found.exists(), f"{found} leads to {os.readlink(found)}, which is gone"


@pytest.mark.parametrize("background_from", [None, 0])
@pytest.mark.parametrize("options", [{}, {"monitor": "step", "mode": "max", "save_top_k": 2}])
def test_whenever_a_file_goes_the_link_leads_to_one(
    tmp_path: Path, background_from: int | None, options: dict[str, Any]
) -> None:
    io = Watching(tmp_path, background_from=background_from)
    callback = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last="link", **options)
    trainer = L.Trainer(
        max_epochs=2, logger=False, callbacks=[callback], plugins=[io], accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Tiny())
    assert io.removed >= 6
    assert torch.load(tmp_path / "last.ckpt")["global_step"] == 8


def test_a_link_that_a_killed_run_left_behind_is_turned(tmp_path: Path) -> None:
    """The run was killed when the newest file was on the disk, and the link had not been changed yet."""
    options: dict[str, Any] = {
        "logger": False, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip

    def callback() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True, monitor="step", mode="max")

    L.Trainer(max_steps=2, callbacks=[callback()], **options).fit(Tiny())
    newest = tmp_path / "epoch=0-step=2.ckpt"
    older = tmp_path / "epoch=0-step=1.ckpt"
    older.write_bytes(newest.read_bytes())
    (tmp_path / "last.ckpt").unlink()
    (tmp_path / "last.ckpt").symlink_to(older.name)
    io = Watching(tmp_path)
    trainer = L.Trainer(max_steps=3, callbacks=[callback()], plugins=[io], **options)
    content = torch.load(newest, weights_only=True)
    state = next(iter(content["callbacks"].values()))
    state["replaced"] = [str(older)]
    torch.save(content, newest)
    trainer.fit(Tiny(), ckpt_path=newest)
    assert io.removed >= 1 and not older.exists()
