"""The two modes that switch many arguments at once: ``barebones`` and ``fast_dev_run``."""

from __future__ import annotations

from typing import Any

from fulmen import errors
from fulmen.trainer import config_values as values
from fulmen.utilities.rank_zero import rank_zero_info

_BAREBONES = {
    # argument → (values that agree with barebones, value that takes effect, what costs time)
    "logger": ((None, False), False, "Logging"),
    "enable_checkpointing": ((None, False), False, "Checkpointing"),
    "enable_progress_bar": ((None, False), False, "The progress bar"),
    "enable_model_summary": ((None, False), False, "The model summary"),
    "log_every_n_steps": ((None, 0), 0, "Logging"),
    "num_sanity_val_steps": ((None, 0), 0, "Sanity checking"),
    "fast_dev_run": ((False, 0), False, "A development run, which measures nothing,"),
    "detect_anomaly": ((False, None), False, "Anomaly detection"),
    "profiler": ((None,), None, "Profiling"),
}


def apply_barebones(given: dict[str, Any]) -> None:
    """Switches off, in place, what costs time beside the training.

    Raises:
        ValueError: an argument asks for just that.
    """
    for name, (agreeing, effective, what) in _BAREBONES.items():
        value = given[name]
        if not any(value is a or (type(value) is type(a) and value == a) for a in agreeing):
            raise errors.value_error(
                f"Trainer(barebones=True, {name})",
                f"no `{name}`: {what[0].lower()}{what[1:]} can impact raw speed, so barebones switches it off",
                value,
                f"Remove `{name}={errors.show(value)}`, or `barebones=True`",
            )
        given[name] = effective
    rank_zero_info(
        "`Trainer(barebones=True)`: for measuring raw speed, these are off: logger, checkpoints, progress bar, model "
        "summary, sanity check, profiler, anomaly detection, and `self.log`."
    )


def apply_fast_dev_run(given: dict[str, Any]) -> None:
    """Limits, in place, everything to so many batches, once; files are suppressed where loggers and callbacks are made.

    Raises:
        MisconfigurationException: negative.
        ValueError, TypeError: no number.
    """
    asked = given["fast_dev_run"]
    if isinstance(asked, str):
        raise errors.value_error("Trainer(fast_dev_run)", "True, False or a number of batches", asked, "Pass True")
    batches = 0 if asked is None else values.integer("fast_dev_run", asked)
    if batches < 0:
        raise errors.misconfiguration(
            "Trainer(fast_dev_run)",
            "True, False or a number of batches",
            asked,
            f"fast_dev_run={asked} is not a valid configuration. It should be >= 0",
        )
    given["fast_dev_run"] = bool(batches) if batches < 2 else batches
    if not batches:
        return
    for name in (
        "limit_train_batches",
        "limit_val_batches",
        "limit_test_batches",
        "limit_predict_batches",
        "max_steps",
    ):
        given[name] = batches
    given.update(max_epochs=1, max_epochs_missing=False, max_epochs_open=False, num_sanity_val_steps=0)
    given.update(val_check_interval=1.0, val_check_seconds=None, check_val_every_n_epoch=1)
    rank_zero_info(
        f"Running in `fast_dev_run` mode: will run the requested loop using {batches} batch(es). "
        "Logging and checkpointing is suppressed."
    )


_EDGES = {
    # argument → (what 1 means, what 1.0 means)
    "limit_train_batches": ("1 batch per epoch will be used", "100% of the batches per epoch will be used"),
    "limit_val_batches": ("1 batch will be used", "100% of the batches will be used"),
    "limit_test_batches": ("1 batch will be used", "100% of the batches will be used"),
    "limit_predict_batches": ("1 batch will be used", "100% of the batches will be used"),
    "overfit_batches": ("1 batch will be used", "100% of the batches will be used"),
    "val_check_interval": (
        "validation will run after every batch",
        "validation will run at the end of the training epoch",
    ),
}


def announce_edge_values(given: dict[str, Any]) -> None:
    """Says what 1 or 1.0 means, the two values easily taken for each other; and that anomaly detection is on."""
    for name, (one, whole) in _EDGES.items():
        value = given[name]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value == 1:
            meaning = one if isinstance(value, int) else whole
            rank_zero_info(f"`Trainer({name}={value})` was configured so {meaning}.")
    if given["detect_anomaly"] is True and not given["barebones"]:
        rank_zero_info("`Trainer(detect_anomaly=True)` slows training down a lot: use it to find a mistake only.")
