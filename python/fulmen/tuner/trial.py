"""`Trial`: a few steps with the user's own module, data and optimizers, of which nothing is left.

What a trial touches is kept by one function for each thing, which notes how it is and gives back how to put it back. They
are undone in reverse order when the trial ends, well or by an exception. Values are kept in memory (tensors on the host):
there is no temporary file that a killed process could leave behind.

::

    with Trial(trainer, callbacks=[...], limits={...}) as trial:
        trial.run(3)        three optimizer steps, or three batches of an evaluation
        trial.run(3)        once more, from the first batch
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fulmen._core import Schedule
from fulmen.loggers.logger import DummyLogger
from fulmen.prefetch import state as generators
from fulmen.trainer import evaluate, fit, predict
from fulmen.trainer.log_axis import make_axis
from fulmen.trainer.logging import Ledger
from fulmen.trainer.run import STAGE
from fulmen.trainer.states import TrainerFn
from fulmen.trainer.timeline import LOGGING, TRAINER, WAIT, Timeline
from fulmen.tuner.keep_model import keep_module, keep_optimizers

if TYPE_CHECKING:
    from fulmen.callbacks import Callback
    from fulmen.trainer.trainer import Trainer

Undo = Callable[[], None]

_ATTRIBUTES = (
    *("callbacks", "_loggers", "timeline", "_ledger", "_axis", "_hook", "_in_trial", "_backwards", "_stepped"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"),
)
_COUNTERS = ("batch", "optimizer_step", "zero_grad", "manual_step", "scheduler")


class Trial:
    """A context in which a trainer runs a few steps that count for nothing.

    Inside, the trainer has the given callbacks only and loggers that forget; epoch and step are the real ones. A signal that
    ends the run does so without a checkpoint of the trial's weights.

    Args:
        trainer: within an entry point, its module and optimizers set up.
        callbacks: who looks on, instead of the trainer's callbacks.
        limits: values of the trainer's ``limit_*_batches``.
    """

    def __init__(
        self, trainer: Trainer, callbacks: Sequence[Callback] = (), limits: Mapping[str, int | float] | None = None
    ) -> None:
        self._trainer = trainer
        self._callbacks = list(callbacks)
        self._limits = dict(limits or {})
        self._undo = ExitStack()
        self._known: set[int] = set()

    def __enter__(self) -> Trial:
        trainer = self._trainer
        with ExitStack() as undo:
            # generators come last in putting back, since hooks may draw; the module's hooks see everything else in place
            for keep in (
                _keep_global_generators, keep_module, keep_optimizers, _keep_schedule, _keep_attributes, _keep_loops
            ):  # fmt: skip
                undo.callback(keep(trainer))
            trainer.callbacks = self._callbacks
            trainer._loggers = [DummyLogger() for _ in trainer._loggers]
            for name, value in self._limits.items():
                setattr(trainer, name, value)
            self._begin = trainer._schedule.global_step, _fresh_state(trainer)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.close()

    def run(self, steps: int) -> None:
        """Runs from the first batch, with loaders that are asked for anew.

        Args:
            steps: optimizer steps of a fit, which its ``max_epochs`` bounds too. Of an evaluation the limits decide.
        """
        trainer = self._trainer
        fn = trainer.state.fn
        assert fn is not None, "a trial runs within an entry point"
        _leave_loaders(trainer)
        step, state = self._begin
        trainer._schedule.restore(state)
        trainer._ledger.begin_run()
        if fn is TrainerFn.FITTING:
            trainer._schedule.max_steps = step + steps
            trainer.fit_loop.setup_data()
            if trainer.enable_validation:
                trainer.fit_loop.epoch_loop.val_loop.setup_data()
            self._keep_generators_of_loaders()
            fit.train(trainer)
        else:
            evaluate.loop_of(trainer, STAGE[fn]).setup_data()
            self._keep_generators_of_loaders()
            if fn is TrainerFn.PREDICTING:
                trainer.predict_loop.return_predictions = False
                predict.run_predict(trainer)
            else:
                evaluate.run_evaluation(trainer, STAGE[fn])

    def _keep_generators_of_loaders(self) -> None:
        """Those that loaders, samplers and datasets hold: known only now, and not drawn from yet."""
        for loop in _loops(self._trainer):
            combined = loop._combined_loader
            for loader in combined.flattened if combined is not None else ():
                found = [g for g in generators.own_generators(loader) if id(g) not in self._known]
                # the stack below keeps them, so that no other object takes their place in memory
                self._known.update(map(id, found))
                self._undo.callback(generators.set_generator_states, found, generators.generator_states(found))


def _loops(trainer: Trainer) -> tuple[Any, ...]:
    fit_loop = trainer.fit_loop
    evaluations = trainer.validate_loop, trainer.test_loop, trainer.predict_loop
    return fit_loop, fit_loop.epoch_loop.val_loop, *evaluations


def _leave_loaders(trainer: Trainer) -> None:
    """Ends what serves the loaders of the run before, so that the next one asks for its own."""
    for loop in _loops(trainer):
        if loop._loaders is not None:
            loop._loaders.close()
        loop._forget()


# ---- one function for each thing that is kept ------------------------------------------------------------------------


def _keep_global_generators(trainer: Trainer) -> Undo:
    states = generators.global_generators()
    return lambda: generators.set_global_generators(states)


def _keep_schedule(trainer: Trainer) -> Undo:
    """The counters and flags, and the limit on steps."""
    schedule = trainer._schedule
    state, max_steps = schedule.state(), schedule.max_steps

    def put_back() -> None:
        schedule.max_steps = max_steps
        schedule.restore(state)
        loaders = trainer.fit_loop._loaders
        if loaders is not None:
            schedule.set_data(loaders.num_batches, trainer.enable_validation)

    return put_back


def _fresh_state(trainer: Trainer) -> str:
    """The schedule's state at the first batch of an epoch, with the numbers of epoch and step as they are."""
    now, fresh = trainer._schedule, Schedule()
    completed = now.progress("epoch")["current"]["completed"]
    epochs = dict.fromkeys(("ready", "started", "processed", "completed"), completed)
    fresh.set_progress("epoch", {"total": epochs, "current": epochs})
    for name in _COUNTERS:
        total = now.progress(name)["total"]  # type: ignore[arg-type]  # names of counters
        fresh.set_progress(name, {"total": total})  # type: ignore[arg-type]  # names of counters
    fresh.closed_windows = now.closed_windows
    return fresh.state()


