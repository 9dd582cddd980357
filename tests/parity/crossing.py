"""Runs that are saved under one package and continued under another, and everything that their last checkpoints hold.

Also a script, for runs of several processes: ``python crossing.py PACKAGE JSON`` does one `run`.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def rows(n: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator)
    return TensorDataset(x, x.sum(1, keepdim=True).tanh())


def make_module(L: Any, kind: str, dropout: float) -> Any:
    """A network of one of the kinds that leave their mark in a checkpoint.

    Kinds: "plain", "manual" (two optimizers), "compiled" (all of it), "compiled part", "DDP part" (one process).
    """
    manual = kind == "manual"

    class Net(L.LightningModule):
        def __init__(self, width: int = 8) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.automatic_optimization = not manual
            self.body = nn.Sequential(
                nn.Linear(6, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, 4)
            )
            self.head = nn.Linear(4, 1)

        def setup(self, stage: str) -> None:
            if kind == "DDP part" and not isinstance(self.body, nn.parallel.DistributedDataParallel):
                self.body = nn.parallel.DistributedDataParallel(self.body)
            if kind == "compiled part":
                self.body = torch.compile(self.body, backend="eager")

        def loss(self, batch: Any) -> Any:
            x, y = batch
            return nn.functional.mse_loss(self.head(self.body(x)), y)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            self.log("loss", loss, on_step=True, on_epoch=True)
            if manual:
                for optimizer in self.optimizers():
                    optimizer.zero_grad()
                self.manual_backward(loss)
                for optimizer in self.optimizers():
                    optimizer.step()
                if self.trainer.is_last_batch:
                    for scheduler in self.lr_schedulers():
                        scheduler.step()
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val", self.loss(batch), sync_dist=True)

        def configure_optimizers(self) -> Any:
            schedule = torch.optim.lr_scheduler
            if manual:
                both = [
                    torch.optim.SGD(self.body.parameters(), 0.05, momentum=0.9),
                    torch.optim.Adam(self.head.parameters(), 0.02),
                ]
                return both, [schedule.StepLR(both[0], 1, 0.9), schedule.StepLR(both[1], 2, 0.5)]
            optimizer = torch.optim.AdamW(self.parameters(), 0.02)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": schedule.OneCycleLR(optimizer, 0.05, 60), "interval": "step"},
            }

    return Net()


class Count:
    """State of a callback of the user's, the same under both packages."""

    def __init__(self) -> None:
        self.seen = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen += 1

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "half": torch.tensor(self.seen / 2)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert torch.equal(state["half"], torch.tensor(state["seen"] / 2))
        self.seen = state["seen"]


def run(
    package: str,
    folder: Path,
    epochs: int,
    ckpt_path: str | None = None,
    kind: str = "plain",
    dropout: float = 0.0,
    scaler: bool = False,
    shuffle: bool = False,
    epoch_triggers: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Fits up to an epoch, from a file or from nothing.

    Returns:
        The module, the trainer, and the path of a file that was saved at the end.
    """
    L = importlib.import_module(package)
    callbacks = importlib.import_module(f"{package}.{'pytorch.' if package == 'lightning' else ''}callbacks")
    random.seed(3), torch.manual_seed(3)
    folder.mkdir(parents=True, exist_ok=True)
    module = make_module(L, kind, dropout)
    if ckpt_path is not None:
        torch.manual_seed(17)
    counting = type("Count", (Count, callbacks.Callback), {})
    own = [
        callbacks.ModelCheckpoint(folder / "best", monitor="val", save_top_k=2, save_last=True),
        callbacks.ModelCheckpoint(folder / "steps", every_n_train_steps=4, save_top_k=-1),
        callbacks.EarlyStopping("val", patience=2, min_delta=0.001),
        counting(),
    ]
    if scaler:
        precision = importlib.import_module(
            f"{package}.{'pytorch.' if package == 'lightning' else ''}plugins.precision"
        )
        options["plugins"] = [
            precision.MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", growth_interval=3))
        ]
    trainer = L.Trainer(
        **{"accelerator": "cpu", "devices": 1, **options},
        default_root_dir=folder, max_epochs=epochs, logger=False, callbacks=own,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    fitted = torch.compile(module, backend="eager") if kind == "compiled" else module
    loader = DataLoader(rows(24, 1), batch_size=4, shuffle=shuffle)
    trainer.fit(fitted, loader, DataLoader(rows(8, 2), batch_size=4), ckpt_path=ckpt_path)
    final = folder / "final.ckpt"
    trainer.save_checkpoint(final)
    return {"module": module, "trainer": trainer, "final": str(final)}


#: keys that one package has and the other does not know, and that say where the run was
LEFT_OUT = re.compile(r"pytorch-lightning_version|fulmen|\.replaced$|stopping_reason_message")


def contents(path: str, folder: Path) -> dict[str, Any]:
    """Everything in a checkpoint by its path, bits of tensors as bytes, folders left out."""
    found: dict[str, Any] = {}

    def walk(value: Any, place: str) -> None:
        place = place.replace(str(folder), "")
        if LEFT_OUT.search(place):
            return
        if isinstance(value, torch.Tensor):
            found[place] = (str(value.dtype), list(value.shape), value.contiguous().view(-1).view(torch.uint8).tolist())
        elif isinstance(value, dict) and value:
            for key, part in value.items():
                walk(part, f"{place}.{key}")
        elif isinstance(value, list | tuple) and value:
            for index, part in enumerate(value):
                walk(part, f"{place}.{index}")
        else:
            found[place] = value.replace(str(folder), "") if isinstance(value, str) else value

    walk(torch.load(path, weights_only=True), "")
    return found


def differences(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """Lines about every place where two contents differ."""
    places = [*left, *(place for place in right if place not in left)]
    return [
        f"{place}: {str(left.get(place, 'nothing'))[:80]} / {str(right.get(place, 'nothing'))[:80]}"
        for place in places
        if place not in left or place not in right or not same(left[place], right[place])
    ]


def same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and (left == right or (left != left and right != right))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    arguments = json.loads(sys.argv[2])
    arguments["folder"] = Path(arguments["folder"])
    torch.set_num_threads(1)
    run(sys.argv[1], **arguments)
