"""`Trainer` arguments of Lightning 1.x: translated where they have one clear meaning, explained where they have none.

One table, `TRANSLATIONS`: old name → function from the old value to the new arguments. The rest is in `GONE`: old name
→ what to write instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from fulmen import errors
from fulmen.utilities.rank_zero import rank_zero_deprecation

RESUME: Final = "resume_from_checkpoint"

NewArguments = dict[str, Any]


def translate(given: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Replaces 1.x arguments by today's, with one deprecation warning each.

    Args:
        given: arguments by name.
        known: the names that `Trainer` takes.

    Returns:
        The arguments, all of them known.

    Raises:
        TypeError: a name that never existed, one without translation, or one that contradicts another argument.
    """
    known = frozenset(known)
    arguments = {name: value for name, value in given.items() if name in known}
    for name, value in given.items():
        if name in known:
            continue
        if name in GONE:
            raise errors.removed(f"Trainer({name})", GONE[name])
        if name not in TRANSLATIONS:
            raise _unknown(name, known)
        new = TRANSLATIONS[name](value)
        rank_zero_deprecation(
            f"`Trainer({name}={errors.show(value)})` is deprecated, since Lightning 2.0 removed it. {_new_form(new)}"
        )
        for key, item in new.items():
            if key == "callbacks":
                arguments[key] = [*_as_list(arguments.get(key)), *item]
            elif key in arguments and arguments[key] != item:
                raise errors.type_error(
                    f"Trainer({name})",
                    f"nothing, since `{key}` is given too",
                    value,
                    f"Keep `Trainer({key}={errors.show(arguments[key])})` alone",
                )
            else:
                arguments[key] = item
    return arguments


def _unknown(name: str, known: frozenset[str]) -> TypeError:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return errors.type_error(
        "Trainer()",
        "only arguments that it knows (got an unexpected keyword argument)",
        errors.Words(f"`{name}`"),
        f"Did you mean `{close[0]}`?" if close else "Remove it; `help(fulmen.Trainer)` lists the arguments",
    )


def _as_list(callbacks: Any) -> list[Any]:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]


def _new_form(new: NewArguments) -> str:
    if not new:
        return "Remove it: it changes nothing."
    if RESUME in new:
        return f"Use `trainer.fit(model, ckpt_path={_shown(new[RESUME])})`."
    return f"Use `Trainer({', '.join(f'{name}={_shown(value)}' for name, value in new.items())})`."


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return repr(value) if isinstance(value, (str, int, float, type(None))) else f"{type(value).__name__}(...)"


# ---- translations ----------------------------------------------------------------------------------------------------


def _gpus(value: Any) -> NewArguments:
    if value is None:
        return {}
    if value in (0, "0", "") or (isinstance(value, (list, tuple)) and not value):
        return {"accelerator": "cpu", "devices": 1}
    return {"accelerator": "gpu", "devices": list(value) if isinstance(value, tuple) else value}


def _tpu_cores(value: Any) -> NewArguments:
    return {} if value is None else {"accelerator": "tpu", "devices": value}


def _num_processes(value: Any) -> NewArguments:
    return {"accelerator": "cpu", "devices": value}


def _progress_bar_refresh_rate(value: Any) -> NewArguments:
    from fulmen.callbacks.progress import TQDMProgressBar

    if value is None:
        return {}
    return {"enable_progress_bar": False} if value == 0 else {"callbacks": [TQDMProgressBar(refresh_rate=int(value))]}


def _process_position(value: Any) -> NewArguments:
    from fulmen.callbacks.progress import TQDMProgressBar

    return {"callbacks": [TQDMProgressBar(process_position=int(value))]} if value else {}


def _checkpoint_callback(value: Any) -> NewArguments:
    if value is None or isinstance(value, bool):
        return {"enable_checkpointing": True if value is None else value}
    return {"callbacks": _as_list(value)}


def _weights_summary(value: Any) -> NewArguments:
    from fulmen.callbacks.model_summary import ModelSummary

    if value is None:
        return {"enable_model_summary": False}
    if value not in ("top", "full"):
        raise errors.type_error(
            "Trainer(weights_summary)", "'top', 'full' or None", value, "Use ModelSummary(max_depth=1)"
        )
    return {"callbacks": [ModelSummary(max_depth=1 if value == "top" else -1)]}


