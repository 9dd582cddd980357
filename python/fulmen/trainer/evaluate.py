"""Validation and test: alone, within fit, and as the sanity check.

::

    on_{stage}_model_eval, on_{stage}_start, on_{stage}_epoch_start
    for batch in feed:              all of loader 0, then loader 1 ...
        on_{stage}_batch_start
        {stage}_step
        on_{stage}_batch_end
    on_{stage}_epoch_end            the epoch's values are readable, more may be logged
    on_{stage}_end                  checkpoints and early stopping look at them
    every submodule back to the mode it was in
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fulmen import errors
from fulmen.precision.precision import Precision
from fulmen.strategies.single_device import SingleDeviceStrategy
from fulmen.strategies.strategy import Strategy
from fulmen.trainer import data, parting
from fulmen.trainer.hook_table import (
    call_hooks,
    call_module,
    calls,
    fire,
    module_overrides,
    overrides,
)
from fulmen.trainer.iterator_steps import run_steps
from fulmen.trainer.profiling import module_owner, profiled
from fulmen.trainer.states import RunningStage, TrainerFn
from fulmen.trainer.step import takes_iterator
from fulmen.trainer.transfer import make_transfer
from fulmen.utilities.model_helpers import is_overridden

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

#: How hooks call a stage.
HOOK_STAGE = {
    RunningStage.SANITY_CHECKING: "validation",
    RunningStage.VALIDATING: "validation",
    RunningStage.TESTING: "test",
    RunningStage.PREDICTING: "predict",
}


def grad_mode(trainer: Trainer) -> AbstractContextManager[Any]:
    """Gradients are off: by inference mode when an evaluation stands alone, so that nothing of it enters a graph."""
    alone = trainer.state.fn is not TrainerFn.FITTING
    return torch.inference_mode() if alone and trainer._config.inference_mode else torch.no_grad()


def run_evaluation(trainer: Trainer, stage: RunningStage) -> list[dict[str, float]]:
    """One pass over the loaders of ``stage``; returns what the loops' caller returns: a dict of values per loader."""
    with grad_mode(trainer):
        return _evaluate(trainer, stage)


def loop_of(trainer: Trainer, stage: RunningStage) -> Any:
    """The facade whose counters and loaders this stage uses."""
    if trainer.state.fn is TrainerFn.FITTING:
        return trainer.fit_loop.epoch_loop.val_loop
    return {
        RunningStage.VALIDATING: trainer.validate_loop,
        RunningStage.TESTING: trainer.test_loop,
        RunningStage.PREDICTING: trainer.predict_loop,
    }[stage]


def _evaluate(trainer: Trainer, stage: RunningStage) -> list[dict[str, float]]:
    loop, ledger = loop_of(trainer, stage), trainer._ledger
    kind = HOOK_STAGE[stage]
    loop.setup_data()
    limits = trainer.num_sanity_val_batches if stage is RunningStage.SANITY_CHECKING else loop.max_batches
    if not sum(limits):
        return []
    loaders = loop._loaders
    feed = loaders.feed(limits=limits)
    trainer._schedule.new_round(loop._counter)
    modes = remember_modes(trainer.lightning_module)
    call_module(trainer, f"on_{kind}_model_eval")
    ledger.start(stage)
    ledger.on_epoch_start()
    call_hooks(trainer, f"on_{kind}_start", strategy=True)
    if loop._loaders is not loaders:
        # the hook has exchanged them
        limits = loop.max_batches
        feed = loop._loaders.feed(limits=limits)
    call_hooks(trainer, f"on_{kind}_epoch_start")

    _batches(trainer, stage, loop, feed, len(limits))

    ledger.end_eval_epoch()
    call_hooks(trainer, f"on_{kind}_epoch_end")
    ledger.end_eval_epoch()
    if stage is not RunningStage.SANITY_CHECKING:
        ledger.send_epoch_rows()
        # from here on the values may be looked up where a logger put them
        ledger.rows.drain()
    call_hooks(trainer, f"on_{kind}_end", strategy=True)
    results = ledger.eval_results()
    if is_overridden(f"on_{kind}_model_train", trainer.lightning_module):
        call_module(trainer, f"on_{kind}_model_train")
    else:
        restore_modes(modes)
    return results


