"""What `Trainer.explain` says, and that it is so."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fulmen as L
from fulmen.callbacks import EarlyStopping, GradientAccumulationScheduler, LearningRateMonitor, ModelCheckpoint
from fulmen.demos.boring_classes import BoringDataModule, BoringModel
from fulmen.loggers import CSVLogger
from fulmen.trainer.explain import LATER, Explanation

HOOKS, STEP, DUE, ENDS, FEEDS = (
    "Hooks, in the order in which they are called", "A training step", "What is due when", "What ends it",
    "Where batches come from",
)  # fmt: skip


def make(folder: Path, **options: Any) -> L.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "max_epochs": 1, **options}
    return L.Trainer(
        default_root_dir=folder, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        limit_train_batches=2, limit_val_batches=quiet.pop("limit_val_batches", 1), num_sanity_val_steps=0, **quiet,
    )  # fmt: skip


def said(trainer: L.Trainer, title: str, *args: Any, **kwargs: Any) -> str:
    return "\n".join(trainer.explain(*args, show=False, **kwargs).sections[title])


class Logs(L.Callback):
    def on_train_batch_end(self, *args: Any) -> None:
        pass

    def on_train_epoch_end(self, *args: Any) -> None:
        pass


class Model(BoringModel):
    def on_train_epoch_end(self) -> None:
        self.log("x", 1.0)


def test_before_and_after_a_run(tmp_path: Path) -> None:
    trainer = make(tmp_path, callbacks=[EarlyStopping("x"), Logs()])
    model = Model()
    before = trainer.explain(model, show=False)
    assert any(LATER in line for line in before.sections[STEP] + before.sections[FEEDS])
    trainer.fit(model)
    after = trainer.explain(show=False)
    assert not any(LATER in line for lines in after.sections.values() for line in lines)
    for one in (before, after):
        text = "\n".join(one.sections[HOOKS])
        assert "on_train_batch_end: Logs\n" in text
        assert "on_train_epoch_end: Logs, Model, EarlyStopping" in text
        assert "on_before_backward" not in text, "nobody implements it"
    assert after.sections[STEP][0].startswith("direct:")
    assert any(line.startswith("learning rate: StepLR every 1 epoch") for line in after.sections[DUE])
    assert [line.split(":")[0] for line in after.sections[FEEDS]] == ["train", "val"]


def test_who_is_said_to_implement_a_hook_is_called_in_that_order(tmp_path: Path) -> None:
    called: list[str] = []

    def noting(base: type, name: str) -> Any:
        return type(name, (base,), {"on_train_epoch_end": lambda self, *args: called.append(name)})

    callbacks = [noting(EarlyStopping, "Stops")("x"), noting(L.Callback, "One")(), noting(L.Callback, "Two")()]
    trainer = make(tmp_path, callbacks=callbacks)
    trainer.fit(noting(BoringModel, "Net")())
    assert f"on_train_epoch_end: {', '.join(called)}" in said(trainer, HOOKS)
    assert called == ["One", "Two", "Net", "Stops"]


def test_without_a_module(tmp_path: Path) -> None:
    assert "pass it, `trainer.explain(model)`" in said(make(tmp_path), HOOKS)


def test_hooks_for_loaders_that_are_passed_are_not_asked(tmp_path: Path) -> None:
    trainer, data = make(tmp_path), DataLoader(torch.ones(4, 32))
    assert "train_dataloader: BoringModel" in said(trainer, HOOKS, BoringModel())
    hooks = said(trainer, HOOKS, BoringModel(), train_dataloaders=data)
    assert "train_dataloader" not in hooks and "val_dataloader: BoringModel" in hooks
    trainer.fit(BoringModel(), data)
    assert "train_dataloader" not in said(trainer, HOOKS)
    other = make(tmp_path)
    other.fit(BoringModel(), datamodule=BoringDataModule())
    assert "setup: BoringDataModule" in said(other, HOOKS)


class Steps(BoringModel):
    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)


class Manual(BoringModel):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class Quasi(BoringModel):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (BoringModel, "direct: forward, backward and step"),
        (Steps, "by closure, since Steps has its own optimizer_step"),
        (Quasi, "by closure, since the optimizer LBFGS"),
        (Manual, "manual: the module itself"),
    ],
)
def test_the_form_of_a_step(tmp_path: Path, model: Any, words: str) -> None:
    trainer = make(tmp_path)
    trainer.fit(model())
    assert said(trainer, STEP).startswith(words)
    if model is Steps:
        hooks = said(trainer, HOOKS)
        assert hooks.index("optimizer_step: Steps") < hooks.index("training_step: Steps"), "it calls the rest"


def test_a_step_with_options(tmp_path: Path) -> None:
    text = said(
        make(
            tmp_path,
            accumulate_grad_batches=4,
            gradient_clip_val=0.5,
            gradient_clip_algorithm="value",
            nan_policy="warn",
        ),
        STEP,
    )
    assert (
        "4 batches make one optimizer step" in text and "clipped by value to 0.5" in text and "not finite: warn" in text
    )
    text = said(make(tmp_path, callbacks=[GradientAccumulationScheduler({0: 2, 3: 4})]), STEP)
    assert "2 from epoch 0 on, 4 from epoch 3 on" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "at the end of every epoch"),
        ({"check_val_every_n_epoch": 3}, "at the end of every 3. epoch"),
        ({"val_check_interval": 1}, "every 1 batch"),
        ({"val_check_interval": 2, "check_val_every_n_epoch": 3}, "every 2 batches, in every 3. epoch"),
        ({"val_check_interval": 5, "check_val_every_n_epoch": None}, "every 5 batches, counted across epochs"),
        ({"val_check_interval": 0.5}, "every 0.5 of an epoch"),
        ({"val_check_interval": "00:00:00:10"}, "every 10 s"),
        ({"limit_val_batches": 0}, "none, as limit_val_batches is 0"),
    ],
)
def test_validation(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    assert said(make(tmp_path, **options), DUE).splitlines()[0] == f"validation: {words}"


def test_a_module_without_validation(tmp_path: Path) -> None:
    class Bare(L.LightningModule):
        pass

    assert "validation: none, as Bare has no validation_step" in said(make(tmp_path), DUE, Bare())


def test_rows_and_checkpoints(tmp_path: Path) -> None:
    savers = [
        ModelCheckpoint(tmp_path / "a", monitor="x", mode="max", save_top_k=3, every_n_train_steps=10, save_last=True),
        ModelCheckpoint(tmp_path / "b", save_top_k=-1, every_n_epochs=2),
    ]
    trainer = make(
        tmp_path, logger=CSVLogger(tmp_path), log_every_n_steps=7, log_axis="samples", enable_checkpointing=True,
        callbacks=[*savers, LearningRateMonitor()],
    )  # fmt: skip
    text = said(trainer, DUE)
    assert "rows of step values: every 7 optimizer steps, to CSVLogger, by samples" in text
    assert f"every 10 optimizer steps; it keeps the 3 best by max of 'x', and `last`, in {tmp_path / 'a'}" in text
    assert "after every 2. validation, or training epoch without one; it keeps all" in text
    assert "rows of step values: none, as there is no logger" in said(make(tmp_path), DUE)


def test_ends(tmp_path: Path) -> None:
    text = said(
        make(
            tmp_path,
            max_epochs=3,
            max_steps=9,
            max_time="00:00:01:00",
            min_epochs=2,
            min_steps=1,
            callbacks=[EarlyStopping("x", patience=4, mode="max", divergence_threshold=0.1)],
        ),  # fmt: skip
        ENDS,
    )
    for words in (
        "max_epochs: after 3 epochs; 0 done", "max_steps: after 9 optimizer steps; 0 done", "Timer: after 60 s",
        "EarlyStopping: when 'x' has not gone on rising for 4 checks, or diverges to 0.1, or is not finite",
        "a stop flag counts only after 2 epochs and 1 optimizer step",
    ):  # fmt: skip
        assert words in text
    assert "no limit" in said(make(tmp_path, max_epochs=-1), ENDS)
    assert "fast_dev_run: after 2 batches" in said(make(tmp_path, fast_dev_run=2), ENDS)


def test_feeds(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    memory = DataLoader(TensorDataset(torch.ones(4, 32)))
    text = said(trainer, FEEDS, train_dataloaders={"a": memory, "b": [1, 2]}, val_dataloaders=memory)
    assert "train 0: DataLoader: gather (its dataset lies in memory" in text
    assert "train 1: list: plain (list is no torch DataLoader)" in text and "val: DataLoader: gather" in text
    trainer.fit(BoringModel(), DataLoader(torch.ones(4, 32)))
    assert trainer.fit_loop._loaders.sources[0].why in said(trainer, FEEDS)
    assert "train: DataLoader, 2 batches: " in said(trainer, FEEDS)
    assert "prefetching is switched off" in said(make(tmp_path, prefetch="off"), FEEDS, train_dataloaders=memory)


def test_bold_on_a_terminal_and_plain_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(tmp_path)
    explanation = trainer.explain()
    printed = capsys.readouterr().out
    assert printed == f"{explanation}\n" and "\x1b" not in printed

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    explanation.show()
    assert terminal.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "") == printed
    assert terminal.getvalue().count("\x1b[1m") == len(explanation.sections)
    assert isinstance(explanation, Explanation) and repr(explanation) == str(explanation)


def test_nothing_is_run_and_a_fit_afterwards_is_as_without(tmp_path: Path) -> None:
    weights = []
    for explains in (False, True):
        L.seed_everything(1)
        model, trainer = BoringModel(), make(tmp_path)
        data = DataLoader(TensorDataset(torch.randn(8, 32)), shuffle=True)

        model.on_after_batch_transfer = lambda batch, index: batch[0] if isinstance(batch, list) else batch
        if explains:
            trainer.explain(model, data, show=False)
        trainer.fit(model, data)
        weights.append(model.layer.weight.detach().clone())
    assert torch.equal(*weights)
