"""Trainer's arguments: what Lightning accepts is accepted alike, what it refuses is refused by the same type.

Where fulmen is stricter on purpose (values that Lightning takes and then crashes on, or ignores), the value stands in
`STRICTER` instead.
"""

import logging
import warnings
from datetime import timedelta

import pytest

import fulmen
from fulmen.errors import NotYet

real = pytest.importorskip("lightning.pytorch", reason="needs the real Lightning to compare with")

QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}
ATTRIBUTES = (
    "max_epochs max_steps min_steps fast_dev_run limit_train_batches limit_val_batches limit_test_batches "
    "limit_predict_batches overfit_batches val_check_interval check_val_every_n_epoch num_sanity_val_steps "
    "log_every_n_steps accumulate_grad_batches gradient_clip_val gradient_clip_algorithm barebones "
    "reload_dataloaders_every_n_epochs enable_autolog_hparams default_root_dir"
).split()

SAME = {
    "max_epochs": [-2, -1, 0, 3, None, True],
    "min_epochs": [0, 3],
    "max_steps": [-2, -1, 0, 3, None, "3"],
    "min_steps": [0, 5],
    "max_time": ["1:00", "00:00:00:10", "1 hour", timedelta(1), {"hours": 1}, {"x": 1}, {"days": "x"}],
    "limit_train_batches": [-1, 0, 0.0, 1, 1.0, 2.0, 1.5, 0.3, "3", True, float("nan"), None],
    "limit_val_batches": [-0.5, 3.0, 2],
    "limit_test_batches": [-1, 0.5],
    "limit_predict_batches": [1.5, 4],
    "overfit_batches": [-1, 0, 0.0, 1, 1.0, 2.0, 1.5, 0.3, None, "x"],
    "fast_dev_run": [-1, 0, 1, 5, True, False, "x"],
    "val_check_interval": [1.0, 0.5, 1.2, -1, 3, 2.0, "1:00", "00:00:00:10", timedelta(1), {"hours": 1}, {"x": 1}, [1]],
    "check_val_every_n_epoch": [1.5, None, 2, "2"],
    "num_sanity_val_steps": [-1, 0, 3, None],
    "log_every_n_steps": [0, 1, None],
    "accumulate_grad_batches": [2, 2.0],
    "gradient_clip_val": [0, 0.5, "1", None, [1]],
    "gradient_clip_algorithm": ["norm", "value", "NORM", "x", None],
    "reload_dataloaders_every_n_epochs": [-1, 0, 1, 1.5, "x", None],
    "default_root_dir": [3, "/tmp/x", None],
    "profiler": ["x", None],
    "detect_anomaly": [True, False],
    "nope": [1],
}
STRICTER = {
    "max_epochs": [1.5, "3", float("inf")],
    "min_epochs": [-2, 1.5],
    "min_steps": [-1, 1.5],
    "val_check_interval": [0, 0.0],
    "check_val_every_n_epoch": [0, -1],
    "num_sanity_val_steps": [-5, 1.5, "x"],
    "log_every_n_steps": [-1, 1.5, "x"],
    "accumulate_grad_batches": [0, -1, None, "2"],
    "gradient_clip_val": [-1],
    "detect_anomaly": ["x"],
    "enable_autolog_hparams": ["x"],
    "profiler": [3],
    "model_registry": ["x"],
}
TOGETHER = [
    {"val_check_interval": 0.5, "check_val_every_n_epoch": None},
    {"val_check_interval": 1.0, "check_val_every_n_epoch": None},
    {"val_check_interval": "00:00:00:10", "check_val_every_n_epoch": None},
    {"fast_dev_run": 2, "max_epochs": 9, "limit_val_batches": 0.1, "overfit_batches": 3, "num_sanity_val_steps": 5},
    {"overfit_batches": 3, "limit_train_batches": 5, "limit_test_batches": 7},
    *(
        {"barebones": True, **more}
        for more in ({"log_every_n_steps": 1}, {"num_sanity_val_steps": 2}, {"fast_dev_run": 1})
    ),
    *(
        {"barebones": True, **more}
        for more in ({}, {"detect_anomaly": True}, {"profiler": "simple"}, {"fast_dev_run": 0})
    ),
]


def outcome(package, arguments):
    """The trainer's attributes, or the exception's type."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = package.Trainer(**{**QUIET, **arguments})
    except Exception as error:
        return type(error).__name__
    finally:
        logging.disable(level)
    values = {name: getattr(trainer, name, "no such attribute") for name in ATTRIBUTES}
    return {**values, "callbacks": [type(c).__name__ for c in trainer.callbacks]}


def cases(table):
    return [(name, value) for name, values in table.items() for value in values]


@pytest.mark.parametrize(("name", "value"), cases(SAME))
def test_one_argument(name, value):
    assert outcome(fulmen, {name: value}) == outcome(real, {name: value})


@pytest.mark.parametrize("arguments", TOGETHER, ids=str)
def test_several_arguments(arguments):
    assert outcome(fulmen, arguments) == outcome(real, arguments)


@pytest.mark.parametrize(("name", "value"), cases(STRICTER))
def test_stricter_on_purpose(name, value):
    assert isinstance(outcome(real, {name: value}), dict)
    assert outcome(fulmen, {name: value}) in ("ValueError", "TypeError", NotYet.__name__)


def test_environment(monkeypatch):
    for name, value in (
        ("MAX_EPOCHS", "7"),
        ("LIMIT_TRAIN_BATCHES", "0.5"),
        ("FAST_DEV_RUN", ""),
        ("MAX_TIME", "00:00:00:10"),
    ):
        monkeypatch.setenv(f"PL_TRAINER_{name}", value)
    assert outcome(fulmen, {}) == outcome(real, {})
    assert outcome(fulmen, {"max_epochs": 3}) == outcome(real, {"max_epochs": 3})
