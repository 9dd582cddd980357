"""`Trainer.explain`: what a run does and when, who is called, where its batches come from, what ends it.

Nothing is run for it. What is only known once a run has begun (optimizers, schedulers, loaders that hooks return) is said to be
so; after a run it is there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fulmen.callbacks.callback import Callback
from fulmen.callbacks.checkpoint import Checkpoint
from fulmen.callbacks.early_stopping import EarlyStopping
from fulmen.callbacks.gradient_accumulation_scheduler import GradientAccumulationScheduler
from fulmen.callbacks.model_checkpoint import ModelCheckpoint
from fulmen.callbacks.timer import Timer
from fulmen.prefetch import choose
from fulmen.strategies.strategy import Strategy
from fulmen.trainer.hook_order import CLOSURE_STEP, DIRECT_STEP, MANUAL_STEP, OCCASIONAL, Block, fit_order
from fulmen.trainer.hook_table import module_overrides, overrides
from fulmen.trainer.step import reason_for_closure
from fulmen.utilities.combined_loader import CombinedLoader
from fulmen.utilities.model_helpers import is_overridden

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer

LATER = "known once a fit has begun"


class Explanation:
    """Text in sections; ``str()`` of it is plain.

    Attributes:
        sections: title to lines.
    """

    def __init__(self, sections: dict[str, list[str]]) -> None:
        self.sections = sections

    def text(self, bold: bool = False) -> str:
        """All sections.

        Args:
            bold: titles in bold, for terminals.
        """
        on, off = ("\x1b[1m", "\x1b[0m") if bold else ("", "")
        return "\n\n".join(
            "\n".join([f"{on}{title}{off}", *(f"  {line}" for line in lines)]) for title, lines in self.sections.items()
        )

    def show(self) -> None:
        """Print it, with bold titles where the output is a terminal."""
        print(self.text(bold=sys.stdout.isatty()))

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__


def explain(trainer: Trainer, module: LightningModule | None, loaders: dict[str, Any]) -> Explanation:
    """What the trainer does in a fit.

    Args:
        trainer: before or after a run.
        module: the module of the run; None: that of the last one.
        loaders: "train" and "val": what will be passed to fit; None: those of the last one.
    """
    module = trainer.lightning_module if module is None else module
    return Explanation(
        {
            "Where it stands": _standing(trainer),
            "Hooks, in the order in which they are called": list(_hooks(trainer, module, loaders)),
            "A training step": _step(trainer, module),
            "What is due when": _due(trainer, module),
            "What ends it": _ends(trainer),
            "Where batches come from": _feeds(trainer, loaders),
        }
    )


def _standing(trainer: Trainer) -> list[str]:
    return [
        f"{type(trainer.strategy).__name__} on {trainer.root_device}, {_count(trainer.world_size, 'process', 'processes')}, "
        f"precision {trainer.precision}",
        f"epoch {trainer.current_epoch}, global step {trainer.global_step}, {trainer.state.status.value}",
    ]


# ---- hooks -----------------------------------------------------------------------------------------------------------


def implementers(trainer: Trainer, module: LightningModule | None, name: str) -> list[str]:
    """Who implements a hook, in the order in which they are called; nobody else is."""
    callbacks = [
        c
        for c in trainer.callbacks
        if overrides(c, name, Callback) and not (isinstance(c, Callback) and c._idle(name, trainer))
    ]
    last: list[Any] = []
    if name == "on_train_epoch_end":
        # they look at the epoch's values, which the module may still log
        last = [c for c in callbacks if isinstance(c, (EarlyStopping, Checkpoint))]
        callbacks = [c for c in callbacks if not isinstance(c, (EarlyStopping, Checkpoint))]
    owners: list[Any] = list(callbacks)
    datamodule = trainer.datamodule
    if datamodule is not None and hasattr(type(datamodule), name) and is_overridden(name, datamodule):
        # its setup and teardown come before those of all others
        owners.insert(0, datamodule) if name in ("prepare_data", "setup", "teardown") else owners.append(datamodule)
    if module is not None and module_overrides(module, name):
        owners.append(module)
    if name.startswith("on_") and overrides(trainer.strategy, name, Strategy):
        owners.append(trainer.strategy)
    return [type(owner).__name__ for owner in (*owners, *last)]


def _hooks(trainer: Trainer, module: LightningModule | None, loaders: dict[str, Any]) -> Iterator[str]:
    if module is None:
        yield "those of the module are not known: pass it, `trainer.explain(model)`"
    if module is not None and not module.automatic_optimization:
        step: tuple[str, ...] = MANUAL_STEP
    else:
        step = CLOSURE_STEP if _known_reason(trainer, module) else DIRECT_STEP
    # loaders that are passed are not asked for
    passed = {
        f"{kind}_dataloader" for kind, given in loaders.items() if given is not None or trainer._sources.given(kind)
    }
    yield from _block(trainer, module, fit_order(step), passed, 0)
    yield from _block(trainer, module, OCCASIONAL, passed, 0)


def _block(
    trainer: Trainer, module: LightningModule | None, block: Block, left_out: set[str], depth: int
) -> Iterator[str]:
    """Lines of a block; nothing if nobody implements any of its hooks."""
    lines: list[str] = []
    for part in block.parts:
        if isinstance(part, Block):
            lines += _block(trainer, module, part, left_out, depth + 1)
        elif part not in left_out and (who := implementers(trainer, module, part)):
            lines.append(f"{'  ' * (depth + 1)}{part}: {', '.join(who)}")
    if lines:
        yield f"{'  ' * depth}{block.title}"
        yield from lines


# ---- the step --------------------------------------------------------------------------------------------------------


def _known_reason(trainer: Trainer, module: LightningModule | None) -> str | None:
    """Why the step needs a closure, as far as that is known for the trainer's own module."""
    return reason_for_closure(trainer) if module is not None and module is trainer.lightning_module else None


