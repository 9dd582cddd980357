"""A fit that is taken up from any of its checkpoints ends as if it had never stopped."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import fulmen as L
from fulmen.callbacks import ModelCheckpoint
from fulmen.trainer.checkpoint import PLACE_KEY, read_place
from fulmen.utilities.combined_loader import CombinedLoader

ROWS, WIDE = 10, 20_000


class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.drop, self.seen = nn.Linear(3, 1), nn.Dropout(0.5), []

    def training_step(self, batch, batch_idx):
        x = list(batch.values()) if isinstance(batch, dict) else batch if isinstance(batch[0], list) else [batch]
        x = [part[0] if isinstance(part, (list, tuple)) else part for part in x]
        # every generator takes part in the training
        noise = random.random() + np.random.rand() + torch.rand(()).item()
        self.seen.append(([None if part is None else part[:, :3].tolist() for part in x], batch_idx, noise))
        return sum(self.layer(self.drop(part[:, :3])).sum() for part in x if part is not None) * noise

    def validation_step(self, batch, batch_idx):
        torch.rand(batch_idx + 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def data(width: int = 3, rows: int = ROWS) -> TensorDataset:
    return TensorDataset(torch.randn(rows, width, generator=torch.Generator().manual_seed(0)))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(data()[:][0])


LOADERS: dict[str, Any] = {
    "shuffled": lambda: DataLoader(data(), batch_size=3, shuffle=True),
    "wide": lambda: DataLoader(data(WIDE), batch_size=3, shuffle=True),
    "own generator": lambda: DataLoader(data(), 3, shuffle=True, generator=torch.Generator().manual_seed(4)),
    "workers": lambda: DataLoader(data(), batch_size=3, shuffle=True, num_workers=1),
    "stream": lambda: DataLoader(Stream(), batch_size=3),
    "cycle": lambda: {"a": DataLoader(data(), 3, shuffle=True), "b": DataLoader(data(rows=4), 2, shuffle=True)},
    "max size": lambda: CombinedLoader(
        {"a": DataLoader(data(), 3, shuffle=True), "b": DataLoader(data(rows=4), 2, shuffle=True)}, "max_size"
    ),
    "min size": lambda: CombinedLoader([DataLoader(data(), 3, shuffle=True), DataLoader(data(WIDE), 3)], "min_size"),
}


def run(folder, loaders, seed, ckpt_path=None, val=None, **options):
    torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
    net = Net()
    saving = ModelCheckpoint(dirpath=folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[saving], **options,
    )  # fmt: skip
    trainer.fit(net, loaders(), val, ckpt_path=ckpt_path)
    return net, trainer


@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("name", LOADERS)
def test_taken_up_anywhere(name, limit, tmp_path):
    whole, trainer = run(tmp_path / "whole", LOADERS[name], 1, limit_train_batches=limit)
    steps = trainer.global_step
    for step in range(1, steps) if name in ("shuffled", "wide", "cycle") else (1, steps // 2, steps - 1):
        path = tmp_path / "whole" / f"step={step}.ckpt"
        net, _ = run(tmp_path / f"from{step}", LOADERS[name], 50 + step, path, limit_train_batches=limit)
        assert net.seen == whole.seen[step:], step
        assert torch.equal(net.layer.weight, whole.layer.weight)


def test_taken_up_between_validations(tmp_path):
    """A validation draws from the global generators. One that the file's moment came before is run after the resume."""
    options = {"val": DataLoader(data(), 5), "val_check_interval": 2, "num_sanity_val_steps": 1}
    whole, _ = run(tmp_path / "whole", LOADERS["shuffled"], 1, **options)
    for step in range(1, 12):
        path = tmp_path / "whole" / f"step={step}.ckpt"
        net, _ = run(tmp_path / f"from{step}", LOADERS["shuffled"], 50 + step, path, **options)
        assert net.seen == whole.seen[step:], step
        assert torch.equal(net.layer.weight, whole.layer.weight)


def test_what_a_batch_that_failed_has_taken_is_given_again(tmp_path):
    class Failing(Net):
        fails = True

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            if self.fails and self.trainer.global_step == 6:
                raise RuntimeError("enough")
            return loss

    saved = {}

    class Save(L.Callback):
        def on_exception(self, trainer, module, exception):
            trainer.save_checkpoint(tmp_path / "failed.ckpt")
            saved["seen"] = list(module.seen)

    def trainer(callbacks):
        return L.Trainer(
            accelerator="cpu", max_epochs=3, logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=callbacks, default_root_dir=tmp_path,
        )  # fmt: skip

    torch.manual_seed(1)
    with pytest.raises(RuntimeError, match="enough"):
        trainer([Save()]).fit(Failing(), LOADERS["shuffled"]())
    torch.manual_seed(2)
    net = Failing()
    net.fails = False
    trainer([]).fit(net, LOADERS["shuffled"](), ckpt_path=tmp_path / "failed.ckpt")
    # the failed batch again, and then those that the epoch still owed
    assert net.seen[0][0] == saved["seen"][-1][0]
    epoch = [row for rows, _, _ in saved["seen"][4:-1] + net.seen[:2] for row in rows[0]]
    assert sorted(map(tuple, epoch)) == sorted(map(tuple, data()[:][0].tolist()))


def test_other_loaders_are_refused(tmp_path):
    run(tmp_path, LOADERS["cycle"], 1)
    with pytest.raises(RuntimeError, match="places in 2 training loaders, the run has 1"):
        run(tmp_path / "b", LOADERS["shuffled"], 1, tmp_path / "step=2.ckpt")
    with pytest.raises(RuntimeError, match="0 random generators, this one has 1"):
        run(tmp_path / "c", LOADERS["shuffled"], 1)
        run(tmp_path / "d", LOADERS["own generator"], 1, tmp_path / "c" / "step=2.ckpt")


def test_lightning_reads_our_file_and_we_read_its(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    run(tmp_path, LOADERS["shuffled"], 1)
    state = torch.load(tmp_path / "step=2.ckpt", weights_only=True)
    assert PLACE_KEY not in state and read_place(tmp_path / "step=2.ckpt")["sources"]

    class Net2(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.steps = nn.Linear(3, 1), 0

        def training_step(self, batch, batch_idx):
            self.steps += 1
            return self.layer(batch[0]).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)

    options = {"accelerator": "cpu", "max_epochs": 3, "logger": False, "enable_progress_bar": False}
    net = Net2()
    lightning.Trainer(**options, enable_checkpointing=False).fit(
        net, LOADERS["shuffled"](), ckpt_path=tmp_path / "step=2.ckpt"
    )
    assert net.steps == 10
    saving = (
        lightning.pytorch.callbacks.ModelCheckpoint
        if hasattr(lightning, "pytorch")
        else lightning.callbacks.ModelCheckpoint
    )
    theirs = saving(dirpath=tmp_path / "theirs", every_n_train_steps=1, save_top_k=-1, filename="{step}")
    lightning.Trainer(**options, callbacks=[theirs]).fit(Net2(), LOADERS["shuffled"]())
    net, trainer = run(tmp_path / "ours", LOADERS["shuffled"], 1, tmp_path / "theirs" / "step=2.ckpt")
    assert len(net.seen) == 10 and trainer.global_step == 12
