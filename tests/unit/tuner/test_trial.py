"""A trial leaves nothing behind, wherever in a run it is made and however it ends."""

import csv
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fulmen as L
from fulmen.callbacks import LearningRateFinder, ModelCheckpoint
from fulmen.loggers import CSVLogger
from fulmen.tuner import Tuner
from fulmen.utilities.exceptions import MisconfigurationException, SIGTERMException


class Net(L.LightningModule):
    """Whatever can be changed by a step: weights, momentum, a schedule, buffers in and outside of checkpoints, draws."""

    def __init__(self) -> None:
        super().__init__()
        self.lr = 0.01
        self.batch_size = 8
        self.layers = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Dropout(0.2), nn.Linear(12, 1))
        self.register_buffer("steps", torch.zeros(()), persistent=False)
        self.own = 0
        self.generator = torch.Generator().manual_seed(3)
        x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
        self.data = TensorDataset(x, x.sum(1, keepdim=True).tanh())

    def training_step(self, batch, batch_idx):
        self.steps += 1
        self.own += 1
        loss = nn.functional.mse_loss(self.layers(batch[0]), batch[1])
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("steps", self.steps)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val", nn.functional.mse_loss(self.layers(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    def on_save_checkpoint(self, checkpoint):
        checkpoint["own"] = self.own

    def on_load_checkpoint(self, checkpoint):
        self.own = checkpoint["own"]

    def train_dataloader(self):
        return DataLoader(self.data, self.batch_size, shuffle=True, generator=self.generator)

    def val_dataloader(self):
        return DataLoader(self.data, self.batch_size)


class FindsAgain(LearningRateFinder):
    """Sweeps within the run too."""

    def __init__(self, epochs, **options):
        super().__init__(**options)
        self.epochs = epochs

    def on_fit_start(self, trainer, pl_module):
        if -1 in self.epochs:
            self.lr_find(trainer, pl_module)

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch in self.epochs:
            self.lr_find(trainer, pl_module)


def make(folder: Path, *callbacks, **options) -> tuple[L.Trainer, Net]:
    L.seed_everything(5)
    trainer = L.Trainer(
        default_root_dir=folder,
        logger=CSVLogger(folder),
        callbacks=[ModelCheckpoint(save_top_k=-1), *callbacks],
        max_epochs=3,
        accelerator="cpu",
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    return trainer, Net()


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def rows(folder: Path) -> list[dict[str, str]]:
    with open(next(folder.rglob("metrics.csv"))) as file:
        return list(csv.DictReader(file))


def state(trainer: L.Trainer, module: Net) -> dict:
    return {
        "weights": [t.clone() for t in (*module.parameters(), *module.buffers())],
        "own": module.own,
        "modes": [m.training for m in module.modules()],
        "draws": torch.get_rng_state(),
        "generator": module.generator.get_state(),
        "optimizers": [o.state_dict() for o in trainer.optimizers],
        "loops": trainer.fit_loop.state_dict(),
        "limits": (trainer.max_steps, trainer.limit_train_batches, trainer.limit_val_batches, trainer.should_stop),
        "parts": (list(trainer.callbacks), list(trainer.loggers)),
        "metrics": dict(trainer.callback_metrics),
    }


def assert_same(a, b) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("epochs", [(-1,), (0,), (2,), (-1, 0, 1, 2)])
def test_a_run_with_sweeps_is_the_run_without(tmp_path, epochs):
    plain, expected = make(tmp_path / "plain")
    plain.fit(expected)
    finder = FindsAgain(epochs, num_training_steps=7, max_lr=0.5, update_attr=False)
    trainer, module = make(tmp_path / "found", finder)
    trainer.fit(module)
    # `max_epochs` bounds the sweep of the last epoch
    assert len(finder.optimal_lr.results["lr"]) == (5 if 2 in epochs else 7)
    assert_same(module.state_dict(), expected.state_dict())
    assert module.steps == expected.steps
    assert module.own == expected.own
    assert_same([o.state_dict() for o in trainer.optimizers], [o.state_dict() for o in plain.optimizers])
    assert rows(tmp_path / "found") == rows(tmp_path / "plain")
    assert files(tmp_path / "found") == files(tmp_path / "plain")


@pytest.mark.parametrize("search", ["lr_find", "scale_batch_size"])
def test_the_tuner_leaves_everything_as_it_was(tmp_path, search):
    trainer, module = make(tmp_path)
    trainer.strategy.connect(module)
    before = state(trainer, module)
    # optimizers belong to a run: they are compared in the test above
    options = {"update_attr": False, "num_training": 7} if search == "lr_find" else {"max_trials": 3}
    assert getattr(Tuner(trainer), search)(module, **options) is not None
    after = state(trainer, module)
    assert_same({**after, "optimizers": []}, {**before, "optimizers": []})
    assert files(tmp_path) == []
    assert module.trainer is trainer
    assert trainer.state.finished


@pytest.mark.parametrize("search", ["lr_find", "scale_batch_size"])
@pytest.mark.parametrize("place", ["training_step", "validation_step", "train_dataloader", "on_train_epoch_start"])
def test_so_does_one_that_fails(tmp_path, monkeypatch, search, place):
    trainer, module = make(tmp_path)
    trainer.strategy.connect(module)
    before = state(trainer, module)
    calls = []

    def fail(*args, **kwargs):
        calls.append(place)
        if len(calls) == 2 or place == "validation_step":
            raise ValueError("broken here")
        return getattr(Net, place)(module, *args, **kwargs)

    monkeypatch.setattr(module, place, fail)
    options = {"num_training": 12} if search == "lr_find" else {"steps_per_trial": 7}
    with pytest.raises(ValueError, match="broken here"):
        getattr(Tuner(trainer), search)(module, **options)
    monkeypatch.undo()
    if place == "training_step":
        assert module.own == 0
    after = state(trainer, module)
    assert_same({**after, "optimizers": []}, {**before, "optimizers": []})
    assert module.batch_size == 8
    assert files(tmp_path) == []
    assert trainer._rehearsal is None
    assert not trainer._in_trial
    trainer.fit(module)
    assert trainer.global_step == 15


def test_a_signal_ends_the_trial_without_a_checkpoint_of_its_weights(tmp_path):
    trainer, module = make(tmp_path, FindsAgain((-1,), num_training_steps=7))
    weights = [p.clone() for p in module.parameters()]
    module.on_after_backward = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SIGTERMException):
        trainer.fit(module)
    assert_same(list(module.parameters()), weights)
    assert not [name for name in files(tmp_path) if name.endswith(".ckpt")]


def test_the_users_gradients_are_put_back(tmp_path):
    trainer, module = make(tmp_path)
    module.layers[0].weight.grad = torch.ones(12, 6)
    Tuner(trainer).lr_find(module, num_training=3, update_attr=False)
    # the run sets up with a clean slate only when it trains
    assert torch.equal(module.layers[0].weight.grad, torch.ones(12, 6))


def test_lazy_parameters_are_refused(tmp_path):
    trainer, module = make(tmp_path)
    module.late = nn.LazyLinear(3)
    module.configure_optimizers = lambda: torch.optim.SGD(module.layers.parameters(), lr=0.1)
    with pytest.raises(MisconfigurationException, match=r"late\.weight"):
        Tuner(trainer).lr_find(module)
