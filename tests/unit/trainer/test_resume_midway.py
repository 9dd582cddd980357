"""What is half done when a file is written is done by the run that goes on from it: parts of a fit, one at a time.

`tests/faults/resume_matrix.py` stops whole processes; here a fit saves after every batch, and others go on from each file.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import fulmen as L
from fulmen.callbacks import (
    Callback,
    Checkpoint,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
)
from fulmen.loggers import CSVLogger
from fulmen.trainer.checkpoint import read_half_done
from fulmen.utilities.combined_loader import CombinedLoader

EPOCHS, BATCHES = 3, 4


def rows(number: int = 2 * BATCHES) -> TensorDataset:
    return TensorDataset(torch.randn(number, 3, generator=torch.Generator().manual_seed(3)))


class Net(L.LightningModule):
    """Notes the first column of every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 1), nn.BatchNorm1d(3)
        self.seen: list[Any] = []
        self.rates: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        parts = (
            [batch] if isinstance(batch, Tensor) else list(batch.values()) if isinstance(batch, dict) else list(batch)
        )
        parts = [part[0] if isinstance(part, (list, tuple)) else part for part in parts]
        self.seen.append([part[:, 0].tolist() for part in parts if part is not None])
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        noise = 1 + random.random() + torch.rand(())
        loss = sum(self.layer(self.norm(part)).square().mean() for part in parts if part is not None) * noise
        self.note(loss)
        return loss

    def note(self, loss: Tensor) -> None:
        self.log("loss", loss, on_step=True, on_epoch=True)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class SaveAll(Callback):
    """A file after every batch, when other callbacks' hooks of that moment have run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.fit_loop.total_batch_idx + 1}.ckpt")


def loader() -> Any:
    return DataLoader(rows(), 2, shuffle=True)


def fresh(kind: Callable[[], Any]) -> Any:
    """A module with the same weights every time."""
    torch.manual_seed(11)
    return kind()


def fit(
    folder: Path,
    net: Net,
    make: Callable[[], Any] = loader,
    path: Any = None,
    saves: bool = False,
    seed: int = 1,
    val: Any = None,
    callbacks: Callable[[], list[Callback]] = list,
    **options: Any,
) -> L.Trainer:
    torch.manual_seed(seed), random.seed(seed)
    defaults: dict[str, Any] = {
        "accelerator": "cpu", "max_epochs": EPOCHS, "enable_progress_bar": False, "enable_model_summary": False,
        "log_every_n_steps": 1, "num_sanity_val_steps": 0,
        "logger": CSVLogger(folder, name="log", version=0), "default_root_dir": folder,
    }  # fmt: skip
    saving: list[Callback] = [*callbacks(), *([SaveAll(folder)] if saves else [])]
    checkpoints = any(isinstance(callback, Checkpoint) for callback in saving)
    trainer = L.Trainer(**{**defaults, **options}, callbacks=saving, enable_checkpointing=checkpoints)
    trainer.fit(net, make(), val, ckpt_path=path)
    return trainer


def table(folder: Path) -> str:
    return (
        (folder / "log" / "0" / "metrics.csv").read_text()
        if (folder / "log" / "0").is_dir()
        else (folder / "log" / "version_0" / "metrics.csv").read_text()
    )


def outcome(net: Net, trainer: L.Trainer) -> list[Any]:
    states = [dict(net.state_dict()), *(o.state_dict() for o in trainer.optimizers)]
    return [states, [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs], torch.rand(2), random.random()]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def check_every_step(
    tmp_path: Path, kind: Callable[[], Net], steps: Any = (1, 2, 3, 4, 6, 8, 11), **options: Any
) -> None:
    """A fit that is taken up from the file of each of these batches ends as the one that wrote them."""
    whole = kind()
    trainer = fit(tmp_path, whole, saves=True, **options)
    expected, logged = outcome(whole, trainer), table(tmp_path)
    for step in steps:
        net = kind()
        trainer = fit(tmp_path, net, path=tmp_path / f"{step}.ckpt", seed=50 + step, **options)
        assert net.seen == whole.seen[step:], step
        assert net.rates == whole.rates[step:], step
        for one, other in zip(outcome(net, trainer), expected, strict=True):
            assert same(one, other), (step, one, other)
        assert table(tmp_path) == logged, step


# ---- callbacks that keep weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize(
    "callback",
    [
        lambda: EMAWeightAveraging(decay=0.9),
        lambda: StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1, annealing_epochs=1),
    ],
    ids=["ema", "swa"],
)
def test_averages_go_on(tmp_path: Path, callback: Callable[[], Callback], accumulate: int) -> None:
    check_every_step(tmp_path, Net, callbacks=lambda: [callback()], accumulate_grad_batches=accumulate)


def test_a_window_whose_length_a_callback_has_set(tmp_path: Path) -> None:
    check_every_step(tmp_path, Net, callbacks=lambda: [GradientAccumulationScheduler({0: 1, 1: 3, 2: 2})])


# ---- what is logged --------------------------------------------------------------------------------------------------


class Logs(Net):
    """Logs by every kind of reduction, on tensors with a graph, and metric objects that share a state."""

    def __init__(self) -> None:
        super().__init__()
        self.several = torchmetrics.MetricCollection(
            {"mse": torchmetrics.MeanSquaredError(), "rmse": torchmetrics.MeanSquaredError(squared=False)}
        )
        self.kept = torchmetrics.CatMetric()

    def note(self, loss: Tensor) -> None:
        super().note(loss)
        for name in ("sum", "min", "max"):
            self.log(name, loss, on_step=False, on_epoch=True, reduce_fx=name)
        self.log("graph", loss, on_step=True, on_epoch=True, enable_graph=True, batch_size=len(self.seen) % 3 + 1)
        self.log("weighted", loss.item(), on_epoch=True, on_step=False, batch_size=len(self.seen) % 4 + 1)
        if len(self.trainer.fit_loop.epoch_loop.__dict__) and self.trainer.fit_loop.batch_idx % 2:
            self.log("odd", loss, on_step=True, on_epoch=True)
        self.several.update(loss.detach(), torch.tensor(0.5))
        self.log_dict(self.several, on_step=False, on_epoch=True)
        self.kept.update(loss.detach())

    def on_train_epoch_end(self) -> None:
        self.log("kept", self.kept.compute().norm())
        self.kept.reset()


def test_sums_and_metric_objects_go_on(tmp_path: Path) -> None:
    # the number of batches that this object has seen is no part of a file: weights follow the place in the epoch instead
    class ByPlace(Logs):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            past = self.seen
            self.seen = [None] * batch_idx
            loss = super().training_step(batch, batch_idx)
            self.seen = [*past, self.seen[-1]]
            return loss

    check_every_step(tmp_path, ByPlace, log_every_n_steps=2)


def test_values_that_a_function_reduces_go_on(tmp_path: Path) -> None:
    class Median(Net):
        def note(self, loss: Tensor) -> None:
            self.log("median", loss, on_step=False, on_epoch=True, reduce_fx=torch.median)

    # a file does not say which function; after an epoch's last batch nobody does
    check_every_step(tmp_path, Median, steps=(1, 2, 3, 6, 11))


def test_nan_is_not_lost(tmp_path: Path) -> None:
    class Broken(Net):
        def note(self, loss: Tensor) -> None:
            self.log("loss", loss * float("nan" if self.trainer.fit_loop.batch_idx == 1 else 1), on_epoch=True)

    check_every_step(tmp_path, Broken, steps=(2, 3, 6))
    assert "nan" in table(tmp_path)


# ---- schedulers, validation ------------------------------------------------------------------------------------------


def schedulers(optimizer: Any) -> list[Any]:
    known = torch.optim.lr_scheduler
    return [
        {"scheduler": known.OneCycleLR(optimizer, 0.1, total_steps=40), "interval": "step"},
        {"scheduler": known.ExponentialLR(optimizer, 0.9), "interval": "epoch"},
        {"scheduler": known.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9), "monitor": "loss_epoch"},
        {
            "scheduler": known.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9, factor=0.9),
            "monitor": "loss_step",
            "interval": "step",
            "frequency": 2,
        },
        {
            "scheduler": known.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9, factor=0.7),
            "monitor": "val",
            "interval": "step",
            "strict": False,
        },
    ]


class Scheduled(Net):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], schedulers(optimizer)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", self.layer(batch[0]).square().mean() + torch.rand(()), on_step=True, on_epoch=True)


@pytest.mark.parametrize("interval", [2, 3, 1.0])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned")
def test_schedulers_and_validations_go_on(tmp_path: Path, interval: Any, accumulate: int) -> None:
    each = {"check_val_every_n_epoch": None} if interval == 3 else {}
    check_every_step(
        tmp_path, Scheduled, val=DataLoader(rows(), 4), val_check_interval=interval, accumulate_grad_batches=accumulate,
        **each,
    )  # fmt: skip


# ---- data ------------------------------------------------------------------------------------------------------------


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Any:
        worker = torch.utils.data.get_worker_info()
        index, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return iter(rows()[:][0][index::count])


LOADERS: dict[str, Callable[[], Any]] = {
    "stream": lambda: DataLoader(Stream(), 2),
    "stream of two workers": lambda: DataLoader(Stream(), 2, num_workers=2),
    "two": lambda: {"a": loader(), "b": DataLoader(rows(6), 2, shuffle=True)},
    "two, the longest": lambda: CombinedLoader([loader(), DataLoader(rows(4), 2, shuffle=True)], "max_size"),
    "two, of workers and not": lambda: CombinedLoader(
        [DataLoader(rows(), 2, shuffle=True, num_workers=2), loader()], "min_size"
    ),
}


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.filterwarnings("ignore:The 'train_dataloader'")
def test_loaders_of_all_kinds_go_on(tmp_path: Path, name: str) -> None:
    steps = (1, 6, 11) if "workers" in name else (1, 3, 4, 6, 11)
    check_every_step(tmp_path, Net, steps=steps, make=LOADERS[name], accumulate_grad_batches=3)


@pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 2), (2, 1), (1, 3)])
def test_other_numbers_of_workers(tmp_path: Path, before: int, after: int) -> None:
    """Each sample of the epoch exactly once, in the order of the run that stopped."""

    def with_workers(number: int) -> Callable[[], Any]:
        return lambda: DataLoader(rows(), 2, shuffle=True, num_workers=number)

    whole = Net()
    fit(tmp_path, whole, with_workers(before), saves=True)
    for step in (1, 6):
        net = Net()
        fit(tmp_path, net, with_workers(after), path=tmp_path / f"{step}.ckpt", seed=9)
        assert net.seen == whole.seen[step:], step


# ---- exceptions ------------------------------------------------------------------------------------------------------


class Fails(Scheduled):
    """Fails once: in a hook, the forward pass, the backward pass, a validation."""

    def __init__(self, place: str = "", at: int = -1) -> None:
        super().__init__()
        self.place, self.at = place, at
        self.extra = torchmetrics.SumMetric()

    def fail(self, place: str) -> None:
        if place == self.place and self.trainer.fit_loop.total_batch_idx == self.at:
            raise RuntimeError("enough")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.rand(1)
        self.fail("start")

    def note(self, loss: Tensor) -> None:
        super().note(loss)
        self.extra.update(loss.detach())
        self.log("extra", self.extra, on_step=False, on_epoch=True)
        self.fail("forward")

    def on_after_backward(self) -> None:
        self.fail("backward")

    def on_validation_start(self) -> None:
        self.fail("validation")


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("place", ["start", "forward", "backward", "validation"])
@pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned")
def test_a_batch_that_failed_is_trained_as_if_it_had_not(tmp_path: Path, place: str, accumulate: int) -> None:
    options: dict[str, Any] = {
        "val": DataLoader(rows(), 4), "val_check_interval": 2, "accumulate_grad_batches": accumulate,
    }  # fmt: skip
    whole = fresh(Fails)
    trainer = fit(tmp_path / "whole", whole, **options)
    expected, logged = outcome(whole, trainer), table(tmp_path / "whole")
    for at in (1, 5, 7, 11) if place == "validation" else (0, 1, 4, 5, 11):
        folder = tmp_path / f"{at}"
        broken = fresh(lambda: Fails(place, at))
        with pytest.raises(RuntimeError, match="enough"):
            fit(folder, broken, callbacks=lambda f=folder: [OnExceptionCheckpoint(f)], **options)
        net = Fails()
        trainer = fit(folder, net, path=folder / "on_exception.ckpt", seed=70 + at, **options)
        done = at + (place == "validation")
        assert net.seen == whole.seen[done:], at
        assert same(outcome(net, trainer), expected), at
        assert table(folder) == logged, at


def test_a_sample_that_fails_is_fetched_again(tmp_path: Path) -> None:
    class Rows(torch.utils.data.Dataset[Tensor]):
        fails = True

        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Tensor:
            draw = torch.rand(3)
            if self.fails and index == 5:
                raise ValueError("bad sample")
            return torch.cat([torch.tensor([float(index)]), draw[1:]])

    class Good(Rows):
        fails = False

    def make(kind: type[Rows]) -> Callable[[], Any]:
        return lambda: {"a": DataLoader(Good(), 2, shuffle=True), "b": DataLoader(kind(), 2, shuffle=True)}

    whole = fresh(Net)
    trainer = fit(tmp_path / "whole", whole, make(Good))
    expected = outcome(whole, trainer)
    broken = fresh(Net)
    with pytest.raises(ValueError, match="bad sample"):
        fit(tmp_path, broken, make(Rows), callbacks=lambda: [OnExceptionCheckpoint(tmp_path)])
    net = Net()
    trainer = fit(tmp_path, net, make(Good), path=tmp_path / "on_exception.ckpt", seed=5)
    assert broken.seen + net.seen == whole.seen
    assert same(outcome(net, trainer), expected)


def test_nothing_is_noted_without_a_callback_that_saves_on_exceptions(tmp_path: Path) -> None:
    found = []

    class Look(Net):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            found.append(self.trainer.fit_loop.starts)

    fit(tmp_path, Look(), callbacks=lambda: [ModelCheckpoint(tmp_path)])
    assert found and not any(found)
    fit(
        tmp_path,
        Look(),
        callbacks=lambda: [ModelCheckpoint(tmp_path, save_on_exception=True)],
    )
    assert found[-1] is not None


# ---- the file --------------------------------------------------------------------------------------------------------


def test_gradients_are_in_a_file_only_where_they_wait_for_a_step(tmp_path: Path) -> None:
    fit(tmp_path, Net(), saves=True, accumulate_grad_batches=3)
    found = [sorted(read_half_done(tmp_path / f"{n}.ckpt")["gradients"]) for n in range(1, 6)]
    names = ["layer.bias", "layer.weight", "norm.bias", "norm.weight"]
    assert found == [names, names, [], [], names]
    loaded = torch.load(tmp_path / "1.ckpt", weights_only=True)
    assert "fulmen_midway" not in loaded and "fulmen_midway" not in str(loaded["loops"])


def test_gradients_of_manual_optimization(tmp_path: Path) -> None:
    class Manual(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()
            self.manual_backward(super().training_step(batch, batch_idx))
            if batch_idx % 2:
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)

    check_every_step(tmp_path, Manual)
    sizes = [len(read_half_done(tmp_path / f"{n}.ckpt")["gradients"]) for n in range(1, 5)]
    assert sizes == [4, 0, 4, 0], "an optimizer has used the others"


def test_the_rows_of_another_run_are_not_gone_on_with(tmp_path: Path) -> None:
    fit(tmp_path, Net(), saves=True)
    (tmp_path / "log" / "version_0" / "metrics.csv").write_text("epoch,loss,step\n0,1.0,77\n0,1.0,78\n0,1.0,79\n")
    with pytest.warns(UserWarning, match="had logged 2 rows until step 1"):
        fit(tmp_path, Net(), path=tmp_path / "3.ckpt")
    assert ",77" not in table(tmp_path)
