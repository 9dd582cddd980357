"""Rows of metrics on their way to loggers, out of the training step's way.

::

    training thread                         writer thread, once a second
    send(row): append to a queue  ────────► all rows of a logger in one call, then its `save`
    settle(): the same work, here and now

A row that waits costs the training a microsecond; what the rows of a second cost together is far less than the sum of
their single costs, since a file is opened, flushed or sent once for all of them. Nobody sees a file that is behind:
whoever is about to look (checkpoints, the end of an evaluation or of a run, `logger.experiment`) calls `settle` before,
which writes everything that waits in the calling thread; a lock lets one thread write at a time.

Only loggers of ours that declare it (`Logger.threaded`) wait. All others, and subclasses with a `log_metrics`, `save` or
`experiment` of their own, are called at once, as they always were.

The thread starts with the first row and is gone after `close`. A forked child starts with nothing: the rows that wait
belong to its parent. An interpreter that exits in the middle of a run writes what waits.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING, Any

from fulmen.trainer.device_values import LateRow
from fulmen.utilities.rank_zero import rank_zero_only

if TYPE_CHECKING:
    from fulmen.loggers.logger import Logger

#: Seconds between two writings.
INTERVAL = 1.0
#: So many rows may wait. Whoever sends one more writes them all before.
MOST_WAITING = 1024

_writers: weakref.WeakSet[RowWriter] = weakref.WeakSet()


class RowWriter:
    """The rows of a trainer that loggers have not got yet."""

    def __init__(self) -> None:
        self._begin_empty()
        _writers.add(self)

    def _begin_empty(self) -> None:
        self._waiting: deque[tuple[Sequence[Logger], dict[str, Any], int | None, float]] = deque()
        # a signal handler may ask for everything while its thread is just taking the lock
        self._lock = threading.RLock()
        self._owner: int | None = None
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy of a trainer or of a logger has no rows that wait
        return RowWriter, ()

    def send(self, loggers: Sequence[Logger], row: dict[str, Any], step: int | None) -> Sequence[Logger]:
        """Takes a row in for the loggers that can wait.

        Args:
            loggers: who gets it.
            row: numbers by name, not to be changed afterwards; of a `LateRow`, those on a device may come later.
            step: position on the x axis.

        Returns:
            The loggers that have to be called now, by the caller.

        Raises:
            Exception: what a logger raised over an earlier row.
        """
        if self._error is not None:
            self._raise()
        waiting = [logger for logger in loggers if can_wait(logger)]
        if not waiting:
            return loggers
        for logger in waiting:
            if logger._rows is not self:
                if logger._rows is not None:
                    logger._rows.settle()
                logger._rows = self
        if len(self._waiting) >= MOST_WAITING:
            self.settle()
        self._waiting.append((waiting, row, step, time()))
        if self._thread is None:
            self._start()
        return () if len(waiting) == len(loggers) else [logger for logger in loggers if logger not in waiting]

    def settle(self) -> None:
        """Everything sent so far is with its logger and saved when this returns. Errors wait for `send` or `drain`."""
        if not self._waiting and self._owner is None:
            return
        me = threading.get_ident()
        if self._owner == me:
            # a logger that is just being given its rows asks for its own experiment
            return
        with self._lock:
            self._owner = me
            try:
                self._write()
            finally:
                self._owner = None

    def drain(self) -> None:
        """`settle`, and errors are raised.

        Raises:
            Exception: what a logger raised over a row.
        """
        self.settle()
        if self._error is not None:
            self._raise()

    def close(self) -> None:
        """Ends the thread, and drains. The next row starts another one.

        Raises:
            Exception: what a logger raised over a row.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            if thread is not threading.current_thread():
                thread.join()
        self.drain()

    def _raise(self) -> None:
        error, self._error = self._error, None
        assert error is not None
        raise error

    def _write(self) -> None:
        """Gives every logger its rows."""
        rows: dict[int, tuple[Logger, list[tuple[dict[str, Any], int | None, float]]]] = {}
        for _ in range(len(self._waiting)):
            loggers, row, step, when = self._waiting.popleft()
            if isinstance(row, LateRow):
                row.arrive()
            for logger in loggers:
                rows.setdefault(id(logger), (logger, []))[1].append((row, step, when))
        for logger, own in rows.values():
            try:
                logger._log_rows(own)
                logger.save()
            except Exception as error:
                self._error = self._error or error

    def _start(self) -> None:
        self._stop = threading.Event()
        # it holds no reference to the writer while it sleeps: a trainer that is thrown away takes its thread along
        self._thread = threading.Thread(
            target=_serve, args=(weakref.ref(self), self._stop, INTERVAL), name="fulmen-rows", daemon=True
        )
        self._thread.start()

    def __del__(self) -> None:
        self._stop.set()


def can_wait(logger: Logger) -> bool:
    """Does the logger take rows later, and has nobody put methods of his own into it?"""
    methods = getattr(type(logger), "_threaded_methods", None)
    if not isinstance(methods, dict) or rank_zero_only.rank:
        # on other ranks than 0 a call does nothing
        return False
    kind, own = type(logger), logger.__dict__
    return all(getattr(kind, name) is method and name not in own for name, method in methods.items())


def _serve(writer: weakref.ref[RowWriter], stop: threading.Event, interval: float) -> None:
    while not stop.wait(interval):
        rows = writer()
        if rows is None:
            return
        rows.settle()
        del rows


def _in_child() -> None:
    for writer in list(_writers):
        writer._begin_empty()


def _at_exit() -> None:
    for writer in list(_writers):
        writer.settle()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
