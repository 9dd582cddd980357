"""Checkpoints of other forms, brought into today's when they are read: those of Lightning 1.x. The file is not touched.

| up to | what was different |
| --- | --- |
| 0.9 | states of early stopping and of the checkpoint callback lay at the top, one key each |
| 1.4 | states of callbacks lay under the callbacks' classes |
| 1.5 | no counters but ``epoch`` and ``global_step`` |
| 1.6.4 | steps for the loggers were optimizer steps |
| 1.8 | the key of ``ModelCheckpoint`` told when in the epoch it saved |
| 1.9 | counters lay under the loops' former names |

Found out from files that these versions wrote (``tests/parity/files``), and compared with what Lightning 2.6 makes of them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from fulmen import errors
from fulmen.compat.version import LIGHTNING_VERSION
from fulmen.utilities.older_names import class_key

VERSION_KEY: Final = "pytorch-lightning_version"

#: keys at the top of a file, and where they belong: class and key
_AT_THE_TOP: Final = {
    "checkpoint_callback_best_model_score": ("ModelCheckpoint", "best_model_score"),
    "checkpoint_callback_best": ("ModelCheckpoint", "best_model_score"),
    "checkpoint_callback_best_model_path": ("ModelCheckpoint", "best_model_path"),
    "early_stop_callback_wait": ("EarlyStopping", "wait_count"),
    "early_stop_callback_patience": ("EarlyStopping", "patience"),
}
_FORMER_HPARAMS: Final = ("hparams", "module_arguments")
_SAVED_WHEN: Final = re.compile(r", 'save_on_train_epoch_end': (?:True|False|None)")

#: parts of the loops' names, and what they are called today; None: gone
_LOOPS: Final = (
    ("epoch_loop.batch_loop.optimizer_loop.", "epoch_loop.automatic_optimization."),
    ("epoch_loop.batch_loop.manual_loop.", "epoch_loop.manual_optimization."),
    ("epoch_loop.batch_loop.", None),
    ("epoch_loop.val_loop.epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress"),
    ("epoch_loop.val_loop.epoch_loop.", None),
    ("epoch_loop.val_loop.dataloader_progress", None),
)
_EVALUATIONS: Final = (
    ("dataloader_progress", None),
    ("epoch_loop.batch_progress", "batch_progress"),
    ("epoch_loop.", None),
)


def in_todays_form(loaded: dict[str, Any], path: Any) -> dict[str, Any]:
    """A checkpoint under the keys of today.

    Args:
        loaded: what was read.
        path: where from, for messages.

    Returns:
        The same dictionary if there is nothing to do, else another one; no part of the first one is changed.

    Raises:
        KeyError: the file holds the weights alone, as ``torch.save(module.state_dict(), path)`` writes them.
    """
    refuse_plain_weights(loaded, path)
    version = _version(loaded)
    if version is None or version >= (2, 0, 0):
        return loaded
    moved = _from_the_top(loaded)
    if version < (1, 6, 0):
        moved["loops"] = _counted(moved)
    if "loops" in moved:
        moved["loops"] = {name: _renamed(name, states) for name, states in moved["loops"].items()}
        if version < (1, 6, 5) and "fit_loop" in moved["loops"]:
            steps = moved["loops"]["fit_loop"].get("epoch_loop.state_dict", {})
            moved["loops"]["fit_loop"]["epoch_loop.state_dict"] = {"_batches_that_stepped": _steps(moved), **steps}
    if "callbacks" in moved:
        moved["callbacks"] = {_callback_key(key): state for key, state in moved["callbacks"].items()}
    moved[f"legacy_{VERSION_KEY}"], moved[VERSION_KEY] = loaded.get(VERSION_KEY), LIGHTNING_VERSION
    return moved


def refuse_plain_weights(loaded: Any, path: Any) -> None:
    """Says so if a file holds the weights alone.

    Raises:
        KeyError: it does.
    """
    if "state_dict" not in loaded and loaded and all(isinstance(value, Tensor) for value in loaded.values()):
        raise errors.key_error(
            f"{_name(path)} holds weights only, as `torch.save(module.state_dict(), ...)` writes them, and no `state_dict` "
            "among other things",
            "Load it with `module.load_state_dict(torch.load(path))`, and start without `ckpt_path`",
        )


def _name(path: Any) -> str:
    return str(path) if isinstance(path, str | Path) else "The file"


def _version(loaded: dict[str, Any]) -> tuple[int, ...] | None:
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", str(loaded.get(VERSION_KEY, "")))
    if found is not None:
        return tuple(int(part or 0) for part in found.groups())
    return (0, 0, 0) if any(key in loaded for key in _AT_THE_TOP) else None


def _from_the_top(loaded: dict[str, Any]) -> dict[str, Any]:
    moved = {key: value for key, value in loaded.items() if key not in _AT_THE_TOP}
    found: dict[Any, dict[str, Any]] = {}
    for key, (owner, name) in _AT_THE_TOP.items():
        if loaded.get(key) is not None:
            found.setdefault(class_key(owner), {}).setdefault(name, loaded[key])
    if found:
        moved["callbacks"] = {**loaded.get("callbacks", {}), **found}
    for key in _FORMER_HPARAMS:
        if key in moved and "hyper_parameters" not in moved:
            moved["hyper_parameters"] = moved.pop(key)
    return moved


def _steps(loaded: dict[str, Any]) -> int:
    return int(loaded.get("global_step", 0))


def _counted(loaded: dict[str, Any]) -> dict[str, Any]:
    """Counters of loops where the file has only those of epochs and steps."""
    loops = dict(loaded.get("loops", {}))
    fit = dict(loops.get("fit_loop", {}))
    steps = {"total": {"ready": 0, "completed": _steps(loaded)}, "current": {"ready": 0, "completed": 0}}
    zeroed = dict.fromkeys(("ready", "started", "completed"), 0)
    fit["epoch_loop.automatic_optimization.optim_progress"] = {
        "optimizer": {"step": steps, "zero_grad": {"total": zeroed, "current": dict(zeroed)}}
    }
    fit["epoch_loop.manual_optimization.optim_step_progress"] = steps
    epochs = dict.fromkeys(("ready", "started", "processed", "completed"), 0)
    fit.setdefault("epoch_loop.state_dict", {"_batches_that_stepped": 0})
    fit["epoch_progress"] = {"total": epochs, "current": {**epochs, "completed": int(loaded.get("epoch", 0))}}
    return {**loops, "fit_loop": fit}


def _renamed(loop: str, states: dict[str, Any]) -> dict[str, Any]:
    table = _LOOPS if loop == "fit_loop" else _EVALUATIONS
    found = {}
    for key, state in states.items():
        former, today = next(((a, b) for a, b in table if key.startswith(a)), ("", ""))
        if today is None or key.endswith("_results"):
            continue
        if key.endswith("optim_progress"):
            state = {name: part for name, part in state.items() if name != "optimizer_position"}
        found[today + key.removeprefix(former)] = state
    return found


def _callback_key(key: Any) -> Any:
    if isinstance(key, type):
        return class_key(key.__name__)
    return _SAVED_WHEN.sub("", key) if isinstance(key, str) and key.startswith("ModelCheckpoint{") else key
