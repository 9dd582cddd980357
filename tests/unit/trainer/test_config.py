"""What Trainer's arguments become, and which are refused."""

import inspect
import logging
from datetime import timedelta

import numpy as np
import pytest

import fulmen
from fulmen.errors import NotYet
from fulmen.profilers import AdvancedProfiler, PassThroughProfiler, SimpleProfiler
from fulmen.trainer.config import Config
from fulmen.utilities.enums import GradClipAlgorithmType
from fulmen.utilities.exceptions import MisconfigurationException

DEFAULTS = {n: p.default for n, p in inspect.signature(fulmen.Trainer.__init__).parameters.items() if n != "self"}


def config(**given):
    return Config.from_arguments(**{**DEFAULTS, **given})


def test_the_fields_are_the_arguments_in_their_order():
    fields = list(Config.__dataclass_fields__)
    assert fields[: len(DEFAULTS)] == list(DEFAULTS)
    assert list(DEFAULTS)[LIGHTNING:] == OWN


LIGHTNING = 41
"""Arguments that Lightning has too; ours come after them."""
OWN = ["timeline", "prefetch", "worker_seeding", "nan_policy", "log_axis"]


@pytest.mark.parametrize(("given", "normal"), [("auto", "auto"), ("off", "off"), (0, "off"), (3, 3)])
def test_prefetch(given, normal):
    assert config(prefetch=given).prefetch == normal


@pytest.mark.parametrize(
    ("given", "error"), [("on", ValueError), (-1, ValueError), (True, TypeError), (1.5, TypeError)]
)
def test_prefetch_is_checked(given, error):
    with pytest.raises(error, match=r"Trainer\(prefetch\)"):
        config(prefetch=given)


def test_effective_defaults():
    made = config()
    assert (made.max_epochs, made.max_steps, made.min_epochs, made.min_steps) == (1000, -1, None, None)
    assert (made.limit_train_batches, made.limit_predict_batches, made.overfit_batches) == (1.0, 1.0, 0.0)
    assert (made.val_check_interval, made.val_check_seconds, made.check_val_every_n_epoch) == (1.0, None, 1)
    assert (made.num_sanity_val_steps, made.log_every_n_steps, made.accumulate_grad_batches) == (2, 50, 1)
    assert made.enable_checkpointing and made.enable_progress_bar and made.enable_model_summary
    assert made.fast_dev_run is False and made.detect_anomaly is False and made.default_root_dir is None


# ---- refused ---------------------------------------------------------------------------------------------------------

REFUSED = [
    (MisconfigurationException, "max_epochs", [-2]),
    (TypeError, "max_epochs", [1.5, "3", float("inf")]),
    (MisconfigurationException, "max_steps", [-2]),
    (TypeError, "max_steps", [None, 1.5, "3"]),
    (ValueError, "min_epochs", [-1]),
    (ValueError, "min_steps", [-1]),
    (TypeError, "min_steps", [1.5]),
    (MisconfigurationException, "max_time", ["1 hour", "1:00", ""]),
    (TypeError, "max_time", [5, {"x": 1}, {"days": "x"}]),
    (ValueError, "max_time", [timedelta(-1)]),
    (MisconfigurationException, "limit_train_batches", [-1, 1.5, -0.1, float("nan"), float("inf")]),
    (TypeError, "limit_val_batches", ["3"]),
    (MisconfigurationException, "limit_test_batches", [-1]),
    (MisconfigurationException, "limit_predict_batches", [2.5]),
    (MisconfigurationException, "overfit_batches", [-1, 1.5]),
    (TypeError, "overfit_batches", [None, "x"]),
    (MisconfigurationException, "val_check_interval", [1.2, -1, "1:00", "x"]),
    (ValueError, "val_check_interval", [0, 0.0]),
    (TypeError, "val_check_interval", [[1], {"x": 1}]),
    (MisconfigurationException, "check_val_every_n_epoch", [1.5, "2"]),
    (ValueError, "check_val_every_n_epoch", [0, -1]),
    (ValueError, "num_sanity_val_steps", [-5]),
    (TypeError, "num_sanity_val_steps", [1.5, "x"]),
    (ValueError, "log_every_n_steps", [-1]),
    (TypeError, "log_every_n_steps", [1.5, "x"]),
    (ValueError, "accumulate_grad_batches", [0, -1]),
    (TypeError, "accumulate_grad_batches", [None, "2", 2.5, {0: 2}]),
    (ValueError, "gradient_clip_val", [-1, float("nan")]),
    (TypeError, "gradient_clip_val", ["1", [1]]),
    (MisconfigurationException, "gradient_clip_algorithm", ["x"]),
    (TypeError, "gradient_clip_algorithm", [1]),
    (MisconfigurationException, "reload_dataloaders_every_n_epochs", [-1, 1.5, "x", None]),
    (MisconfigurationException, "fast_dev_run", [-1]),
    (TypeError, "fast_dev_run", [1.5]),
    (ValueError, "fast_dev_run", ["x"]),
    (TypeError, "detect_anomaly", ["True"]),
    (TypeError, "enable_progress_bar", ["no"]),
    (TypeError, "barebones", ["x"]),
    (TypeError, "default_root_dir", [3]),
    (MisconfigurationException, "profiler", ["x"]),
    (TypeError, "profiler", [3]),
    (NotYet, "model_registry", ["name"]),
    (ValueError, "nan_policy", ["stop", ""]),
    (TypeError, "nan_policy", [None, True, 1]),
    (ValueError, "log_axis", ["step", "time"]),
    (TypeError, "log_axis", [None, 1]),
]