def _step(trainer: Trainer, module: LightningModule | None) -> list[str]:
    lines = []
    if (
        module is None
        or module is not trainer.lightning_module
        or not (trainer.optimizers or not module.automatic_optimization)
    ):
        lines.append(f"direct or by closure: {LATER}")
    elif not module.automatic_optimization:
        lines.append("manual: the module itself calls backward and its optimizers")
    elif len(trainer.optimizers) > 1:
        lines.append("once for each optimizer, by closure, as in 1.x")
    elif (reason := reason_for_closure(trainer)) is not None:
        lines.append(f"by closure, since {reason}: the optimizer calls forward and backward")
    else:
        lines.append("direct: forward, backward and step are called one after the other, as in a loop written by hand")
    scheduled = [c for c in trainer.callbacks if isinstance(c, GradientAccumulationScheduler)]
    for scheduler in scheduled:
        factors = ", ".join(f"{n} from epoch {epoch} on" for epoch, n in sorted(scheduler.scheduling.items()))
        lines.append(f"batches that make one optimizer step: {factors} (GradientAccumulationScheduler)")
    if trainer.accumulate_grad_batches > 1 and not scheduled:
        lines.append(
            f"{trainer.accumulate_grad_batches} batches make one optimizer step; the last ones of an epoch, fewer"
        )
    if trainer.gradient_clip_val:
        kind = trainer.gradient_clip_algorithm
        lines.append(
            f"gradients are clipped by {'norm' if kind is None else kind.value} to {trainer.gradient_clip_val}"
        )
    policy = trainer._config.nan_policy
    if policy != "ignore":
        lines.append(f"a logged value that is not finite: {policy}")
    return lines


# ---- what is due -----------------------------------------------------------------------------------------------------


def _due(trainer: Trainer, module: LightningModule | None) -> list[str]:
    lines = [f"validation: {_validation(trainer, module)}"]
    if trainer.num_sanity_val_steps and not trainer.fast_dev_run:
        n = trainer.num_sanity_val_steps
        batches = (
            "all validation batches" if n == float("inf") else f"{_count(int(n), 'batch', 'batches')} of each loader"
        )
        lines.append(f"sanity check before training, where there is a validation: {batches}")
    every = trainer.log_every_n_steps
    loggers = ", ".join(type(logger).__name__ for logger in trainer.loggers)
    lines.append(
        f"rows of step values: every {_count(every, 'optimizer step', 'optimizer steps')}, to {loggers}, by {trainer._config.log_axis}"
        if every and loggers
        else f"rows of step values: none{'' if loggers else ', as there is no logger'}"
    )
    lines += [f"checkpoint: {_checkpoint(c)}" for c in trainer.checkpoint_callbacks] or ["checkpoint: none"]
    lines += _schedulers(trainer, module)
    if trainer.reload_dataloaders_every_n_epochs:
        lines.append(
            f"loaders are asked for anew every {_count(trainer.reload_dataloaders_every_n_epochs, 'epoch', 'epochs')}"
        )
    return lines


def _validation(trainer: Trainer, module: LightningModule | None) -> str:
    if module is not None and not module_overrides(module, "validation_step"):
        return f"none, as {type(module).__name__} has no validation_step"
    if not trainer.limit_val_batches:
        return "none, as limit_val_batches is 0"
    interval, epochs = trainer._config.val_check_interval, trainer.check_val_every_n_epoch
    in_epochs = "" if epochs == 1 else f", in every {epochs}. epoch"
    batches = trainer.val_check_batch
    if trainer._config.val_check_seconds is not None:
        return f"every {trainer._config.val_check_seconds:g} s{in_epochs if epochs else ''}"
    if epochs is None:
        return f"every {interval} batches, counted across epochs"
    if interval in (None, 1.0) and not (isinstance(interval, int) and not isinstance(interval, bool)):
        return f"at the end of every {'' if epochs == 1 else f'{epochs}. '}epoch"
    if isinstance(interval, int):
        return f"every {_count(interval, 'batch', 'batches')}{in_epochs}"
    known = "" if batches is None else f" ({_count(int(batches), 'batch', 'batches')})"
    return f"every {interval:g} of an epoch{known}{in_epochs}"


