"""What a trainer does where a NaN or an infinity is logged."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.aggregation import MeanMetric

import fulmen as L
from fulmen.trainer import device_values
from fulmen.trainer.logging import Ledger
from fulmen.trainer.nan_policy import WatchingLedger, check_policy, watched_optimizer, watched_step, watched_window
from fulmen.trainer.step import direct_form_possible
from fulmen.utilities.exceptions import MisconfigurationException

BAD = 3
"""The batch in which something is not finite."""


class Net(L.LightningModule):
    """Remembers its weights after every batch."""

    optimizer = torch.optim.Adam
    bad_value: float = math.nan

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Linear(4, 1)
        self.after: list[torch.Tensor] = []
        self.steps: list[int] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch[0]).square().mean()
        self.log_something(batch_idx, loss)
        return loss

    def log_something(self, batch_idx: int, loss: torch.Tensor) -> None:
        self.log("x", self.bad_value if batch_idx == BAD else 1.0)

    def on_train_batch_end(self, *args: Any) -> None:
        self.after.append(self.layer.weight.detach().clone())
        self.steps.append(self.trainer.global_step)

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.parameters(), lr=0.1)


class Overrides(Net):
    """Takes the form of a closure."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


def fit(folder: Path, net: L.LightningModule, policy: str, **options: Any) -> L.Trainer:
    torch.manual_seed(0)
    trainer = L.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=1,
        enable_progress_bar=False, enable_model_summary=False, nan_policy=policy, **options,
    )  # fmt: skip
    trainer.fit(net, DataLoader(TensorDataset(torch.randn(16, 4)), batch_size=2))
    return trainer


def moved(net: Net) -> list[bool]:
    """Whether the weights moved in each batch but the first."""
    return [not torch.equal(a, b) for a, b in zip(net.after, net.after[1:], strict=False)]


FORMS = [Net, Overrides]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_skip_step_leaves_out_the_step_and_counts_on(tmp_path: Path, form: type[Net], value: float) -> None:
    net = form()
    net.bad_value = value
    with pytest.warns(UserWarning, match=r"skip_step.*self.log\('x'\) was -?(nan|inf) in batch 3 of epoch 0"):
        trainer = fit(tmp_path, net, "skip_step")
    assert direct_form_possible(trainer) is (form is Net)
    assert moved(net) == [index + 1 != BAD for index in range(7)]
    assert net.steps == [1, 2, 3, 4, 5, 6, 7, 8]
    assert isinstance(trainer._ledger, WatchingLedger) and trainer._ledger.dropped == 1


@pytest.mark.parametrize("form", FORMS)
def test_skip_step_trains_as_if_the_step_had_returned_nothing(tmp_path: Path, form: type[Net]) -> None:
    class Returns(form):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return None if batch_idx == BAD else loss

    skipped, returned = form(), Returns()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(tmp_path, skipped, "skip_step")
        fit(tmp_path, returned, "ignore")
    assert all(torch.equal(a, b) for a, b in zip(skipped.after, returned.after, strict=True))
    assert skipped.steps == returned.steps


@pytest.mark.parametrize("form", FORMS)
def test_skip_step_drops_a_whole_window(tmp_path: Path, form: type[Net]) -> None:
    net = form()
    with pytest.warns(UserWarning, match="skip_step"):
        fit(tmp_path, net, "skip_step", accumulate_grad_batches=4)
    assert moved(net) == [False] * 6 + [True], "batch 3 closes a window, batch 7 the next"
    early = form()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "BAD", 0)
        with pytest.warns(UserWarning, match="skip_step"):
            fit(tmp_path, early, "skip_step", accumulate_grad_batches=4)
    assert moved(early) == [False] * 6 + [True]
    assert all(torch.equal(a, b) for a, b in zip(net.after[:7], early.after[:7], strict=True))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("hook", ["on_after_backward", "on_before_optimizer_step"])
def test_skip_step_sees_what_hooks_log_about_gradients(tmp_path: Path, form: type[Net], hook: str) -> None:
    class Norms(form):
        def log_something(self, batch_idx: int, loss: torch.Tensor) -> None:
            self.now = batch_idx

    def log(self: Any, *args: Any) -> None:
        self.log("norm", torch.tensor(math.inf if self.now == BAD else 1.0))

    setattr(Norms, hook, log)
    net = Norms()
    with pytest.warns(UserWarning, match="'norm'"):
        fit(tmp_path, net, "skip_step", gradient_clip_val=1.0)
    assert moved(net) == [index + 1 != BAD for index in range(7)]


