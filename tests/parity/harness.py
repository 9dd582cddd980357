"""The same small network under two packages, and everything about the run that a user could see."""

from __future__ import annotations

import csv
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def rows(n: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator)
    return TensorDataset(x, x.sum(1, keepdim=True).tanh())


def make_module(L: Any, **options: Any) -> Any:
    """A network with dropout and batch norm, so that modes, order of draws and gradients all leave their mark.

    Options: optimizer ("sgd", "adam", "lbfgs"), scheduler ("step", "epoch", "plateau"), manual (bool).
    """

    class Net(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 1)
            )
            self.automatic_optimization = not options.get("manual", False)

        def loss(self, batch: Any) -> Any:
            x, y = batch
            return nn.functional.mse_loss(self.layers(x), y)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            self.log("loss", loss, on_step=True, on_epoch=True)
            self.log("index", float(batch_idx), reduce_fx="max", on_step=False, on_epoch=True)
            if not self.automatic_optimization:
                optimizer = self.optimizers()
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
            return {"loss": loss, "extra": 1}

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", self.loss(batch))
            self.log("noise", torch.rand(()), on_step=True)

        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.log_dict({"a": self.loss(batch), "b": torch.tensor(batch_idx, dtype=torch.float32)})

        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layers(batch[0])

        def configure_optimizers(self) -> Any:
            kind = options.get("optimizer", "sgd")
            optimizer: Any = {
                "sgd": lambda: torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9),
                "adam": lambda: torch.optim.Adam(self.parameters(), lr=0.01),
                "lbfgs": lambda: torch.optim.LBFGS(self.parameters(), lr=0.01, max_iter=4),
            }[kind]()
            scheduler = options.get("scheduler")
            if scheduler is None:
                return optimizer
            made: Any = {
                "step": lambda: {
                    "scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
                    "interval": "step",
                },
                "epoch": lambda: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5),
                "plateau": lambda: {
                    "scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
                    "monitor": "val_loss",
                },
            }[scheduler]()
            return [optimizer], [made]

    return Net()


def listing(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def logged(folder: Path) -> list[dict[str, str]]:
    """The rows of the run's metrics.csv."""
    found = list(folder.rglob("metrics.csv"))
    if not found:
        return []
    with found[0].open() as file:
        return list(csv.DictReader(file))


def observe(
    L: Any, loggers: Any, callbacks: Any, folder: Path, module: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """Fits, tests and predicts in ``folder``, and tells everything that can be seen of it."""
    folder.mkdir(parents=True)
    before = os.getcwd()
    os.chdir(folder)
    try:
        random.seed(3), np.random.seed(3), torch.manual_seed(3)
        net = make_module(L, **module)
        with_files = options.pop("files", True)
        data_options = options.pop("data", {})
        trainer = L.Trainer(
            default_root_dir=folder,
            accelerator="cpu",
            devices=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=loggers.CSVLogger(folder) if with_files else False,
            enable_checkpointing=with_files,
            log_every_n_steps=options.pop("log_every_n_steps", 1),
            **options,
        )
        train = DataLoader(rows(22, 1), batch_size=4, shuffle=True, **data_options)
        val = DataLoader(rows(9, 2), batch_size=4)
        trainer.fit(net, train, val)
        seen: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "metrics": {k: v.item() for k, v in sorted(trainer.callback_metrics.items())},
            "after fit": torch.rand(2).tolist() + [random.random(), np.random.rand()],
        }
        seen["test"] = trainer.test(net, val, verbose=False)
        seen["predict"] = [p.tolist() for p in trainer.predict(net, val) or []]
        seen["weights"] = {k: v.tolist() for k, v in net.state_dict().items()}
        seen["rates"] = [g["lr"] for o in trainer.optimizers for g in o.param_groups]
        seen["rows"] = logged(folder)
        seen["files"] = listing(folder)
        return seen
    finally:
        os.chdir(before)
