from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fulmen.callbacks.progress import ProgressBar, RichProgressBar, TQDMProgressBar, default_progress_bar
from fulmen.callbacks.progress.progress_bar import get_standard_metrics

from .progress_fakes import make_trainer


class Bar(ProgressBar):
    def __init__(self) -> None:
        super().__init__()
        self.shown = True

    def enable(self) -> None:
        self.shown = True

    def disable(self) -> None:
        self.shown = False


def set_up(**changes: Any) -> tuple[Bar, Any]:
    bar = Bar()
    trainer = make_trainer(bar, **changes)
    bar.setup(trainer, None, "fit")
    return bar, trainer


def test_trainer_before_setup() -> None:
    with pytest.raises(TypeError, match="Bar._trainer` reference has not been set yet"):
        _ = Bar().trainer


def test_base_cannot_be_switched() -> None:
    with pytest.raises(NotImplementedError):
        ProgressBar().enable()
    with pytest.raises(NotImplementedError):
        ProgressBar().disable()


@pytest.mark.parametrize("zero", [True, False])
def test_only_rank_zero_shows_a_bar(zero: bool) -> None:
    assert set_up(is_global_zero=zero)[0].shown == zero


def test_total_train_batches() -> None:
    assert set_up()[0].total_train_batches == 10
    assert set_up(num_training_batches=float("inf"))[0].total_train_batches == float("inf")
    assert set_up(max_epochs=-1, max_steps=7, global_step=3)[0].total_train_batches == 4
    # with a limit on epochs the bar shows the whole epoch
    assert set_up(max_epochs=2, max_steps=7)[0].total_train_batches == 10


def test_total_val_batches() -> None:
    bar, trainer = set_up(enable_validation=True, check_val_every_n_epoch=2, current_epoch=1)
    assert bar.total_val_batches == 10
    trainer.num_val_batches = 3
    assert bar.total_val_batches == 3
    trainer.current_epoch = 2
    assert bar.total_val_batches == 0
    trainer.check_val_every_n_epoch = None
    assert bar.total_val_batches == 3
    trainer.enable_validation = False
    assert bar.total_val_batches == 0


def test_totals_of_the_loader_at_hand() -> None:
    bar, trainer = set_up()
    assert bar.has_dataloader_changed(1)
    assert not bar.has_dataloader_changed(1)
    assert bar.total_val_batches_current_dataloader == 6
    trainer.sanity_checking = True
    assert bar.total_val_batches_current_dataloader == 1
    assert bar.has_dataloader_changed(0)
    assert bar.total_val_batches_current_dataloader == 2
    assert bar.total_test_batches_current_dataloader == 5
    assert bar.total_predict_batches_current_dataloader == 7
    bar.reset_dataloader_idx_tracker()
    assert bar.has_dataloader_changed(0)


@pytest.mark.parametrize(
    ("versions", "shown"),
    [
        ([], {}),
        ([None], {}),
        ([""], {}),
        ([3], {"v_num": 3}),
        (["a-long-text"], {"v_num": "text"}),
        ([1, 2, 1], {"v_num": "1_2"}),
    ],
)
def test_version(versions: list[Any], shown: dict[str, Any]) -> None:
    trainer = make_trainer(None, loggers=[SimpleNamespace(version=version) for version in versions])
    assert get_standard_metrics(trainer) == shown


def test_metrics_are_numbers() -> None:
    bar, trainer = set_up(progress_bar_metrics={"a": torch.tensor(1.5), "b": 2.0}, loggers=[SimpleNamespace(version=4)])
    assert bar.get_metrics(trainer, None) == {"v_num": 4, "a": 1.5, "b": 2.0}


def test_a_metric_called_like_a_standard_one_wins_with_a_warning() -> None:
    bar, trainer = set_up(progress_bar_metrics={"v_num": 9.0}, loggers=[SimpleNamespace(version=4)])
    with pytest.warns(UserWarning, match="already tracks a metric with the name.*'v_num'"):
        assert bar.get_metrics(trainer, None) == {"v_num": 9.0}


def test_default(monkeypatch: pytest.MonkeyPatch) -> None:
    from fulmen.utilities import imports

    pytest.importorskip("rich")
    assert type(default_progress_bar()) is RichProgressBar
    monkeypatch.setattr(imports, "requirement_available", lambda requirement: False)
    assert type(default_progress_bar()) is TQDMProgressBar
