from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from fulmen.callbacks.progress import TQDMProgressBar, default_progress_bar, fit_eta, tqdm_progress
from fulmen.callbacks.progress.fit_eta import FitEta

from .progress_fakes import make_trainer, run_fit


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [1000.0]
    monkeypatch.setattr(fit_eta, "perf_counter", lambda: time[0])
    return time


def test_all_epochs_and_what_lies_between_them_count(now: list[float]) -> None:
    eta, trainer = FitEta(), make_trainer(None, max_epochs=4, num_training_batches=10)
    eta.start(trainer)
    assert eta.left(trainer, 0) is None
    now[0] += 5
    assert eta.left(trainer, 5) == pytest.approx(35)
    # an epoch of 10 seconds and its validation of 10: three more such epochs
    now[0] += 15
    assert eta.left(trainer, 10) == pytest.approx(60)
    trainer.current_epoch = 3
    assert eta.left(trainer, 10) is None


def test_the_limit_that_comes_first_counts(now: list[float]) -> None:
    eta, trainer = FitEta(), make_trainer(None, max_epochs=100, num_training_batches=10, max_steps=20)
    eta.start(trainer)
    now[0] += 5
    trainer.global_step = 5
    assert eta.left(trainer, 5) == pytest.approx(15)
    trainer.max_epochs, trainer.num_training_batches = -1, float("inf")
    assert eta.left(trainer, 5) == pytest.approx(15)
    trainer.max_steps = -1
    assert eta.left(trainer, 5) is None


def test_a_resumed_fit_counts_from_where_it_went_on(now: list[float]) -> None:
    eta, trainer = FitEta(), make_trainer(None, max_epochs=10, num_training_batches=10, current_epoch=8)
    eta.start(trainer)
    now[0] += 10
    assert eta.left(trainer, 10) == pytest.approx(10)


def test_a_fit_of_one_epoch_says_nothing_twice(now: list[float]) -> None:
    eta, trainer = FitEta(), make_trainer(None, max_epochs=1)
    eta.start(trainer)
    now[0] += 10
    assert eta.left(trainer, 5) is None


class Cell(io.StringIO):
    """What `sys.stdout` is in a notebook."""

    __module__ = "ipykernel.iostream"


def test_a_notebook_shows_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tqdm_progress, "sys", SimpleNamespace(stdout=(cell := Cell())))
    bar = TQDMProgressBar()
    trainer = make_trainer(bar)
    validating = []

    def validate(*_) -> None:
        bar.on_validation_start(trainer, None)
        validating.append(bar.train_progress_bar.desc)
        for batch_idx in range(4):
            bar.on_validation_batch_start(trainer, None, None, batch_idx)
            bar.on_validation_batch_end(trainer, None, None, None, batch_idx)
        bar.on_validation_end(trainer, None)

    end = bar.on_train_epoch_end
    monkeypatch.setattr(bar, "on_train_epoch_end", lambda *arguments: (validate(), end(*arguments)))
    run_fit(bar, trainer, epochs=3)
    text = cell.getvalue()
    assert validating == [f"Epoch {epoch}, validating: " for epoch in range(3)]
    assert bar.train_progress_bar.desc == "Epoch 2: "
    # a cell can draw one line again, and knows no way up
    assert "\x1b" not in text and text.count("\n") == 1 and text.endswith("\n") and "Validation" not in text


def test_a_notebook_without_widgets_gets_the_bar_that_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from fulmen.callbacks import progress
    from fulmen.utilities import imports

    monkeypatch.setattr(progress, "sys", SimpleNamespace(stdout=Cell()))
    monkeypatch.setattr(imports, "package_available", lambda name: name != "ipywidgets")
    assert type(default_progress_bar()) is TQDMProgressBar
