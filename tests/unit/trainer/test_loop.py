"""The training loop: counters, stops, windows, what a step costs in calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import fulmen as L
from fulmen.demos.boring_classes import BoringModel, RandomDataset
from fulmen.utilities.exceptions import MisconfigurationException


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    def make(**options: Any) -> L.Trainer:
        base: dict[str, Any] = {
            "default_root_dir": tmp_path,
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "max_epochs": 2,
            "limit_train_batches": 5,
            "limit_val_batches": 2,
        }
        return L.Trainer(**{**base, **options})

    return make


@pytest.mark.parametrize(
    ("options", "epoch", "step"),
    [
        ({}, 2, 10),
        ({"max_epochs": 0}, 0, 0),
        ({"max_steps": 7, "max_epochs": -1}, 2, 7),
        ({"accumulate_grad_batches": 2}, 2, 6),
        ({"limit_train_batches": 0}, 0, 0),
        ({"fast_dev_run": 3}, 1, 3),
    ],
)
def test_counters_at_the_end(trainer: Any, options: dict[str, Any], epoch: int, step: int) -> None:
    t = trainer(**options)
    t.fit(BoringModel())
    assert (t.current_epoch, t.global_step) == (epoch, step)


def test_a_hook_nobody_overrides_is_never_called(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    for name in ("on_train_batch_start", "on_before_backward", "on_after_backward", "on_train_batch_end"):
        monkeypatch.setattr(L.Callback, name, lambda *a, name=name: called.append(name))

    class Plain(L.Callback):
        pass

    trainer(callbacks=[Plain()]).fit(BoringModel())
    assert called == []


def test_a_stop_flag_waits_for_the_minimum(trainer: Any) -> None:
    class Stops(BoringModel):
        def on_train_batch_end(self, *args: Any) -> None:
            self.trainer.should_stop = True

    t = trainer(max_epochs=9, min_epochs=3)
    t.fit(Stops())
    assert (t.current_epoch, t.global_step) == (3, 15)


def test_a_loader_without_length_is_looked_ahead_into(trainer: Any) -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Any:
            return iter(torch.ones(3, 32))

    seen = []

    class Net(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append((batch_idx, self.trainer.is_last_batch))
            return super().training_step(batch, batch_idx)

    trainer(max_epochs=1, limit_train_batches=1.0).fit(Net(), DataLoader(Stream()))
    assert seen == [(0, False), (1, False), (2, True)]


def test_minus_one_drops_the_rest_of_the_epoch(trainer: Any) -> None:
    class Skips(BoringModel):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
            return -1 if batch_idx == 2 else None

    t = trainer()
    t.fit(Skips())
    assert (t.current_epoch, t.global_step) == (2, 4)


def test_none_from_the_step_still_counts(trainer: Any) -> None:
    class Quiet(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            return None

    t = trainer()
    t.fit(Quiet())
    assert t.global_step == 10


@pytest.mark.parametrize("answer", ["text", 3, {"no": "loss"}])
def test_a_step_without_a_loss_says_what_came(trainer: Any, answer: Any) -> None:
    class Wrong(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return answer

    with pytest.raises(MisconfigurationException, match="training_step"):
        trainer().fit(Wrong())


def test_gradients_of_a_window_add_up(trainer: Any) -> None:
    data = torch.ones(6, 32)
    gradients = {}

    class Net(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch).sum()

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            gradients[self.trainer.fit_loop.batch_idx] = self.layer.weight.grad.clone()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    trainer(max_epochs=1, accumulate_grad_batches=4, limit_train_batches=1.0).fit(Net(), DataLoader(data))
    assert sorted(gradients) == [3, 5]
    assert torch.equal(gradients[3], torch.ones(2, 32))
    assert torch.equal(gradients[5], torch.ones(2, 32) / 2)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_direct_and_closure_form_give_the_same_weights(trainer: Any, optimizer: Any) -> None:
    class Direct(BoringModel):
        def configure_optimizers(self) -> Any:
            return optimizer(self.parameters(), lr=0.1)

    class Closure(Direct):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    weights = []
    for kind in (Direct, Closure):
        torch.manual_seed(1)
        module = kind()
        trainer(gradient_clip_val=0.3, accumulate_grad_batches=2).fit(module, DataLoader(RandomDataset(32, 12)))
        weights.append([p.detach().clone() for p in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights))


def test_modes_and_gradients_are_as_before_after_a_validation(trainer: Any) -> None:
    seen = []

    class Net(BoringModel):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = torch.nn.Dropout().eval()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            seen.append((self.training, torch.is_grad_enabled()))

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            seen.append((self.training, self.frozen.training, torch.is_grad_enabled()))

    trainer(max_epochs=2, limit_train_batches=1).fit(Net())
    assert set(seen) == {(False, False), (True, False, True)}


def test_a_batch_that_goes_may_look_at_the_run(trainer: Any) -> None:
    """Its end may run any code, and let other threads run, which use what the loop has just used."""
    seen: list[tuple[int, float]] = []

    class Batch:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            run._schedule.interrupt = True
            run._ledger.store.take_changed()
            seen.append((self.number, run.global_step))

    class Batches:
        def __len__(self) -> int:
            return 5

        def __iter__(self) -> Any:
            return (Batch(number) for number in range(5))

    class Model(BoringModel):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            loss = self.layer(torch.ones(1, 32)).sum()
            self.log("loss", loss, batch_size=1)
            return loss

    run = trainer(max_epochs=1, limit_val_batches=0)
    run.fit(Model(), Batches())
    assert [number for number, _ in seen] == [0, 1, 2, 3, 4]
    assert run.global_step == 5
