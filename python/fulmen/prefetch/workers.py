"""Batches that worker processes make, for datasets with indices.

The pass is the stock loader's: it draws what that draws when that draws it, and hands batch ``n`` to worker ``n`` modulo
their number. Other than there, the workers stay from pass to pass, the batches come through a ring of shared memory, and
where it can be known what the next pass will begin with, its first batches are made while this one ends.

Two things end the workers between passes: the dataset was changed meanwhile in this process (`fulmen.prefetch.fingerprint`;
not with ``persistent_workers``), and ``seeding="stock"`` without ``persistent_workers``, where the stock loader's workers
begin anew, and with them their generators.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from fulmen.prefetch.crew import HOLD, Crew
from fulmen.prefetch.fingerprint import fingerprint
from fulmen.prefetch.samplers import EVERYTHING, batches_ahead, draws_only
from fulmen.prefetch.seeding import Seeding
from fulmen.prefetch.source import Source, State
from fulmen.prefetch.state import Place, untouched
from fulmen.prefetch.stock_pass import pinned
from fulmen.prefetch.transport import unpack
from fulmen.prefetch.worker_process import ERROR

KEY = "workers"
"""Where a state holds what only this kind of source needs."""

NOTHING_LEFT: Any = object()


@dataclass(slots=True)
class Task:
    """A batch that a worker makes.

    Attributes:
        order: number among all tasks of the source.
        batch: number in the pass.
        epoch: number of the pass.
        indices: what the sampler gave.
        worker: who makes it.
        message: what the worker said when it was ready.
    """

    order: int
    batch: int
    epoch: int
    indices: Any
    worker: int
    message: bytes | None = None


class WorkersSource(Source):
    """Passes over a loader with workers and a dataset with indices.

    Args:
        loader: a stock loader, or one that leaves the making of batches to it.
        seeding: of the workers' generators.
        depth: batches that may be on their way; None: ``prefetch_factor`` for each worker.
    """

    kind = "workers"

    def __init__(self, loader: DataLoader[Any], seeding: Seeding = "batch", depth: int | None = None) -> None:
        count = loader.num_workers
        super().__init__(
            loader, f"{count} worker process{'es' if count > 1 else ''}, kept, with batches in shared memory"
        )
        self._seeding: Seeding = seeding
        self.window = depth or max(1, (loader.prefetch_factor or 2) * count)
        self.place = Place(loader)
        self.crew: Crew | None = None
        self._seed: int | None = None
        self._epoch = -1
        self._order = 0
        self._saved: dict[str, Any] | None = None
        self._pass: _Pass | None = None
        self._tasks: dict[int, Task] = {}
        self._arrived: deque[Task] = deque()
        self._next: _NextPass | None = None
        self._wrong_guesses = 0
        self._drawn: Any = None
        self._drawn_before = False
        self._dataset_then: Any = None

    # ---- passes

    def epoch(self) -> Iterator[Any]:
        """Start a pass."""
        self._leave_pass()
        if self.crew is not None and self.crew.broken:
            self._end_crew()
        place, saved = self.place, self._saved
        self._saved = None
        left_out = place.begin()
        self._drawn_before = self._drawn is not None
        inner = self._draw_again(place, saved) or self.draw()
        if saved is None or saved["seed"] is None:
            saved = None
            self._epoch += 1
        else:
            self._seed = saved["seed"]
            self._epoch = saved["epoch"] + (0 if place.arriving else 1)
        if self._seed is None:
            self._seed = inner._base_seed
        self._keep_crew_or_not()
        run = self._pass = _Pass(self, inner, self._epoch)
        place.begin_sampler()
        if place.arriving:
            run.go_to(left_out, saved)
        else:
            run.begin(self._take_next())
        if self.crew is None:
            self._start_crew(inner._base_seed)
        return run

    def _draw_again(self, place: Place, saved: dict[str, Any] | None) -> Any:
        """The iterator for a pass that is taken up and was not the first with its workers: those are drawn for once only."""
        if saved is None or not self.loader.persistent_workers or self._drawn is not None:
            return None
        if not saved.get("drawn_before" if place.arriving else "drawn"):
            return None
        with untouched(self.loader):
            self._drawn = _BaseDataLoaderIter(self.loader)
        self._drawn_before = True
        return self.draw()

    def draw(self) -> Any:
        """The stock loader's iterator without its workers: it has drawn, and gives indices."""
        inner = self._drawn
        if inner is None or not self.loader.persistent_workers:
            inner = _BaseDataLoaderIter(self.loader)
            if self.loader.persistent_workers:
                self._drawn = inner
        # twice in the first pass, as the stock iterator does
        inner._sampler_iter = iter(inner._index_sampler)
        return inner

    def _keep_crew_or_not(self) -> None:
        if self.loader.persistent_workers:
            return
        now = fingerprint(self.loader.dataset, self.loader.collate_fn, self.loader.worker_init_fn)
        if self.crew is not None and (now != self._dataset_then or self._seeding == "stock"):
            self._end_crew()
        self._dataset_then = now

    def _start_crew(self, seed: int) -> None:
        """Start workers, and give them all tasks that are open."""
        self.crew = Crew(self.loader, self._per_worker(), seed, self._seeding)
        for task in self._tasks.values():
            if task.message is None:
                self._send(task)

    def _per_worker(self) -> int:
        workers = self.loader.num_workers
        return -(-self.window // workers) if self.loader.in_order else self.window

    def _end_crew(self) -> None:
        self._next = None
        crew, self.crew = self.crew, None
        open_tasks = self._pass.open_tasks() if self._pass is not None else []
        self._tasks = {task.order: task for task in open_tasks}
        self._arrived.clear()
        for task in open_tasks:
            task.message = None
        if crew is not None:
            crew.close()

    def _leave_pass(self) -> None:
        """The pass that runs is over, and what was made for it not wanted."""
        self._leave_parents_crew()
        run, self._pass = self._pass, None
        if run is None:
            return
        run.over = True
        open_tasks = run.open_tasks()
        if open_tasks:
            # what was begun for the next pass comes after them, and is lost with them: it began with this pass's end
            self._drop(open_tasks)

    def _leave_parents_crew(self) -> None:
        """In a process that was forked off: the workers, their rings and their messages are the parent's."""
        if self.crew is not None and self.crew.process != os.getpid():
            self._end_crew()

    def _drop(self, tasks: list[Task]) -> None:
        for task in tasks:
            self._tasks.pop(task.order, None)
            if task.message is not None:
                self._let_go(task)
        if self.crew is not None and not self.crew.broken:
            self.crew.forget(min(self._tasks, default=self._order))

    def _let_go(self, task: Task) -> None:
        if self.crew is not None and task.message is not None:
            self.crew.rings[task.worker].take(task.message)

    # ---- tasks

    def add_task(self, epoch: int, batch: int, indices: Any) -> Task:
        """Have a batch made."""
        if self.loader.in_order:
            worker = batch % self.loader.num_workers
        else:
            busy = [0] * self.loader.num_workers
            for task in self._tasks.values():
                busy[task.worker] += task.message is None
            worker = busy.index(min(busy))
        task = Task(self._order, batch, epoch, indices, worker)
        self._order += 1
        self._tasks[task.order] = task
        if self.crew is not None:
            self._send(task)
        return task

    def _send(self, task: Task) -> None:
        crew = self.crew
        assert crew is not None, "there are workers"
        crew.send(task.worker, (task.order, task.epoch, task.batch, self._seed, task.indices))

    @property
    def open(self) -> int:
        """How many batches are on their way."""
        return len(self._tasks)

    def receive(self, wanted: Task | None) -> Task:
        """Wait for a batch.

        Args:
            wanted: this one; None: any of the pass.

        Raises:
            RuntimeError: a worker is dead, or it takes longer than the loader's ``timeout``.
        """
        self._leave_parents_crew()
        if self.crew is None or self.crew.broken:
            # closed meanwhile, or a wait was interrupted
            self._end_crew()
            self._start_crew(self._seed or 0)
        crew, timeout = self.crew, self.loader.timeout
        assert crew is not None
        limit = time.monotonic() + timeout if timeout > 0 else None
        arrived = self._arrived
        while (wanted.message is None) if wanted is not None else (not arrived):
            left = 3600.0 if limit is None else limit - time.monotonic()
            if left <= 0:
                raise RuntimeError(self._late(wanted))
            messages, ended = crew.hear(left)
            for worker, message in messages:
                task = self._tasks.get(int.from_bytes(message[16:24], _ORDER))
                if task is None or task.worker != worker:
                    # of a pass that was left
                    crew.rings[worker].take(message)
                    continue
                task.message = message
                if wanted is None:
                    # without order nothing is made for the next pass
                    arrived.append(task)
            crew.broken = False
            if ended and not messages:
                crew.broken = True
                what = crew.how_it_ended(ended[0])
                at = min(
                    (t.batch for t in self._tasks.values() if t.worker == ended[0] and not t.message), default=None
                )
                raise RuntimeError(what if at is None else f"{what} It was to make batch {at} of the pass.")
        task = wanted if wanted is not None else arrived.popleft()
        del self._tasks[task.order]
        return task

    def _late(self, wanted: Task | None) -> str:
        text = f"DataLoader timed out after {self.loader.timeout} seconds"
        if wanted is None or self.crew is None:
            return text
        worker = self.crew.workers[wanted.worker]
        return f"{text}, waiting for batch {wanted.batch}, which worker {wanted.worker} (pid {worker.pid}) makes"

    def open_batch(self, task: Task, inner: Any) -> Any:
        """The batch itself, out of the ring.

        Raises:
            Exception: what the dataset or the collate function raised.
        """
        assert self.crew is not None, "there are workers"
        assert task.message is not None, "it has arrived"
        ring = self.crew.rings[task.worker]
        batch = ring.take(task.message)
        if batch.kind == ERROR:
            name, text, wrapper = pickle.loads(batch.first())
            del batch
            _reraise(name, text, wrapper)
        pins = inner._pin_memory
        content = unpack(batch, copy=not pins and ring.held() > HOLD)
        return pinned(content, inner._pin_memory_device) if pins else content

    # ---- the next pass

    def prepare_next(self) -> None:
        """This pass has no indices left: begin with the next one, if its beginning can be foretold."""
        if self._next is None and self._may_guess():
            self._next = _NextPass(self._guess())
        guess = self._next
        while guess is not None and self.open < self.window and len(guess.tasks) < len(guess.indices):
            number = len(guess.tasks)
            guess.tasks.append(self.add_task(self._epoch + 1, number, guess.indices[number]))

    def _may_guess(self) -> bool:
        return (
            self._wrong_guesses < 2
            and self.loader.in_order
            # with the stock scheme a batch that is made in vain draws from its worker's generators
            and self._seeding == "batch"
            and self.crew is not None
            and not self.crew.broken
            and draws_only(self.loader)
        )

    def _guess(self) -> list[Any]:
        """The first indices of the next pass if it began now; nothing has happened to any generator afterwards."""
        sampler = getattr(self.loader.batch_sampler, "sampler", None)
        epoch = getattr(sampler, "epoch", None)
        with untouched(self.loader):
            try:
                if type(epoch) is int:
                    sampler.epoch = epoch + 1  # type: ignore[union-attr]  # samplers that have one get here
                inner: Any = self._drawn or _BaseDataLoaderIter(self.loader)
                return list(islice(iter(inner._index_sampler), self.window))
            finally:
                if type(epoch) is int:
                    sampler.epoch = epoch  # type: ignore[union-attr]  # samplers that have one get here

    def _take_next(self) -> _NextPass | None:
        guess, self._next = self._next, None
        return guess

    def judge(self, guess: _NextPass, indices: list[Any]) -> bool:
        """Whether these indices, the first of the pass, are those that were foretold; if not, its batches are dropped."""
        good = guess.indices[: len(guess.tasks)] == indices and all(
            task.epoch == self._epoch and task.order in self._tasks for task in guess.tasks
        )
        self._wrong_guesses = 0 if good else self._wrong_guesses + 1
        if not good:
            self._drop([task for task in guess.tasks if task.order in self._tasks])
        return good

    # ---- state

    def state(self) -> State:
        """Where the consumer stands."""
        if self._saved is not None:
            return {**self.place.state(), KEY: self._saved}
        return {
            **self.place.state(),
            KEY: {
                "seed": self._seed,
                "epoch": self._epoch,
                "drawn": self._drawn is not None,
                "drawn_before": self._drawn_before,
                **({} if self._pass is None else self._pass.state(batches_ahead(self.loader) == EVERYTHING)),
            },
        }

    def restore(self, state: State) -> None:
        """The next pass begins there."""
        self.place.restore(state)
        self._saved = state.get(KEY)

    def close(self) -> None:
        """End the pass and the workers."""
        self._leave_pass()
        self._end_crew()

    def __getstate__(self) -> Any:
        raise TypeError("a source with workers cannot be pickled")


_ORDER = sys.byteorder


@dataclass
class _NextPass:
    """The foretold beginning of a pass."""

    indices: list[Any]

    def __post_init__(self) -> None:
        self.tasks: list[Task] = []


class _Pass(Iterator[Any]):
    """One pass.

    Attributes:
        over: nothing comes any more.
    """

    def __init__(self, source: WorkersSource, inner: Any, epoch: int) -> None:
        self.over = False
        self._source = source
        self._inner = inner
        self._epoch = epoch
        self._open: deque[Task] = deque()
        self._number = 0
        self._ended = False

    def open_tasks(self) -> list[Task]:
        """What was begun and not taken."""
        return list(self._open)

    def begin(self, guess: _NextPass | None) -> None:
        """Begin at the beginning."""
        if guess is not None and guess.tasks:
            first = [self._next_indices() for _ in guess.tasks]
            if self._source.judge(guess, first):
                self._open.extend(guess.tasks)
                self._number = len(first)
            else:
                for indices in first:
                    self._add(indices)
        self._fill()

    def go_to(self, left_out: int, saved: dict[str, Any] | None) -> None:
        """Begin after so many batches; what the interrupted pass had drawn beyond them is known or drawn again."""
        place = self._source.place
        pending = None if saved is None else saved.get("pending")
        if pending is None:
            for _ in range(left_out):
                self._next_indices()
            self._number = left_out
            self._fill()
            place.arrive()
            return
        first = dict(pending)
        for number in range(saved["position"]):  # type: ignore[index]  # called with a saved place only
            indices = self._next_indices()
            if number >= left_out and self._source.loader.in_order:
                first.setdefault(number, indices)
        if saved["ended"]:  # type: ignore[index]  # called with a saved place only
            self._next_indices()
        place.arrive()
        for number in sorted(first):
            self._number = number
            self._add(first[number])
        self._number = saved["position"]  # type: ignore[index]  # called with a saved place only
        self._fill()

    def state(self, foreseeable: bool) -> dict[str, Any]:
        """What a resume needs beyond the place: the indices on their way, where a sampler would not give them again."""
        if foreseeable and self._source.loader.in_order:
            return {}
        pending = [[task.batch, _plain(task.indices)] for task in self._open]
        return {"pending": pending, "position": self._number, "ended": self._ended}

    def _next_indices(self) -> Any:
        try:
            return self._inner._next_index()
        except StopIteration:
            self._ended = True
            return NOTHING_LEFT

    def _add(self, indices: Any) -> None:
        if indices is not NOTHING_LEFT:
            self._open.append(self._source.add_task(self._epoch, self._number, indices))
            self._number += 1

    def _fill(self) -> None:
        """Ask for as many indices as the window has room for."""
        while len(self._open) < self._source.window:
            before = len(self._open)
            self._add(self._next_indices())
            if len(self._open) == before:
                return

    def __next__(self) -> Any:
        source, open_tasks = self._source, self._open
        if self.over or not open_tasks:
            self.over = True
            raise StopIteration
        if source.loader.in_order:
            task = source.receive(open_tasks[0])
            open_tasks.popleft()
        else:
            task = source.receive(None)
            open_tasks.remove(task)
        self._add(self._next_indices())
        if self._ended:
            source.prepare_next()
        source.place.taken += 1
        return source.open_batch(task, self._inner)

    def close(self) -> None:
        """Give the pass up."""
        if self._source._pass is self:
            self._source._leave_pass()


def _plain(indices: Any) -> Any:
    """Indices as plain data."""
    if isinstance(indices, (list, tuple)):
        return [_plain(index) for index in indices]
    return indices.item() if type(indices).__module__ == "numpy" and hasattr(indices, "item") else indices


def _reraise(name: str, text: str, wrapper: bytes | None) -> None:
    if wrapper is not None:
        try:
            loaded = pickle.loads(wrapper)
        except Exception:
            loaded = None
        if loaded is not None:
            loaded.reraise()
    raise (MemoryError if name == "MemoryError" else RuntimeError)(text)