@pytest.mark.parametrize("form", FORMS)
def test_skip_step_looks_at_the_loss(tmp_path: Path, form: type[Net]) -> None:
    class Silent(form):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return {"loss": loss * math.nan if batch_idx == BAD else loss, "more": 1}

        def log_something(self, *args: Any) -> None:
            pass

    net = Silent()
    with pytest.warns(UserWarning, match="the loss was nan"):
        fit(tmp_path, net, "skip_step")
    assert moved(net) == [index + 1 != BAD for index in range(7)]
    assert all(weights.isfinite().all() for weights in net.after)


def test_every_skip_counts_and_few_are_told(tmp_path: Path) -> None:
    class Always(Net):
        def log_something(self, *args: Any) -> None:
            self.log("x", math.nan)

    net = Always()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = fit(tmp_path, net, "skip_step")
    told = [str(w.message) for w in caught if "skip_step" in str(w.message)]
    assert [text.rsplit(" ", 1)[1] for text in told] == ["1.", "2.", "4.", "8."]
    assert trainer._ledger.dropped == 8
    assert not any(moved(net))


@pytest.mark.parametrize("form", FORMS)
def test_raise_comes_before_the_optimizer(tmp_path: Path, form: type[Net]) -> None:
    net = form()
    with pytest.raises(ValueError, match=r"self.log\('x'\): expected a finite number.*nan in epoch 0, batch 3"):
        fit(tmp_path, net, "raise")
    assert len(net.after) == BAD and torch.equal(net.layer.weight, net.after[-1])


@pytest.mark.parametrize("manual", [False, True])
def test_warn_names_it_once(tmp_path: Path, manual: bool) -> None:
    class Often(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = not manual

        def log_something(self, batch_idx: int, loss: torch.Tensor) -> None:
            self.log("x", math.nan)
            self.log("y", 1.0)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tmp_path, Often(), "warn")
    told = [str(w.message) for w in caught if "nan_policy" in str(w.message)]
    assert len(told) == 1 and told[0].startswith("self.log('x'): nan in epoch 0, batch 0")


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_train_epoch_end", "validation_step"])
def test_values_of_other_hooks_are_seen(tmp_path: Path, hook: str) -> None:
    class Elsewhere(Net):
        def log_something(self, *args: Any) -> None:
            pass

        def val_dataloader(self) -> Any:
            return DataLoader(TensorDataset(torch.randn(4, 4)))

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            pass

    setattr(Elsewhere, hook, lambda self, *args: self.log("late", math.nan))
    with pytest.raises(ValueError, match="'late'"):
        fit(tmp_path, Elsewhere(), "raise")
    with pytest.warns(UserWarning, match="'late'"):
        fit(tmp_path, Elsewhere(), "skip_step")


def test_metric_objects_and_graphs_are_looked_at(tmp_path: Path) -> None:
    class Metric(Net):
        def __init__(self) -> None:
            super().__init__()
            self.mean = MeanMetric(nan_strategy="disable")

        def log_something(self, batch_idx: int, loss: torch.Tensor) -> None:
            self.mean(math.nan if batch_idx == BAD else 1.0)
            self.log("mean", self.mean)

    class Graph(Net):
        def log_something(self, batch_idx: int, loss: torch.Tensor) -> None:
            self.log("graph", loss * (math.nan if batch_idx == BAD else 1.0), enable_graph=True)

    for net, name in ((Metric(), "mean"), (Graph(), "graph")):
        with pytest.raises(ValueError, match=f"'{name}'.*batch 3"):
            fit(tmp_path, net, "raise")