def _batches(trainer: Trainer, stage: RunningStage, loop: Any, feed: data.Feed, loaders: int) -> None:
    schedule, ledger, counter = trainer._schedule, trainer._ledger, loop._counter
    kind = HOOK_STAGE[stage]
    several = feed.sequential and loaders > 1
    step, takes = make_eval_step(trainer, kind)
    check_dataloader_idx(trainer, kind, several)
    if takes_iterator(trainer.lightning_module, f"{kind}_step"):

        def send_rows(*_: Any) -> None:
            if stage is not RunningStage.SANITY_CHECKING:
                ledger.send_eval_step_rows()

        run_steps(trainer, kind, counter, feed, step, loaders if several else 1, send_rows)
        return
    transfer = make_transfer(trainer, f"{kind}_step")
    starts = calls(trainer, f"on_{kind}_batch_start")
    ends = calls(trainer, f"on_{kind}_batch_end")
    start_name, end_name, step_name = f"on_{kind}_batch_start", f"on_{kind}_batch_end", f"{kind}_step"
    sends_rows = stage is not RunningStage.SANITY_CHECKING
    begin, processed, end = schedule.begin_eval_batch, schedule.eval_processed, schedule.end_eval_batch
    loader_count = loaders if several else 1

    signals = trainer._signals
    for batch, batch_idx, dataloader_idx in feed:
        begin(counter, feed.last)
        if transfer is not None:
            batch = transfer(batch, dataloader_idx)
        args = (batch, batch_idx, dataloader_idx) if several else (batch, batch_idx)
        ledger.set_batch(batch, batch_idx, dataloader_idx, loader_count)
        if starts:
            fire(trainer, start_name, starts, *args)
        trainer._hook = step_name
        output = step(*args[:takes])
        trainer._hook = None
        processed(counter)
        if ends:
            fire(trainer, end_name, ends, output, *args)
        end(counter)
        if sends_rows:
            ledger.send_eval_step_rows()
        if signals.ends_by is not None:
            parting.leave(trainer, signals.ends_by)
    ledger.clear_batch()


def make_eval_step(trainer: Trainer, kind: str) -> tuple[Callable[..., Any], int]:
    """The step of an evaluation, and how many of ``(batch, batch_idx, dataloader_idx)`` it takes."""
    strategy = trainer.strategy
    name = f"{kind}_step"
    module = trainer.lightning_module
    method = getattr(module, name)
    takes = _argument_count(method)
    method = profiled(trainer, module_owner(module), name, method)
    precision = strategy.precision_plugin
    trivial = isinstance(strategy, SingleDeviceStrategy) and not overrides(strategy, name, Strategy)
    if not trivial:
        return getattr(strategy, name), takes
    context = getattr(precision, f"{'val' if kind == 'validation' else kind}_step_context")
    if type(precision) is Precision:
        return method, takes

    def step(*args: Any) -> Any:
        with context():
            return method(*args)

    return step, takes


def _argument_count(method: Callable[..., Any]) -> int:
    parameters = list(inspect.signature(method).parameters.values())
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return 3
    return len([p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)])


def check_dataloader_idx(trainer: Trainer, kind: str, several: bool) -> None:
    """Do step and batch hooks take ``dataloader_idx`` just where there are several loaders?

    Raises:
        RuntimeError: several loaders and a method without it, or one loader and a method that insists on it.
    """
    module = trainer.lightning_module
    for name in (f"{kind}_step", f"on_{kind}_batch_start", f"on_{kind}_batch_end"):
        if not module_overrides(module, name) or (name.endswith("_step") and takes_iterator(module, name)):
            continue
        parameters = inspect.signature(getattr(module, name)).parameters
        wide = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
        given = parameters.get("dataloader_idx")
        if several and given is None and not wide:
            raise errors.runtime_error(
                f"You provided multiple dataloaders, but no `dataloader_idx` argument in `{type(module).__name__}.{name}()`",
                f"Add it: `def {name}(self, ..., dataloader_idx=0)`",
            )
        if not several and given is not None and given.default is given.empty:
            raise errors.runtime_error(
                f"You provided only a single dataloader, but have included `dataloader_idx` in "
                f"`{type(module).__name__}.{name}()` as an argument without default",
                f"Give it a default: `def {name}(self, ..., dataloader_idx=0)`",
            )


def remember_modes(module: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Each submodule with its train or eval mode."""
    return [(m, m.training) for m in module.modules()]


def restore_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    """Undoes what happened to the modes since :func:`remember_modes`."""
    for module, training in modes:
        module.training = training


def run_alone(trainer: Trainer, stage: RunningStage, verbose: bool) -> list[dict[str, float]]:
    """A validation or test that the user asked for by itself."""
    results = run_evaluation(trainer, stage)
    if verbose and trainer.is_global_zero and results:
        from fulmen.trainer.results_table import print_results

        print_results(results, stage.value)
    return results