def _distributed_backend(value: Any) -> NewArguments:
    if value is None:
        return {}
    if value in ("dp", "ddp2", "horovod"):
        raise errors.removed(f"Trainer(distributed_backend={value!r})", "Use `Trainer(strategy='ddp')`")
    if value == "ddp_cpu":
        return {"accelerator": "cpu", "strategy": "ddp_spawn"}
    return {"strategy": value}


def _renamed(new: str) -> Callable[[Any], NewArguments]:
    return lambda value: {} if value is None else {new: value}


def _only(name: str, harmless: tuple[Any, ...], cure: str) -> Callable[[Any], NewArguments]:
    """An argument whose default means nothing special; any other value is gone."""

    def check(value: Any) -> NewArguments:
        if any(value is one or value == one for one in harmless):
            return {}
        raise errors.removed(f"Trainer({name}={errors.show(value)})", cure)

    return check


_TUNER = "Use `Tuner(trainer).{}(model)` of `fulmen.tuner`, or the callback `{}` of `fulmen.callbacks`"

TRANSLATIONS: Final[dict[str, Callable[[Any], NewArguments]]] = {
    "gpus": _gpus,
    "tpu_cores": _tpu_cores,
    "num_processes": _num_processes,
    "distributed_backend": _distributed_backend,
    "progress_bar_refresh_rate": _progress_bar_refresh_rate,
    "process_position": _process_position,
    "checkpoint_callback": _checkpoint_callback,
    "weights_summary": _weights_summary,
    # kept under its own name: `Trainer.fit` takes it where no `ckpt_path` is given
    RESUME: _renamed(RESUME),
    "replace_sampler_ddp": _renamed("use_distributed_sampler"),
    "terminate_on_nan": _renamed("detect_anomaly"),
    "reload_dataloaders_every_epoch": lambda value: {"reload_dataloaders_every_n_epochs": int(bool(value))},
    "auto_lr_find": _only("auto_lr_find", (None, False), _TUNER.format("lr_find", "LearningRateFinder")),
    "auto_scale_batch_size": _only(
        "auto_scale_batch_size", (None, False), _TUNER.format("scale_batch_size", "BatchSizeFinder")
    ),
    "auto_select_gpus": _only(
        "auto_select_gpus", (None, False), "Use `devices=find_usable_cuda_devices(2)` of `fulmen.accelerators`"
    ),
    "stochastic_weight_avg": _only(
        "stochastic_weight_avg", (None, False), "Use `callbacks=[StochasticWeightAveraging(swa_lrs=1e-2)]`"
    ),
    "amp_backend": _only("amp_backend", (None, "native"), "Use `Trainer(precision='16-mixed')`"),
    "amp_level": _only("amp_level", (None,), "Use `Trainer(precision='16-mixed')`"),
    "track_grad_norm": _only(
        "track_grad_norm",
        (None, -1, "-1"),
        "Log `fulmen.utilities.grad_norm(self, norm_type=2)` in `on_before_optimizer_step`",
    ),
    "move_metrics_to_cpu": _only("move_metrics_to_cpu", (None, False), "Log values that are on the CPU: `value.cpu()`"),
    "multiple_trainloader_mode": _only(
        "multiple_trainloader_mode", (None, "max_size_cycle"), "Pass `CombinedLoader(loaders, mode)` as the loader"
    ),
    "truncated_bptt_steps": _only(
        "truncated_bptt_steps", (None, 0), "Set `automatic_optimization = False` and split the batch in `training_step`"
    ),
    "prepare_data_per_node": _only(
        "prepare_data_per_node", (None, True), "Set `self.prepare_data_per_node` in the module or data module"
    ),
    "flush_logs_every_n_steps": _only("flush_logs_every_n_steps", (None,), "Pass it to the logger: `CSVLogger(...)`"),
    "log_gpu_memory": _only("log_gpu_memory", (None, False), "Use `callbacks=[DeviceStatsMonitor()]`"),
    "weights_save_path": _only(
        "weights_save_path", (None,), "Use `default_root_dir`, or `callbacks=[ModelCheckpoint(dirpath=...)]`"
    ),
}
"""1.x argument → the new arguments that its value stands for."""

GONE: Final[dict[str, str]] = {
    "ipus": "IPUs are no longer supported: choose another accelerator, as `Trainer(accelerator='auto')`",
    "num_gpus": "Use `Trainer(accelerator='gpu', devices=...)`",
    "early_stop_callback": "Use `Trainer(callbacks=[EarlyStopping(monitor=...)])`",
}
"""1.x argument → what to write instead."""