class _Elsewhere(torch.Tensor):
    """A tensor that says it is on a device, to fold like one there."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_on_a_device_are_folded_and_seen_at_the_interval(
    tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Event:
        come = False

        def query(self) -> bool:
            return self.come

        def synchronize(self) -> None:
            waited.append(self)

    waited: list[Event] = []
    monkeypatch.setattr(device_values, "_start", lambda values: (values.as_subclass(torch.Tensor), Event()))
    trainer = L.Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, nan_policy="warn")
    ledger = trainer._ledger
    assert isinstance(ledger, WatchingLedger)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "log", lambda *args, **options: None)
        for number in (1.0, value, 2.0):
            ledger.log(None, "a", torch.tensor(number).as_subclass(_Elsewhere))
            ledger.log(None, "b", torch.tensor(number if math.isfinite(number) else 0.0).as_subclass(_Elsewhere))
    assert ledger.found() is None, "nobody waits for a device within a step"
    assert ledger._found_on_device(wait=False) == []
    assert ledger._found_on_device(wait=False) == [], "the copy is on its way, and nobody waits for it"
    assert not waited
    Event.come = True
    assert ledger._found_on_device(wait=False) == ["a"]
    assert ledger._found_on_device() == []
    ledger._on_device = {"c": torch.tensor(math.nan).as_subclass(_Elsewhere)}
    assert ledger._found_on_device() == ["c"], "at the end of an epoch it is waited for"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_waits_for_the_device(tmp_path: Path) -> None:
    class OnDevice(Net):
        def log_something(self, batch_idx: int, loss: torch.Tensor) -> None:
            if batch_idx == 1:
                torch.cuda.set_sync_debug_mode("error")
            self.log("x", loss * math.nan if batch_idx == BAD else loss)

        def on_train_batch_end(self, *args: Any) -> None:
            if args[2] == 7:
                torch.cuda.set_sync_debug_mode("default")

    def run(policy: str) -> None:
        trainer = L.Trainer(
            default_root_dir=tmp_path, accelerator="gpu", devices=1, logger=False, enable_checkpointing=False,
            max_epochs=1, enable_progress_bar=False, enable_model_summary=False, nan_policy=policy,
        )  # fmt: skip
        data = torch.randn(16, 4, device="cuda")
        trainer.fit(OnDevice(), [(data[i : i + 2],) for i in range(0, 16, 2)])

    try:
        with pytest.warns(UserWarning, match="'x'.*within this log interval"):
            run("warn")
        with pytest.raises(ValueError, match="'x'"):
            run("raise")
        with pytest.raises(MisconfigurationException, match="run on the CPU"):
            run("skip_step")
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_skip_step_says_where_it_cannot_be_followed(tmp_path: Path) -> None:
    class Manual(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

    class Quasi(Net):
        optimizer = torch.optim.LBFGS

    for net, words in ((Manual(), "automatic optimization with one optimizer"), (Quasi(), "LBFGS")):
        with pytest.raises(MisconfigurationException, match=words):
            fit(tmp_path, net, "skip_step")
        assert not net.after


def test_ignore_takes_no_part(tmp_path: Path) -> None:
    net = Net()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*nan")
        trainer = fit(tmp_path, net, "ignore")
    assert type(trainer._ledger) is Ledger
    assert all(moved(net))
    # the step consists of the very same calls
    step, optimizer = net.training_step, trainer.optimizers[0]
    assert watched_step(trainer, step) is step and watched_optimizer(trainer, optimizer) is optimizer
    whole: Any = lambda batch, batch_idx, flags: None  # noqa: E731 (a function that is only compared)
    assert watched_window(trainer, whole, 1) is whole


def test_a_second_run_starts_with_nothing_found(tmp_path: Path) -> None:
    net = Net()
    with pytest.warns(UserWarning, match="skip_step"):
        trainer = fit(tmp_path, net, "skip_step")
    trainer.fit_loop.max_epochs = 2
    trainer.fit(Net(), DataLoader(TensorDataset(torch.randn(4, 4)), batch_size=2))
    assert trainer._ledger.dropped == 0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("root_device", torch.device("cuda", 0), "a run on cuda:0"), ("world_size", 2, "received 2 processes")],
)
def test_skip_step_needs_one_process_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Any, words: str
) -> None:
    trainer = fit(tmp_path, Net(), "skip_step", limit_train_batches=1)
    owner = type(trainer.strategy) if name == "root_device" else L.Trainer
    monkeypatch.setattr(owner, name, property(lambda self: value))
    with pytest.raises(MisconfigurationException, match=words):
        check_policy(trainer)