def _keep_attributes(trainer: Trainer) -> Undo:
    """Callbacks, loggers, limits; logged values and the timeline, in whose place the trial has its own."""
    saved = {name: getattr(trainer, name) for name in _ATTRIBUTES}
    state = copy.copy(trainer.state)
    ledger = Ledger(trainer)
    trainer._in_trial, trainer._stepped = True, {}
    trainer.timeline, trainer._ledger = Timeline(detailed=False), ledger
    trainer._axis = make_axis(trainer, "global_step")
    trainer._start_clock()
    _tell_module(trainer)

    def put_back() -> None:
        ledger.rows.close()
        ledger.forget_values()
        for name, value in saved.items():
            setattr(trainer, name, value)
        vars(trainer.state).update(vars(state))
        trainer._schedule.attach(trainer.timeline.core, WAIT, TRAINER)
        trainer._schedule.attach_store(trainer._ledger.store)
        trainer._ledger.attach(trainer.timeline.core, LOGGING)
        _tell_module(trainer)

    return put_back


def _tell_module(trainer: Trainer) -> None:
    # it knows the ledger's fast way
    trainer.lightning_module.trainer = trainer


def _keep_loops(trainer: Trainer) -> Undo:
    """The loaders of the run and its place in them: the trial has loaders of its own."""
    saved = [(loop, dict(vars(loop))) for loop in _loops(trainer)]
    for loop, _ in saved:
        loop._forget()
    trainer.fit_loop.restarting = trainer.fit_loop.forward_only = False
    trainer.fit_loop._loader_states, trainer.fit_loop._place, trainer.fit_loop.midway = [], {}, {}

    def put_back() -> None:
        _leave_loaders(trainer)
        for loop, attributes in saved:
            vars(loop).clear()
            vars(loop).update(attributes)

    return put_back