@pytest.mark.parametrize(
    ("kind", "name", "value"), [(kind, name, value) for kind, name, values in REFUSED for value in values]
)
def test_refused_values_name_the_argument(kind, name, value):
    with pytest.raises(kind) as caught:
        config(**{name: value})
    assert type(caught.value) is kind
    assert name in str(caught.value)


def test_a_share_of_an_epoch_needs_epochs():
    with pytest.raises(MisconfigurationException, match="check_val_every_n_epoch=None"):
        config(val_check_interval=0.5, check_val_every_n_epoch=None)
    assert config(val_check_interval=3, check_val_every_n_epoch=None).val_check_interval == 3
    assert config(check_val_every_n_epoch=None).check_val_every_n_epoch is None
    assert config(val_check_interval="00:00:00:10", check_val_every_n_epoch=None).val_check_seconds == 10


@pytest.mark.parametrize("profiler", ["PyTorch", "xla"])
def test_profilers_say_not_yet(profiler):
    with pytest.raises(NotYet, match="Profiler"):
        config(profiler=profiler)


def test_profilers_by_name_and_by_object():
    assert type(config(profiler="simple").profiler) is SimpleProfiler
    assert type(config(profiler="Advanced").profiler) is AdvancedProfiler
    own = SimpleProfiler()
    assert config(profiler=own).profiler is own


def test_the_profiler_that_measures_nothing_is_fine():
    assert isinstance(config(profiler=PassThroughProfiler()).profiler, PassThroughProfiler)


# ---- normal forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, 1.0), (0, 0), (1, 1), (0.0, 0.0), (1.0, 1.0), (2.0, 2), (0.25, 0.25), (np.int64(3), 3)],
)
def test_limits(value, expected):
    for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"):
        made = getattr(config(**{name: value}), name)
        assert made == expected and type(made) is type(expected)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("00:00:00:10", 10),
        ("01:00:01:00", 86460),
        ("00:25:61:00", 25 * 3600 + 61 * 60),
        (timedelta(minutes=2), 120),
        ({"hours": 1, "seconds": 1}, 3601),
        (timedelta(0), 0),
    ],
)
def test_times(value, seconds):
    made = config(val_check_interval=value)
    assert (made.val_check_interval, made.val_check_seconds) == (None, seconds)
    assert config(max_time=value).max_time == timedelta(seconds=seconds)


def test_the_end_of_a_run():
    assert (config().max_epochs, config().max_epochs_missing) == (1000, True)
    assert (config(max_epochs=None, max_steps=5).max_epochs, config(max_steps=5).max_epochs_missing) == (-1, False)
    assert config(max_time="00:00:00:01").max_epochs == -1
    assert config(max_steps=0).max_epochs == -1
    assert (config(max_epochs=3).max_epochs, config(max_epochs=3).max_epochs_missing) == (3, False)
    assert config(callbacks=[fulmen.callbacks.Timer("00:00:00:01")]).max_epochs == -1
    assert config(callbacks=fulmen.callbacks.Timer("00:00:00:01")).max_epochs == -1
    assert config(min_steps=3).min_epochs == 1
    assert config(min_steps=3, min_epochs=2).min_epochs == 2


def test_max_epochs_is_open_until_a_training_begins(tmp_path):
    trainer = fulmen.Trainer(max_steps=3, logger=False, enable_checkpointing=False)
    assert trainer.max_epochs is None
    trainer.fit_loop.max_epochs = 2
    assert trainer.max_epochs == 2
    open_limit = config()
    assert open_limit.max_epochs_open and not config(max_epochs=3).max_epochs_open
    with pytest.warns(UserWarning):
        open_limit.warn_at_fit()
    assert not open_limit.max_epochs_open


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("limit_train_batches", 1, "1 batch per epoch"),
        ("limit_train_batches", 1.0, "100% of the batches per epoch"),
        ("limit_val_batches", 1, "1 batch will be used"),
        ("overfit_batches", 1.0, "100% of the batches will be used"),
        ("val_check_interval", 1, "after every batch"),
        ("val_check_interval", 1.0, "at the end of the training epoch"),
        ("detect_anomaly", True, "slows"),
        ("limit_train_batches", 2, ""),
        ("limit_train_batches", None, ""),
        ("val_check_interval", 0.5, ""),
    ],
)
def test_what_one_means_is_logged(caplog, name, value, text):
    with caplog.at_level(logging.INFO):
        config(**{name: value})
    assert (text in caplog.text and f"{name}={value}" in caplog.text) if text else not caplog.text


