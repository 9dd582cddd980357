"""Callbacks that change weights, parameter groups or files, beside Lightning's: everything that can be seen, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import lightning.pytorch.callbacks as their_callbacks
import lightning.pytorch.loggers as their_loggers
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import fulmen
import fulmen.callbacks as our_callbacks
import fulmen.loggers as our_loggers
from fulmen.trainer.checkpoint import PLACE_KEY
from tests.parity.harness import logged, rows

PACKAGES = {
    "lightning": (lightning, their_callbacks, their_loggers),
    "fulmen": (fulmen, our_callbacks, our_loggers),
}


def network(L: Any, norm: bool, scheduler: bool, frozen: bool = False) -> Any:
    class Net(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = [nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.2)]
            if norm:
                layers.insert(1, nn.BatchNorm1d(12))
            self.backbone = nn.Sequential(*layers)
            self.head = nn.Linear(12, 1)

        def loss(self, batch: Any) -> Any:
            return nn.functional.mse_loss(self.head(self.backbone(batch[0])), batch[1])

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            self.log("loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", self.loss(batch))

        def configure_optimizers(self) -> Any:
            trained = [p for p in self.parameters() if p.requires_grad or not frozen]
            optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9)
            return ([optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]) if scheduler else optimizer

    return Net()


def plain(value: Any) -> Any:
    """Tensors as lists, tuples and dicts of any kind as lists and dicts."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def run(name: str, make: Callable[[Any, Any], Any], folder: Path, *, resume: bool, **options: Any) -> dict[str, Any]:
    """One fit, or two of which the second goes on from the first one's last file."""
    L, callbacks, loggers = PACKAGES[name]
    kinds = {k: options.pop(k, False) for k in ("norm", "scheduler", "frozen")}
    epochs = options.pop("max_epochs", 5)
    seen: dict[str, Any] = {"groups": []}

    class Watch(L.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            # Lightning does not restore the generators on a resume
            torch.manual_seed(trainer.current_epoch)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            groups = trainer.optimizers[0].param_groups
            seen["groups"].append([(g["lr"], len(g["params"])) for g in groups])
            seen["groups"].append(plain(pl_module.state_dict()))

    last: Path | None = None
    for number, limit in enumerate((3, epochs) if resume else (epochs,)):
        torch.manual_seed(3 + number)
        net = network(L, **kinds)
        keeper = callbacks.ModelCheckpoint(folder / name / f"files{number}", save_last=True)
        trainer = L.Trainer(
            default_root_dir=folder / name / str(number),
            accelerator="cpu",
            devices=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=loggers.CSVLogger(folder / name / str(number)),
            log_every_n_steps=1,
            max_epochs=limit,
            callbacks=[made := make(callbacks, net), Watch(), keeper],
            **options,
        )
        train = DataLoader(rows(22, 1), batch_size=4, shuffle=True)
        trainer.fit(net, train, DataLoader(rows(9, 2), batch_size=4), ckpt_path=last)
        last = folder / name / f"files{number}" / "last.ckpt"
        file = torch.load(last, weights_only=False)
        # the second fit shall draw from the seed above, as Lightning's does, and not go on where the first one stood
        file.pop(PLACE_KEY, None)
        torch.save(file, last)
        seen[f"run {number}"] = {
            "epoch": (trainer.current_epoch, trainer.global_step, trainer.max_epochs, trainer.accumulate_grad_batches),
            "weights": plain(net.state_dict()),
            "momenta": [m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm1d)],
            "validate": trainer.validate(net, DataLoader(rows(9, 2), batch_size=4), verbose=False),
            "rows": logged(folder / name / str(number)),
            "keys": sorted(file),
            "file weights": plain(file["state_dict"]),
            "callback": plain(file["callbacks"].get(made.state_key)),
            "more": [plain(file.get(k)) for k in ("current_model_state", "averaging_state")],
            "optimizer": plain(file["optimizer_states"]),
            "schedulers": plain(file["lr_schedulers"]),
            "loops": {k: v for k, v in file["loops"]["fit_loop"].items() if "progress" in k and "scheduler" not in k},
        }
    return seen


