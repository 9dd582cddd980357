"""A worker process: takes tasks from a socket, makes batches, and leaves them in the ring.

A task is the indices of one batch. Everything the worker gets it gets as the stock loader's workers do: a copy of the dataset,
``worker_init_fn``, ``get_worker_info()``, seeded generators.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.dlpack import from_dlpack

from fulmen._core import RingProducer, ring_die_with_parent, ring_send
from fulmen.prefetch.dlpack_types import DLPACK_TYPES
from fulmen.prefetch.seeding import Seeding, seed_batch, seed_worker
from fulmen.prefetch.transport import Packer, is_plain
from fulmen.prefetch.worker_stack import offer_stack

BATCH, ERROR = 0, 1
"""Kinds of messages."""


@dataclass
class Job:
    """What a worker is to do.

    Attributes:
        worker: its number.
        workers: how many there are.
        dataset: with indices.
        collate_fn: makes a batch of samples.
        batched: whether a task's indices are a list, one for each sample.
        init_fn: the user's, called with the worker's number.
        seed: of the pass in which the workers start.
        seeding: how generators are seeded.
        parent: the process for which the worker works.
        follow: whether the system may end the worker with the thread that started it.
    """

    worker: int
    workers: int
    dataset: Any
    collate_fn: Callable[[Any], Any]
    batched: bool
    init_fn: Callable[[int], Any] | None
    seed: int
    seeding: Seeding
    parent: int
    follow: bool


class SharedFile:
    """A descriptor that gets into the worker whichever way it is started."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __reduce__(self) -> Any:
        from multiprocessing.reduction import DupFd

        return _adopted, (DupFd(self._fd),)

    def take(self) -> int:
        """A descriptor of one's own."""
        return os.dup(self._fd)


def _adopted(duplicate: Any) -> SharedFile:
    return SharedFile(duplicate.detach())


def work(job: Job, tasks: Connection, memory: SharedFile) -> None:
    """The worker's life: until the parent says so, or is gone."""
    alive = _Parent(job)
    _set_signals()
    offer_stack()
    torch.set_num_threads(1)
    torch.multiprocessing._set_thread_name("pt_data_worker")
    seed_worker(job.seed, job.worker)
    ring = RingProducer(memory.take())
    _collate_into(ring)
    failure = _initialise(job)
    poll = select.poll()
    poll.register(tasks.fileno(), select.POLLIN)
    alive.register(poll)
    try:
        while alive.wait(poll, tasks):
            received = tasks.recv_bytes()
            if not received:
                break
            number, epoch, batch, base, indices = pickle.loads(received)
            if not ring.wanted(number):
                continue
            if job.seeding == "batch":
                seed_batch(base, epoch, batch)
            ring.begin()
            kind, content = (ERROR, failure) if failure else _made(job, batch, indices)
            failure = None
            if not _deliver(ring, tasks, number, kind, content, alive):
                break
            del content
    except (EOFError, ConnectionError, BrokenPipeError):
        # the parent is gone, or wants no more
        pass


class _Parent:
    """Knows when the parent is gone."""

    def __init__(self, job: Job) -> None:
        if job.follow:
            ring_die_with_parent()
        try:
            self._fd = os.pidfd_open(job.parent)
        except ProcessLookupError:
            os._exit(1)
        except (OSError, AttributeError):
            self._fd = -1
        self._own_parent = os.getppid()

    def register(self, poll: Any) -> None:
        if self._fd >= 0:
            poll.register(self._fd, select.POLLIN)

    def wait(self, poll: Any, tasks: Connection) -> bool:
        """Wait for a task; False when the parent is gone."""
        while True:
            ready = [fd for fd, _ in poll.poll(5000)]
            if self._fd in ready or os.getppid() != self._own_parent:
                return False
            if tasks.fileno() in ready:
                return True

    def gone(self) -> bool:
        ended = self._fd >= 0 and bool(select.select([self._fd], [], [], 0)[0])
        return ended or os.getppid() != self._own_parent


