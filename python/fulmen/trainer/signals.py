"""Signals during a run: SIGTERM ends it between two batches."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer


class Signals:
    """Handlers that are in place while a run goes on, and put back after it."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._before: dict[int, Any] = {}
        self.received_sigterm = False

    def install(self) -> None:
        """Listens for SIGTERM; only the main thread of a process may."""
        self.received_sigterm = False
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGTERM)
        # a handler that the user installed is called after ours
        self._before[signal.SIGTERM] = before
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def restore(self) -> None:
        """Puts the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self.received_sigterm = True
        self._trainer._schedule.interrupt = True
        before = self._before.get(signal.SIGTERM)
        if callable(before):
            before(number, frame)