def test_the_missing_limit_is_told_when_a_training_starts():
    with pytest.warns(UserWarning, match="`max_epochs` was not set"):
        config().warn_at_fit()


def test_a_given_limit_is_not_warned_about(recwarn):
    config(max_epochs=2).warn_at_fit()
    config(max_steps=2).warn_at_fit()
    assert not recwarn.list


def test_numbers_of_other_libraries():
    made = config(max_epochs=np.int64(3), accumulate_grad_batches=2.0, num_sanity_val_steps=float("inf"))
    assert (made.max_epochs, made.accumulate_grad_batches, made.num_sanity_val_steps) == (3, 2, -1)
    assert type(made.max_epochs) is int and type(made.accumulate_grad_batches) is int
    assert config(gradient_clip_val=np.float32(0.5)).gradient_clip_val == 0.5
    assert config(detect_anomaly=np.bool_(True)).detect_anomaly is True


@pytest.mark.parametrize("text", ["norm", "NORM", GradClipAlgorithmType.NORM])
def test_clip_algorithm(text):
    assert config(gradient_clip_algorithm=text).gradient_clip_algorithm is GradClipAlgorithmType.NORM


def test_root_dir(tmp_path):
    assert config(default_root_dir=tmp_path).default_root_dir == str(tmp_path)


# ---- modes -----------------------------------------------------------------------------------------------------------


def test_fast_dev_run_overrides_what_limits_a_run():
    made = config(
        fast_dev_run=2,
        max_epochs=9,
        max_steps=50,
        limit_val_batches=0.1,
        val_check_interval="00:00:00:10",
        check_val_every_n_epoch=4,
        num_sanity_val_steps=5,
        min_epochs=3,
        log_every_n_steps=7,
    )
    assert (made.fast_dev_run, made.max_epochs, made.max_steps, made.num_sanity_val_steps) == (2, 1, 2, 0)
    assert {made.limit_train_batches, made.limit_val_batches, made.limit_test_batches, made.limit_predict_batches} == {
        2
    }
    assert (made.val_check_interval, made.val_check_seconds, made.check_val_every_n_epoch) == (1.0, None, 1)
    assert (made.min_epochs, made.log_every_n_steps) == (3, 7)


@pytest.mark.parametrize(
    ("value", "shown"), [(True, True), (1, True), (5, 5), (False, False), (0, False), (None, False)]
)
def test_fast_dev_run_values(value, shown):
    made = config(fast_dev_run=value)
    assert made.fast_dev_run is shown
    assert made.max_steps == (int(value) if value else -1)


def test_fast_dev_run_is_announced(caplog):
    with caplog.at_level(logging.INFO):
        config(fast_dev_run=True)
    assert "will run the requested loop using 1 batch(es)" in caplog.text


def test_overfit_beats_the_limits_of_training_and_validation():
    made = config(overfit_batches=3, limit_train_batches=5, limit_val_batches=2, limit_test_batches=7)
    assert (made.limit_train_batches, made.limit_val_batches, made.limit_test_batches) == (3, 3, 7)
    assert config(overfit_batches=3, fast_dev_run=2).limit_train_batches == 3
    assert config(overfit_batches=0.0, limit_train_batches=5).limit_train_batches == 5


def test_barebones():
    made = config(barebones=True)
    assert made.logger is False and not made.enable_checkpointing and not made.enable_progress_bar
    assert not made.enable_model_summary and (made.log_every_n_steps, made.num_sanity_val_steps) == (0, 0)
    config(barebones=True, logger=False, log_every_n_steps=0, num_sanity_val_steps=0, fast_dev_run=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logger", True),
        ("logger", []),
        ("enable_checkpointing", True),
        ("enable_progress_bar", True),
        ("enable_model_summary", True),
        ("log_every_n_steps", 1),
        ("num_sanity_val_steps", 2),
        ("num_sanity_val_steps", -1),
        ("fast_dev_run", True),
        ("detect_anomaly", True),
        ("profiler", "simple"),
    ],
)
def test_barebones_refuses_what_costs_time(name, value):
    with pytest.raises(ValueError, match=f"barebones=True.*{name}"):
        config(barebones=True, **{name: value})


@pytest.mark.parametrize(("given", "error"), [("per batch", ValueError), (True, TypeError), (None, TypeError)])
def test_worker_seeding_is_checked(given, error):
    with pytest.raises(error, match=r"Trainer\(worker_seeding\)"):
        config(worker_seeding=given)


def test_worker_seeding_by_batch_is_the_default():
    assert config().worker_seeding == "batch"
    assert config(worker_seeding="stock").worker_seeding == "stock"
