"""The worker processes of one loader: started, given tasks, listened to, ended."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
from typing import Any

import torch
from torch.utils.data import DataLoader

from fulmen._core import RingConsumer, ring_note_fork, ring_wait
from fulmen.prefetch import worker_process
from fulmen.prefetch.seeding import Seeding

HOLD = 4
"""Batches of a worker that a consumer may keep without a copy, beyond those on their way."""

PATIENCE = 1.0
"""Seconds after which to look after the workers while nothing comes."""

AWAKE = 300e-6
"""Seconds that a wait may take without sleeping, where batches come so soon that waking up would be most of the time."""

END_TIME = 5.0
"""Seconds that workers have to end by themselves."""

_NOT_WANTED = 2**64 - 1

os.register_at_fork(before=ring_note_fork)


class Crew:
    """Workers, each with a ring and a socket of its own.

    Args:
        loader: whose dataset, collate function and settings they get.
        ahead: how many batches of one worker can be on their way.
        seed: of the pass in which they start.
        seeding: how they seed their generators.

    Attributes:
        process: the process whose workers they are.
        broken: somebody was interrupted (Ctrl-C) while he sent or received: messages may be lost, or cut short.
    """

    def __init__(self, loader: DataLoader[Any], ahead: int, seed: int, seeding: Seeding) -> None:
        self.process = os.getpid()
        self.broken = False
        self.rings: list[RingConsumer] = []
        self.workers: list[Any] = []
        self._channels: list[Any] = []
        self._listened: list[int] = []
        # not where that would take the workers' processors away
        self._may_stay_awake = loader.num_workers < len(os.sched_getaffinity(0))
        self._usual_wait = AWAKE
        self._watched: list[int] = []
        context: Any = loader.multiprocessing_context or torch.multiprocessing
        in_main_thread = threading.current_thread() is threading.main_thread()
        try:
            for number in range(loader.num_workers):
                job = worker_process.Job(
                    worker=number,
                    workers=loader.num_workers,
                    dataset=loader.dataset,
                    collate_fn=loader.collate_fn,
                    batched=loader.batch_sampler is not None,
                    init_fn=loader.worker_init_fn,
                    seed=seed,
                    seeding=seeding,
                    parent=os.getpid(),
                    # the signal would come when the thread ends
                    follow=in_main_thread,
                )
                self._start(context, job, 2 * ahead + HOLD + 4)
        except BaseException:
            self.close()
            raise

    def _start(self, context: Any, job: worker_process.Job, slots: int) -> None:
        ring = RingConsumer(min(slots, 1000))
        ours, theirs = context.Pipe()
        shared = worker_process.SharedFile(ring.fileno())
        worker = context.Process(target=worker_process.work, args=(job, theirs, shared), daemon=True)
        try:
            worker.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.rings.append(ring)
        self.workers.append(worker)
        self._channels.append(ours)
        self._listened.append(ours.fileno())
        try:
            self._watched.append(os.pidfd_open(worker.pid))
        except (OSError, AttributeError):
            self._watched.append(os.dup(worker.sentinel))

    def send(self, worker: int, task: tuple[Any, ...]) -> None:
        """Give a task to a worker."""
        content = pickle.dumps(task, pickle.HIGHEST_PROTOCOL)
        broken, self.broken = self.broken, True
        # one that is dead hears nothing: whoever waits for it will notice
        with contextlib.suppress(ConnectionError):
            self._channels[worker].send_bytes(content)
        self.broken = broken

    def hear(self, seconds: float) -> tuple[list[tuple[int, bytes]], list[int]]:
        """Wait for messages. The crew counts as broken until whoever called has put them away, and says so.

        Returns:
            Pairs of worker and message; workers that have ended.
        """
        self.broken = True
        awake = AWAKE if self._may_stay_awake and self._usual_wait < AWAKE else 0.0
        begin = time.perf_counter()
        messages, closed, ended = ring_wait(self._listened, self._watched, min(seconds, PATIENCE), awake)
        self._usual_wait += (min(time.perf_counter() - begin, 2 * AWAKE) - self._usual_wait) / 8
        if not messages and not closed and not ended:
            ended = [number for number, worker in enumerate(self.workers) if not worker.is_alive()]
        return messages, sorted({*closed, *ended})

    def forget(self, below: int) -> None:
        """Tasks below this number are not wanted any more."""
        for ring in self.rings:
            ring.set_floor(below)

    def how_it_ended(self, number: int) -> str:
        """What happened to a worker."""
        worker = self.workers[number]
        worker.join(END_TIME)
        code = worker.exitcode
        if code is not None and code < 0:
            name = signal.strsignal(-code) or f"signal {-code}"
            text = f"DataLoader worker (pid {worker.pid}) is killed by signal: {name}."
            if -code == signal.SIGKILL:
                text += " Where nobody killed it on purpose, the system had no memory left: take fewer workers or smaller batches."
            return text
        return f"DataLoader worker (pid(s) {worker.pid}) exited unexpectedly, with exit code {code}."

    def close(self) -> None:
        """End all workers: by word, after a while by force."""
        if os.getpid() != self.process:
            return
        self.broken = True
        self.forget(_NOT_WANTED)
        for channel in self._channels:
            with contextlib.suppress(OSError):
                os.set_blocking(channel.fileno(), False)
                channel.send_bytes(b"")
            channel.close()
        limit = time.monotonic() + END_TIME
        for worker in self.workers:
            worker.join(max(0.0, limit - time.monotonic()))
        for end in ("terminate", "kill"):
            left = [worker for worker in self.workers if worker.is_alive()]
            for worker in left:
                getattr(worker, end)()
            for worker in left:
                worker.join(1.0)
        for fd in self._watched:
            os.close(fd)
        self._channels, self._listened, self._watched, self.workers, self.rings = [], [], [], [], []

    def __del__(self) -> None:
        if getattr(self, "_channels", None) and not sys.is_finalizing():
            self.close()
