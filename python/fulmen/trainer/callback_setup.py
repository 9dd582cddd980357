"""Which callbacks a trainer has, and in which order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fulmen import errors
from fulmen.callbacks.callback import Callback
from fulmen.callbacks.checkpoint import Checkpoint
from fulmen.trainer.hook_table import overrides
from fulmen.utilities.rank_zero import rank_zero_info

if TYPE_CHECKING:
    from fulmen.trainer.config import Config
    from fulmen.trainer.trainer import Trainer

ENTRY_POINTS = (
    "fulmen.callbacks_factory",
    "lightning.pytorch.callbacks_factory",
    "pytorch_lightning.callbacks_factory",
)
_log = logging.getLogger(__name__)


def build_callbacks(trainer: Trainer, config: Config, given: Any) -> list[Callback]:
    """The user's callbacks and those that the other arguments ask for, in their order.

    Raises:
        MisconfigurationException: two bars, a bar or a checkpoint although switched off.
        RuntimeError: two callbacks that would save their states under one key.
    """
    if given is None:
        callbacks = []
    elif isinstance(given, (list, tuple)):
        callbacks = list(given)
    else:
        callbacks = [given]
    for callback in callbacks:
        if not isinstance(callback, Callback) and not hasattr(callback, "state_key"):
            raise errors.type_error(
                "Trainer(callbacks)", "a Callback or a list of them", callback, "Subclass `fulmen.Callback`"
            )
    callbacks += _from_entry_points()
    _add_checkpoint(callbacks, bool(config.enable_checkpointing) and not config.barebones)
    _add_timer(callbacks, config.max_time)
    _add_progress_bar(callbacks, bool(config.enable_progress_bar))
    _add_summary(callbacks, bool(config.enable_model_summary))
    _check_state_keys(callbacks)
    return reorder(callbacks)


def _add_checkpoint(callbacks: list[Callback], enabled: bool) -> None:
    present = [c for c in callbacks if isinstance(c, Checkpoint)]
    if present and not enabled:
        raise errors.misconfiguration(
            "Trainer(enable_checkpointing)",
            "True: trainer was configured with `enable_checkpointing=False` but found `ModelCheckpoint` in callbacks list",
            False,
            "Remove the callback, or the argument",
        )
    if not present and enabled:
        from fulmen.callbacks.model_checkpoint import ModelCheckpoint

        callbacks.append(ModelCheckpoint())


def _add_timer(callbacks: list[Callback], max_time: Any) -> None:
    from fulmen.callbacks.timer import Timer

    if max_time is None:
        return
    if any(isinstance(c, Timer) for c in callbacks):
        rank_zero_info("Ignoring `Trainer(max_time=...)`, callbacks list already contains a Timer.")
        return
    callbacks.append(Timer(duration=max_time, interval="step"))


def _add_progress_bar(callbacks: list[Callback], enabled: bool) -> None:
    from fulmen.callbacks.progress import ProgressBar, default_progress_bar

    bars = [c for c in callbacks if isinstance(c, ProgressBar)]
    if len(bars) > 1:
        raise errors.misconfiguration(
            "Trainer(callbacks)",
            "at most one progress bar: you added multiple progress bar callbacks",
            [type(b).__name__ for b in bars],
            "Keep one of them",
        )
    if bars and not enabled:
        raise errors.misconfiguration(
            "Trainer(enable_progress_bar)",
            f"True: trainer was configured with `enable_progress_bar=False` but found `{type(bars[0]).__name__}` "
            "in callbacks list",
            False,
            "Remove the callback, or the argument",
        )
    if not bars and enabled:
        callbacks.append(default_progress_bar())


def _add_summary(callbacks: list[Callback], enabled: bool) -> None:
    from fulmen.callbacks.model_summary import ModelSummary

    if not enabled or any(isinstance(c, ModelSummary) for c in callbacks):
        return
    from fulmen.callbacks.progress import RichProgressBar

    if any(isinstance(c, RichProgressBar) for c in callbacks):
        from fulmen.callbacks.rich_model_summary import RichModelSummary

        callbacks.append(RichModelSummary())
    else:
        callbacks.append(ModelSummary())


def _from_entry_points() -> list[Callback]:
    """Callbacks that installed packages contribute."""
    from importlib.metadata import entry_points

    made: list[Callback] = []
    for group in ENTRY_POINTS:
        for factory in entry_points(group=group):
            found = factory.load()()
            found = list(found) if isinstance(found, (list, tuple)) else [found]
            _log.info("adding %d callbacks from entry point %s", len(found), factory.name)
            made += found
    return made


def _check_state_keys(callbacks: Sequence[Callback]) -> None:
    seen: set[str] = set()
    for callback in callbacks:
        if not (isinstance(callback, Callback) and overrides(callback, "state_dict", Callback)):
            continue
        if callback.state_key in seen:
            raise errors.runtime_error(
                f"Found more than one stateful callback of type `{type(callback).__name__}`: both would save their state "
                f"under {callback.state_key!r}",
                "Override the `state_key` property so that each gives another text",
            )
        seen.add(callback.state_key)


def reorder(callbacks: list[Callback]) -> list[Callback]:
    """Tuners first, checkpoints last, the rest as it is."""
    from fulmen.callbacks.batch_size_finder import BatchSizeFinder
    from fulmen.callbacks.lr_finder import LearningRateFinder

    tuners = [c for c in callbacks if isinstance(c, (BatchSizeFinder, LearningRateFinder))]
    checkpoints = [c for c in callbacks if isinstance(c, Checkpoint)]
    rest = [c for c in callbacks if c not in tuners and c not in checkpoints]
    return tuners + rest + checkpoints


def attach_module_callbacks(trainer: Trainer) -> None:
    """The module's own callbacks: each takes the place of the trainer's callbacks of its kind."""
    trainer._hook = "configure_callbacks"
    own = trainer.lightning_module.configure_callbacks()
    trainer._hook = None
    if not own:
        return
    own = list(own) if isinstance(own, Sequence) else [own]
    kinds = tuple(type(c) for c in own)
    replaced = [c for c in trainer.callbacks if type(c) in kinds or _is_base_of(type(c), kinds)]
    if replaced:
        names = ", ".join(sorted({type(c).__name__ for c in replaced}))
        rank_zero_info(
            "The following callbacks returned in `LightningModule.configure_callbacks` will override existing callbacks "
            f"passed to Trainer: {names}"
        )
    kept = [c for c in trainer.callbacks if c not in replaced]
    trainer.callbacks = reorder(kept + own)


def _is_base_of(kind: type, others: tuple[type, ...]) -> bool:
    """Is one of ``others`` a special case of ``kind``?"""
    return kind is not Callback and any(issubclass(other, kind) for other in others)


def attach_log(trainer: Trainer, callback: Callback) -> None:
    """Lets a callback log through the module that runs."""
    callback.log = trainer.lightning_module.log  # type: ignore[attr-defined]  # what callbacks log by
    callback.log_dict = trainer.lightning_module.log_dict  # type: ignore[attr-defined]  # what callbacks log by