def _checkpoint(callback: Any) -> str:
    name = type(callback).__name__
    if not isinstance(callback, ModelCheckpoint):
        return name
    when = []
    if callback._every_n_train_steps:
        when.append(f"every {_count(callback._every_n_train_steps, 'optimizer step', 'optimizer steps')}")
    if callback._train_time_interval is not None:
        when.append(f"every {callback._train_time_interval}")
    if callback._every_n_epochs:
        at = "training epoch" if callback._save_on_train_epoch_end else "validation, or training epoch without one"
        when.append(f"after every {'' if callback._every_n_epochs == 1 else f'{callback._every_n_epochs}. '}{at}")
    k, by = callback.save_top_k, callback.monitor
    kept = {0: "nothing", -1: "all"}.get(k, f"the {k} best" if by and k > 1 else "the best" if by else "the newest")
    order = f" by {callback.mode} of {by!r}" if by else ""
    last = ", and `last`" if callback.save_last else ""
    folder = f", in {callback.dirpath}" if callback.dirpath else ""
    return f"{name} {' and '.join(when) or 'never by itself'}; it keeps {kept}{order}{last}{folder}"


def _schedulers(trainer: Trainer, module: LightningModule | None) -> list[str]:
    if module is None or module is not trainer.lightning_module or not trainer.optimizers:
        return [f"learning rates: {LATER}"]
    if not module.automatic_optimization:
        return ["learning rates: the module steps its schedulers itself"]
    lines = []
    for config in trainer.lr_scheduler_configs:
        by = f", looking at {config.monitor!r}" if config.reduce_on_plateau else ""
        lines.append(
            f"learning rate: {type(config.scheduler).__name__} every {_count(config.frequency, config.interval, f'{config.interval}s')}{by}"
        )
    return lines or ["learning rates: no scheduler"]


# ---- what ends it ----------------------------------------------------------------------------------------------------


def _ends(trainer: Trainer) -> list[str]:
    lines = []
    if trainer.fast_dev_run:
        lines.append(f"fast_dev_run: after {_count(int(trainer.fast_dev_run), 'batch', 'batches')} of everything")
    limit = trainer.fit_loop.max_epochs
    if limit != -1:
        lines.append(f"max_epochs: after {_count(limit, 'epoch', 'epochs')}; {trainer.current_epoch} done")
    if trainer.max_steps != -1:
        lines.append(
            f"max_steps: after {_count(trainer.max_steps, 'optimizer step', 'optimizer steps')}; {trainer.global_step} done"
        )
    for callback in trainer.callbacks:
        if isinstance(callback, EarlyStopping):
            what = "falling" if callback.mode == "min" else "rising"
            text = f"{type(callback).__name__}: when {callback.monitor!r} has not gone on {what} for {callback.patience} checks"
            for bound, word in (
                (callback.stopping_threshold, "is good enough at"),
                (callback.divergence_threshold, "diverges to"),
            ):
                text += f", or {word} {bound}" if bound is not None else ""
            lines.append(text + (", or is not finite" if callback.check_finite else ""))
        elif isinstance(callback, Timer) and callback._duration is not None:
            lines.append(f"Timer: after {callback._duration:g} s, looked at after every {callback._interval}")
    lines.append("`trainer.should_stop = True`, by anybody")
    least = [
        _count(n, word, f"{word}s")
        for n, word in ((trainer.min_epochs, "epoch"), (trainer.min_steps, "optimizer step"))
        if n
    ]
    if least:
        lines.append(f"a stop flag counts only after {' and '.join(least)}")
    if limit == -1 and trainer.max_steps == -1:
        lines.append("no limit is set on epochs or steps")
    lines.append("Ctrl-C and SIGTERM: the state is saved where a callback does that, and teardown runs")
    return lines


# ---- batches ---------------------------------------------------------------------------------------------------------


def _feeds(trainer: Trainer, loaders: dict[str, Any]) -> list[str]:
    fit_loop, lines = trainer.fit_loop, []
    for kind, loop in (("train", fit_loop), ("val", fit_loop.epoch_loop.val_loop)):
        given, known = loaders.get(kind), loop._loaders
        if given is not None:
            mode, seeding = trainer._config.prefetch, trainer._config.worker_seeding
            sources = [choose(loader, mode, seeding) for loader in CombinedLoader(given).flattened]
            counts: list[Any] = [None] * len(sources)
        elif known is not None:
            sources, counts = known.sources, known.limits
        else:
            lines.append(f"{kind}: {LATER}; or pass {kind}_dataloaders here")
            continue
        for number, (source, count) in enumerate(zip(sources, counts, strict=True)):
            name = kind if len(sources) == 1 else f"{kind} {number}"
            batches = "" if count is None else f", {_count(count, 'batch', 'batches')}"
            lines.append(f"{name}: {type(source.loader).__name__}{batches}: {source.kind} ({source.why})")
        if not sources:
            lines.append(f"{kind}: no loader")
    return lines


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
