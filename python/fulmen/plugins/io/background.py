"""Saving while training goes on.

::

    save        encode (pickle, places of the storages); copy what may change soon      main thread, short
    worker      copy the rest; write; synchronise; rename                               without the GIL
    optimizer   waits for the copy (not for the file) before it changes a parameter
    poll        raises the worker's error; runs what had to wait for the file           at the next step

One file is written at a time. A second save waits for it, unless it is one of the same moment (`last.ckpt` beside the best):
that shares the copy of parameters and optimizer state, and queues.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fulmen import errors
from fulmen._core import CheckpointArchive, CheckpointBuffers
from fulmen.plugins.io.device import Staging


@dataclass
class Moment:
    """One place in a run at which states are saved.

    Args:
        lasting: tensors that only an optimizer's step changes: parameters and optimizer state.
        overlap: their copy may be made while the next forward and backward run. The optimizer waits for it.
        notify: called in the worker's thread when a save has ended, well or not.
        always: write in the background whatever the size.
    """

    lasting: list[Tensor] = field(default_factory=list)
    overlap: bool = False
    notify: Callable[[], None] | None = None
    always: bool = False
    archive: CheckpointArchive | None = None
    """The last archive that was copied at this moment."""
    versions: list[int] = field(default_factory=list)

    def addresses(self) -> set[int]:
        """Where the lasting tensors lie."""
        return {t.untyped_storage().data_ptr() for t in self.lasting if t.layout is torch.strided}

    def note_versions(self) -> None:
        """Remembers how often each lasting tensor has been changed."""
        self.versions = [t._version for t in self.lasting]

    def unchanged(self) -> bool:
        """Has none of them been changed since?"""
        return len(self.versions) == len(self.lasting) and all(
            t._version == version for t, version in zip(self.lasting, self.versions, strict=True)
        )


@dataclass
class _Job:
    path: str
    moment: Moment
    copied: threading.Event
    future: Future[None] | None = None
    after: list[Callable[[], Any]] = field(default_factory=list)
    removals: set[str] = field(default_factory=set)


class Background:
    """The one save in flight, and what waits for it. Used from one thread, the trainer's."""

    def __init__(self) -> None:
        self.buffers = CheckpointBuffers()
        self.staging = Staging()
        self.waited = 0.0
        """Seconds that the trainer's thread has waited, for the copy or for an earlier file."""
        self._executor: ThreadPoolExecutor | None = None
        self._jobs: list[_Job] = []
        self._barrier: Any = None
        self._guarded: _Job | None = None
        self.latest: Moment | None = None
        """The moment of the last save, as long as no optimizer has made a step since; only where one would be noticed."""

    # ---- saving ------------------------------------------------------------------------------------------------------

    def save(self, archive: CheckpointArchive, path: str, moment: Moment, write: Callable[[], None]) -> None:
        """Takes a copy, now or as far as allowed before the next optimizer step, and has the file written.

        Args:
            archive: the encoded checkpoint.
            path: for `writing`.
            moment: what may be copied later.
            write: writes the archive; called in the worker's thread.

        Raises:
            Exception: what went wrong in an earlier save.
        """
        self.poll()
        like = moment.archive if moment.archive is not None and moment.unchanged() else None
        if like is None:
            # the copy of the save before is in the buffers that this one reuses
            self.latest = None
            self.drain()
            moment.note_versions()
        lasting = moment.addresses()
        self.staging.take(archive, lasting, moment.overlap, like is not None)
        archive.detach(self.buffers, lasting, moment.overlap, like)
        moment.archive = archive
        self.latest = moment if moment.overlap else None
        job = _Job(path, moment, threading.Event())
        if moment.overlap and like is None:
            self._guard(job)
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fulmen-checkpoint")
        job.future = self._executor.submit(self._work, job, archive, write)
        self._jobs.append(job)

    def _work(self, job: _Job, archive: CheckpointArchive, write: Callable[[], None]) -> None:
        try:
            try:
                archive.settle()
                self.staging.wait()
            finally:
                job.copied.set()
            write()
        finally:
            if job.moment.notify is not None:
                job.moment.notify()

    # ---- the optimizer waits -----------------------------------------------------------------------------------------

    def _guard(self, job: _Job) -> None:
        """From here on every optimizer's step waits for the copy. The hook is removed at the next poll."""
        self._guarded = job
        if self._barrier is None:
            self._barrier = register_optimizer_step_pre_hook(self._before_step)

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        job, self._guarded = self._guarded, None
        if job is None:
            return
        self._wait_for(job.copied)
        self.staging.before_step()
        job.moment.archive = self.latest = None  # what comes now is another state
        if not job.moment.unchanged():
            raise errors.runtime_error(
                f"Parameters were changed in place, outside of the optimizer, while {job.path} was being copied",
                "Change them in a hook such as `on_train_batch_end`, which ends the overlap, or save with "
                "Trainer(plugins=[fulmen.plugins.io.NativeCheckpointIO(background_from=None)])",
            )

    def _wait_for(self, event: threading.Event) -> None:
        if not event.is_set():
            begin = perf_counter()
            event.wait()
            self.waited += perf_counter() - begin

    # ---- afterwards --------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Is a save in flight, or ended without having been looked at?"""
        return bool(self._jobs)

    def writing(self, path: str) -> bool:
        """Is a file of this name on its way?"""
        return any(job.path == path for job in self._jobs)

    def removing(self, path: str) -> bool:
        """Will a file of this name be deleted when the one in flight is on the disk?"""
        return any(path in job.removals for job in self._jobs)

    def then(self, action: Callable[[], Any], removes: str | None = None) -> None:
        """Runs an action in the trainer's thread once everything that was saved so far is on the disk: at once, if it is.

        Args:
            action: what to do. It is dropped if the save fails.
            removes: the file that the action deletes.
        """
        self.poll()
        if not self._jobs:
            action()
            return
        self._jobs[-1].after.append(action)
        if removes is not None:
            self._jobs[-1].removals.add(removes)

    def poll(self) -> None:
        """Looks after saves that have ended; never waits.

        Raises:
            Exception: what went wrong in one of them.
        """
        while self._jobs and self._jobs[0].future is not None and self._jobs[0].future.done():
            self._finish(self._jobs.pop(0))

    def drain(self) -> None:
        """Waits for everything that was saved.

        Raises:
            Exception: what went wrong in it.
        """
        while self._jobs:
            future = self._jobs[0].future
            if future is not None and not future.done():
                begin = perf_counter()
                try:
                    future.exception()
                finally:
                    self.waited += perf_counter() - begin
            self._finish(self._jobs.pop(0))

    def _finish(self, job: _Job) -> None:
        if job is self._guarded:
            self._guarded = None
        if self._barrier is not None and self._guarded is None and not self._jobs:
            self._barrier.remove()
            self._barrier = None
        assert job.future is not None
        job.future.result()
        for action in job.after:
            action()

    def close(self) -> None:
        """Waits, ends the thread and lets go of the buffers.

        Raises:
            Exception: what went wrong in the last saves.
        """
        try:
            self.drain()
        finally:
            executor, self._executor = self._executor, None
            if executor is not None:
                executor.shutdown(wait=True)
            self._jobs, self.latest = [], None
            self.buffers.clear()
            self.staging.clear()
