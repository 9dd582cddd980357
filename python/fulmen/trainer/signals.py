"""Signals during a run. A handler only notes what came; the loops attend to it between two batches.

=====================  ==============================================================================================
SIGTERM                the step is finished, one checkpoint written, everything torn down; then `SIGTERMException`, a
                       ``SystemExit`` with the status 128 + number
SIGUSR1                the same, in a fit: schedulers send it some time before the end. In SLURM with ``auto_requeue`` the
                       job is put back into the queue instead, and the training goes on until it is killed
the same once more     the process ends at once, by the signal itself
SIGINT                 is Python's: ``KeyboardInterrupt`` where it comes, see `run.abandon`
=====================  ==============================================================================================

A user's own handler of SIGTERM is called after ours; one of SIGUSR1 stays in place of ours. Other threads than the main one
install nothing, as only the main one may.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

from fulmen.trainer.states import TrainerFn

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer


class Signals:
    """Handlers that are in place while a run goes on, and put back after it.

    Attributes:
        ends_by: the signal that ends this run, None while there is none.
        requeue_due: the scheduler's warning came, and the job is to be put back into the queue.
        save_due: something else (the time limit) wants a checkpoint of the state after this batch.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._before: dict[int, Any] = {}
        self._came: set[int] = set()
        self.ends_by: int | None = None
        self.requeue_due = False
        self.save_due = False

    @property
    def received_sigterm(self) -> bool:
        """Did a SIGTERM arrive during this run?"""
        return signal.SIGTERM in self._came

    def install(self) -> None:
        """Listens, where this is the main thread."""
        self._came.clear()
        self.ends_by = None
        self.requeue_due = self.save_due = False
        if threading.current_thread() is not threading.main_thread():
            return
        self._listen(signal.SIGTERM, self._on_end)
        if self._trainer.state.fn is not TrainerFn.FITTING:
            return
        requeue = requeue_signal(self._trainer)
        if requeue is not None and signal.getsignal(requeue) in (signal.SIG_DFL, signal.SIG_IGN, None):
            self._listen(requeue, self._on_requeue)
        warning = getattr(signal, "SIGUSR1", None)  # Windows has none
        if warning is not None and warning not in self._before and signal.getsignal(warning) is signal.SIG_DFL:
            self._listen(warning, self._on_end)

    def _listen(self, number: int, handler: Any) -> None:
        self._before[number] = signal.signal(number, handler)

    def restore(self) -> None:
        """Puts the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        if number in self._came:
            # whoever asks twice does not want to wait
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._came.add(number)
        self.ends_by = number
        self._trainer._schedule.interrupt = True
        if callable(before):
            before(number, frame)

    def _on_requeue(self, number: int, frame: FrameType | None) -> None:
        self.requeue_due = True
        self._trainer._schedule.interrupt = True


def requeue_signal(trainer: Trainer) -> int | None:
    """The signal on which SLURM wants the job to be put back into the queue; None: it does not, or there is no SLURM."""
    from fulmen.plugins.environments import SLURMEnvironment

    environment = trainer._devices.cluster_environment
    if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
        return None
    return environment.requeue_signal