def swa(**options: Any) -> Callable[[Any, Any], Any]:
    return lambda callbacks, net: callbacks.StochasticWeightAveraging(swa_lrs=0.02, **options)


def pruning(function: str = "l1_unstructured", pairs: bool = False, **options: Any) -> Callable[[Any, Any], Any]:
    def make(callbacks: Any, net: Any) -> Any:
        chosen = [(net.backbone[0], "weight"), (net.head, "weight")] if pairs else ()
        return callbacks.ModelPruning(function, parameters_to_prune=chosen, **options)

    return make


def finetuning(callbacks: Any, net: Any) -> Any:
    return callbacks.BackboneFinetuning(unfreeze_backbone_at_epoch=1, lambda_func=lambda epoch: 1.5)


CASES: dict[str, tuple[Callable[[Any, Any], Any], dict[str, Any]]] = {
    "swa": (swa(swa_epoch_start=2, annealing_epochs=2), {}),
    "swa with scheduler": (swa(swa_epoch_start=0.5, annealing_strategy="linear"), {"scheduler": True}),
    "swa with batch norm": (swa(swa_epoch_start=2, annealing_epochs=2), {"norm": True, "scheduler": True}),
    "swa with accumulation": (swa(swa_epoch_start=3), {"norm": True, "accumulate_grad_batches": 2}),
    "swa own average": (
        swa(swa_epoch_start=2, avg_fn=lambda mean, new, n: 0.5 * mean + 0.5 * new, device=None),
        {"scheduler": True},
    ),
    "average": (lambda callbacks, net: callbacks.WeightAveraging(), {"norm": True}),
    "average without buffers": (lambda callbacks, net: callbacks.WeightAveraging(use_buffers=False), {"norm": True}),
    "ema": (lambda callbacks, net: callbacks.EMAWeightAveraging(decay=0.8), {"norm": True, "scheduler": True}),
    "ema from an epoch": (
        lambda callbacks, net: callbacks.EMAWeightAveraging(
            decay=0.5, update_every_n_steps=3, update_starting_at_step=7, update_starting_at_epoch=2
        ),
        {"accumulate_grad_batches": 2},
    ),
    "finetuning": (finetuning, {"norm": True, "frozen": True}),
    "finetuning with scheduler": (finetuning, {"scheduler": True, "frozen": True}),
    "pruning": (pruning(amount=0.3), {"norm": True}),
    "pruning without reset": (pruning(amount=0.3, use_lottery_ticket_hypothesis=False), {"norm": True}),
    "pruning local": (pruning("random_unstructured", True, amount=2, use_global_unstructured=False), {}),
    "pruning structured": (
        pruning(
            "ln_structured",
            True,
            amount=0.25,
            use_global_unstructured=False,
            pruning_dim=0,
            pruning_norm=1,
            use_lottery_ticket_hypothesis=lambda epoch: epoch == 2,
            resample_parameters=True,
        ),
        {},
    ),  # fmt: skip
    "pruning kept apart": (
        pruning(
            amount=lambda epoch: 0.1 * epoch,
            apply_pruning=lambda epoch: epoch != 3,
            make_pruning_permanent=False,
            parameter_names=["weight"],
            prune_on_train_epoch_end=False,
        ),
        {},
    ),  # fmt: skip
}


@pytest.mark.parametrize("case", CASES)
def test_fit_is_the_same(case: str, tmp_path: Path) -> None:
    make, options = CASES[case]
    theirs = run("lightning", make, tmp_path, resume=False, **options)
    assert run("fulmen", make, tmp_path, resume=False, **options) == theirs


@pytest.mark.parametrize("case", ["swa", "swa with scheduler", "swa with batch norm", "average", "ema", "finetuning"])
def test_resumed_fit_is_the_same(case: str, tmp_path: Path) -> None:
    make, options = CASES[case]
    theirs = run("lightning", make, tmp_path, resume=True, **options)
    assert run("fulmen", make, tmp_path, resume=True, **options) == theirs
