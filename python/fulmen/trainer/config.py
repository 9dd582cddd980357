"""`Config`: the arguments of `Trainer`, checked once, in their normal form.

What needs torch's devices (accelerator, strategy, devices, precision, plugins, …) passes through untouched to
`fulmen.trainer.devices`; what needs objects (loggers, callbacks) is looked at where they are put together.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from fulmen import errors
from fulmen.trainer import config_values as values
from fulmen.trainer.config_modes import announce_edge_values, apply_barebones, apply_fast_dev_run
from fulmen.utilities.rank_zero import rank_zero_warn
from fulmen.utilities.warnings import PossibleUserWarning

PROFILERS = {
    "simple": "SimpleProfiler",
    "advanced": "AdvancedProfiler",
    "pytorch": "PyTorchProfiler",
    "xla": "XLAProfiler",
}
DEFAULT_MAX_EPOCHS = 1000
#: What ``nan_policy`` and ``log_axis`` may be.
POLICIES = ("ignore", "warn", "raise", "skip_step")
AXES = ("global_step", "samples", "epoch")


@dataclass
class Config:
    """The arguments of `Trainer`, in its order, and what follows from them.

    `None` remains only where it means something of its own (``min_epochs``, ``check_val_every_n_epoch``, …).
    """

    accelerator: Any
    strategy: Any
    devices: Any
    num_nodes: Any
    precision: Any
    logger: Any
    callbacks: Any
    fast_dev_run: int | bool
    max_epochs: int
    min_epochs: int | None
    max_steps: int
    min_steps: int | None
    max_time: timedelta | None
    limit_train_batches: int | float
    limit_val_batches: int | float
    limit_test_batches: int | float
    limit_predict_batches: int | float
    overfit_batches: int | float
    val_check_interval: int | float | None
    check_val_every_n_epoch: int | None
    num_sanity_val_steps: int
    log_every_n_steps: int
    enable_checkpointing: bool
    enable_progress_bar: bool
    enable_model_summary: bool
    accumulate_grad_batches: int
    gradient_clip_val: int | float | None
    gradient_clip_algorithm: Any
    deterministic: Any
    benchmark: Any
    inference_mode: bool
    use_distributed_sampler: Any
    profiler: Any
    detect_anomaly: bool
    barebones: bool
    plugins: Any
    sync_batchnorm: Any
    reload_dataloaders_every_n_epochs: int
    default_root_dir: str | None
    enable_autolog_hparams: bool
    model_registry: None
    timeline: bool = True
    prefetch: int | str = "auto"
    worker_seeding: Literal["batch", "stock"] = "batch"
    nan_policy: str = "ignore"
    log_axis: str = "global_step"

    val_check_seconds: float | None = None
    """Seconds between validations, where ``val_check_interval`` is a time (and the field of that name None)."""

    resume_from_checkpoint: Any = None
    """A checkpoint for `Trainer.fit` where it is given no ``ckpt_path`` (an argument of Lightning 1.x)."""

    max_epochs_missing: bool = False
    """Whether ``max_epochs`` is the default of 1000 because nothing was said about the end of a run."""

    max_epochs_open: bool = False
    """Whether ``max_epochs`` was not given and no training has begun: until then `Trainer.max_epochs` is None."""

    @classmethod
    def from_arguments(cls, **given: Any) -> Config:
        """Checks what `Trainer` was given.

        Args:
            given: all arguments by name, with the signature's defaults where nothing was given.

        Raises:
            MisconfigurationException, ValueError, TypeError: an argument is wrong, or contradicts another.
            NotYet: a profiler that is not there yet, or a model registry.
        """
        given = {"timeline": True, **given}
        announce_edge_values(given)
        given["barebones"] = values.flag("barebones", given["barebones"])
        if given["barebones"]:
            apply_barebones(given)
        _check_lengths(given)
        _check_batches(given)
        _check_validation(given)
        _check_optimization(given)
        _check_rest(given)
        # after the others: it overrides them, and `overfit_batches` in turn overrides its limits
        apply_fast_dev_run(given)
        if given["overfit_batches"] > 0:
            given["limit_train_batches"] = given["limit_val_batches"] = given["overfit_batches"]
        return cls(**given)

    def warn_at_fit(self) -> None:
        """Says what a training will do that the user may not have meant. Called when one starts."""
        self.max_epochs_open = False
        if self.max_epochs_missing:
            rank_zero_warn(
                f"`max_epochs` was not set. Setting it to {DEFAULT_MAX_EPOCHS} epochs. To train without an epoch "
                "limit, set `max_epochs=-1`.",
                category=PossibleUserWarning,
            )


def _check_lengths(given: dict[str, Any]) -> None:
    """Epochs, steps and time."""
    for name, meaning in (("max_epochs", "epochs"), ("max_steps", "optimizer steps")):
        value = given[name]
        if value is None and name == "max_epochs":
            continue
        number = values.integer(name, value)
        if number < -1:
            raise errors.misconfiguration(
                f"Trainer({name})",
                f"a non-negative integer, or -1 for any number of {meaning}",
                value,
                f"`{name}` must be a non-negative integer or -1. Pass -1 if nothing else than a stop flag, "
                "`max_time` or another limit shall end the run",
            )
        given[name] = number
    for name in ("min_epochs", "min_steps"):
        if given[name] is not None:
            given[name] = values.at_least(name, given[name], 0, "the least before a run may stop early")
    if given["max_time"] is not None:
        given["max_time"] = values.duration("max_time", given["max_time"])
    if given["min_steps"] is not None and given["min_epochs"] is None:
        given["min_epochs"] = 1
    given["max_epochs_missing"], given["max_epochs_open"] = False, given["max_epochs"] is None
    if given["max_epochs"] is None:
        limited = given["max_steps"] != -1 or given["max_time"] is not None or _has_timer(given["callbacks"])
        given["max_epochs"] = -1 if limited else DEFAULT_MAX_EPOCHS
        given["max_epochs_missing"] = not limited


def _has_timer(callbacks: Any) -> bool:
    module = sys.modules.get("fulmen.callbacks.timer")
    if module is None or callbacks is None:
        return False
    several = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
    return any(isinstance(callback, module.Timer) for callback in several)


def _check_batches(given: dict[str, Any]) -> None:
    """How much of the data is used."""
    for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"):
        given[name] = values.limit(name, given[name])
    if given["overfit_batches"] is None:
        raise errors.type_error("Trainer(overfit_batches)", "a number", None, "Pass 0.0, or leave it out")
    given["overfit_batches"] = values.limit("overfit_batches", given["overfit_batches"])
    reload = given["reload_dataloaders_every_n_epochs"]
    try:
        given["reload_dataloaders_every_n_epochs"] = values.at_least("reload_dataloaders_every_n_epochs", reload, 0, "")
    except (TypeError, ValueError):
        raise errors.misconfiguration(
            "Trainer(reload_dataloaders_every_n_epochs)",
            "an int >= 0",
            reload,
            f"It should be an int >= 0, got {reload!r}",
        ) from None


def _check_validation(given: dict[str, Any]) -> None:
    """When validation runs, and the sanity check before."""
    every, interval = given["check_val_every_n_epoch"], given["val_check_interval"]
    if every is not None:
        try:
            number = values.integer("check_val_every_n_epoch", every)
        except TypeError:
            raise errors.misconfiguration(
                "Trainer(check_val_every_n_epoch)",
                "an integer (or None, to count batches across epochs)",
                every,
                "`check_val_every_n_epoch` should be an integer: pass 1 for every epoch",
            ) from None
        given["check_val_every_n_epoch"] = values.at_least(
            "check_val_every_n_epoch", number, 1, "validation runs in every n-th epoch"
        )
    batches, seconds = values.validation_interval(interval)
    if every is None and isinstance(batches, float) and interval is not None:
        raise errors.misconfiguration(
            "Trainer(val_check_interval)",
            "a number of batches or a time, since batches are counted across epochs",
            interval,
            "`val_check_interval` should be an integer or a time-based duration (str 'DD:HH:MM:SS', "
            "datetime.timedelta, or dict kwargs for timedelta) when `check_val_every_n_epoch=None`. Or set `check_val_every_n_epoch`",
        )
    given["val_check_interval"], given["val_check_seconds"] = batches, seconds
    sanity = given["num_sanity_val_steps"]
    if sanity is None:
        given["num_sanity_val_steps"] = 2
    else:
        endless = isinstance(sanity, float) and sanity == float("inf")
        given["num_sanity_val_steps"] = (
            -1 if endless else values.at_least("num_sanity_val_steps", sanity, -1, "validation batches (-1: all)")
        )


def _check_optimization(given: dict[str, Any]) -> None:
    """Accumulation and clipping."""
    if isinstance(given["accumulate_grad_batches"], dict):
        raise errors.type_error(
            "Trainer(accumulate_grad_batches)",
            "an integer",
            given["accumulate_grad_batches"],
            "Pass `callbacks=[GradientAccumulationScheduler(scheduling={...})]`",
        )
    given["accumulate_grad_batches"] = values.at_least(
        "accumulate_grad_batches", given["accumulate_grad_batches"], 1, "batches per optimizer step", whole_floats=True
    )
    given["gradient_clip_val"] = values.clip_value(given["gradient_clip_val"])
    given["gradient_clip_algorithm"] = values.clip_algorithm(given["gradient_clip_algorithm"])


def _check_rest(given: dict[str, Any]) -> None:
    """Switches, the log interval, folders, and what is not there yet."""
    for name in ("inference_mode", "detect_anomaly", "enable_autolog_hparams", "timeline"):
        given[name] = values.flag(name, given[name])
    for name in ("enable_checkpointing", "enable_progress_bar", "enable_model_summary"):
        given[name] = values.flag(name, given[name], default=True)
    rows = given["log_every_n_steps"]
    given["log_every_n_steps"] = (
        50 if rows is None else values.at_least("log_every_n_steps", rows, 0, "optimizer steps per row (0: no rows)")
    )
    given["default_root_dir"] = values.root_dir(given["default_root_dir"])
    given["profiler"] = _profiler(given["profiler"])
    if given["model_registry"] not in (None, ""):
        raise errors.NotYet(
            f"Trainer(model_registry={given['model_registry']!r})",
            "Save with ModelCheckpoint, and upload the file with your registry's client",
        )
    given["model_registry"] = None
    given["prefetch"] = values.prefetch(given.get("prefetch", "auto"))
    given["worker_seeding"] = values.one_of("worker_seeding", given.get("worker_seeding", "batch"), ("batch", "stock"))
    given["nan_policy"] = values.one_of("nan_policy", given.get("nan_policy", "ignore"), POLICIES)
    given["log_axis"] = values.one_of("log_axis", given.get("log_axis", "global_step"), AXES)


def _profiler(profiler: Any) -> Any:
    """The profiler that is meant, None for none."""
    from fulmen import profilers

    if profiler is None or isinstance(profiler, profilers.Profiler):
        return profiler
    if not isinstance(profiler, str):
        raise errors.type_error(
            "Trainer(profiler)", f"a Profiler, or one of {list(PROFILERS)}", profiler, "Subclass `Profiler`"
        )
    kind = PROFILERS.get(profiler.lower())
    if kind is None:
        raise errors.misconfiguration(
            "Trainer(profiler)", f"a Profiler, or one of {list(PROFILERS)}", profiler, "Pass one of these names"
        )
    return getattr(profilers, kind)()