def _set_signals() -> None:
    from torch.utils.data._utils import signal_handling

    signal_handling._set_worker_signal_handlers()  # type: ignore[attr-defined]  # private to torch
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches all processes of a terminal: it is the parent's to deal with, who ends the workers.
        # A function, as programs that the dataset starts would inherit SIG_IGN.
        signal.signal(signal.SIGINT, lambda *_: None)
        # the parent's handlers came with the fork
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _initialise(job: Job) -> Any:
    from torch.utils.data._utils import worker

    worker._worker_info = worker.WorkerInfo(
        id=job.worker, num_workers=job.workers, seed=job.seed + job.worker, dataset=job.dataset
    )
    try:
        if job.init_fn is not None:
            job.init_fn(job.worker)
    except Exception:
        return _failure(job, "in `worker_init_fn`")
    return None


def _made(job: Job, batch: int, indices: Any) -> tuple[int, Any]:
    """A batch, or what went wrong."""
    at: Any = _NONE
    try:
        if not job.batched:
            at = indices
            samples = job.dataset[indices]
        else:
            many = getattr(job.dataset, "__getitems__", None)
            if many:
                samples = many(indices)
            else:
                samples = []
                for at in indices:
                    samples.append(job.dataset[at])
        at = _NONE
        return BATCH, Packer(job.collate_fn(samples))
    except Exception:
        where = f"in batch {batch}"
        return ERROR, _failure(job, where if at is _NONE else f"at the sample with index {at!r}, {where}")


_NONE: Any = object()


def _failure(job: Job, where: str) -> bytes:
    """The exception that is being handled, for the parent."""
    wrapper = ExceptionWrapper(where=f"in DataLoader worker process {job.worker}")
    wrapper.exc_msg = f"{wrapper.exc_msg.rstrip()}\nIt was raised {where}.\n"
    try:
        pickled = pickle.dumps(wrapper)
    except Exception:
        pickled = None
    return pickle.dumps((wrapper.exc_type.__name__, wrapper.exc_msg, pickled))


def _deliver(ring: RingProducer, tasks: Connection, number: int, kind: int, content: Any, alive: _Parent) -> bool:
    """Leave it in the ring; False when the parent is gone."""
    first, parts = (content.first, content.parts) if kind == BATCH else (content, [])
    pause = 0.0001
    while True:
        try:
            message = ring.seal(number, kind, first, parts)
        except MemoryError as error:
            if kind == ERROR:
                raise
            text = f"{error} of a batch in memory shared with the parent.\n{traceback.format_exc()}"
            kind, first, parts = ERROR, pickle.dumps(("MemoryError", text, None)), []
            continue
        if message is not None:
            ring_send(tasks.fileno(), message)
            return True
        if alive.gone() or not ring.wanted(number):
            return not alive.gone()
        time.sleep(pause)
        pause = min(2 * pause, 0.01)


# ---- tensors made in the ring ----------------------------------------------------------------------------------------


def _collate_into(ring: RingProducer) -> None:
    """Let default collate stack tensors in the ring itself, so that nothing is left to copy."""
    from torch.utils.data._utils import collate

    stock = collate.collate_tensor_fn

    def stack(batch: Any, *, collate_fn_map: Any = None) -> Any:
        first = batch[0]
        if not all(isinstance(tensor, Tensor) for tensor in batch) or not is_plain(first):
            return stock(batch, collate_fn_map=collate_fn_map)
        kind = DLPACK_TYPES.get(first.dtype)
        capsule = None if kind is None else ring.reserve(*kind, [len(batch), *first.shape])
        if capsule is None:
            return torch.stack(batch, 0)
        out = from_dlpack(capsule)
        return torch.stack(batch, 0, out=out)

    if collate.default_collate_fn_map.get(Tensor) is stock:
        collate.default_collate_fn_map[Tensor] = stack


if sys.platform != "linux":  # pragma: no cover
    raise ImportError("the ring of fulmen needs Linux")
