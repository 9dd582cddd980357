"""The stock loader's own batches, made by a thread while the consumer has the one before.

For datasets and collate functions of any kind, without worker processes. Whether a thread gains anything depends on how long
their code leaves the interpreter to others, so it is measured: the first batches are made when they are asked for, the next
ones ahead, and the thread stays only if a batch together with its step then takes clearly less.

Whether it changes anything is looked at too. While the first batches are made, and one in `RECHECK` later on, no random
generator may have moved. While the thread works, none may have moved since it began, whenever it has made a batch. If one
has, the batches that are under way are made once more from the states before, which tells who drew: if it was the
dataset, they are made again in the stock loader's order; if it was the training, its draws stay. Either way everything goes
on without a thread. (What this cannot tell apart: a dataset and a training that had both drawn nothing before, and both begin
with it between the same two batches.)

A batch that fails in the thread is made again by the consumer: code that insists on its thread (as sqlite does) works, and
errors are raised where the stock loader raises them.
"""

from __future__ import annotations

import os
import statistics
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from fulmen.prefetch.placed import PlacedSource
from fulmen.prefetch.samplers import batches_ahead
from fulmen.prefetch.state import Snapshot, own_generators, owners
from fulmen.prefetch.stock_pass import StockPass, begin_pass, pinned, stock_batches

PROBED = 6
"""Batches made when they are asked for, to know what they cost and that they draw nothing; the first one does not count."""

TRIED = 10
"""Batches made ahead, to know what that gains; the first two do not count."""

RECHECK = 256
"""Every so many batches one is made when it is asked for, to see that it still draws nothing."""

WORTH = 300e-6
"""Seconds from which on a batch is worth a thread: handing one over takes some tens of microseconds."""

GAIN = 0.95
"""What share of the time a batch with its step may take, with the thread, for the thread to stay."""

DEPTH = 2
"""Batches ahead."""

Coming = deque[tuple[Any, "Future[Any] | None"]]
"""Indices of batches, and what makes them if a thread does."""


def reason_against(loader: DataLoader[Any]) -> str | None:
    """Why nothing may be made ahead for this loader, None if it can be tried."""
    if batches_ahead(loader) == 0:
        return "its sampler's next indices cannot be known early"
    for owner in owners(loader):
        values = list(getattr(owner, "__dict__", {}).values())
        if any(isinstance(value, nn.Module) and any(True for _ in value.parameters()) for value in values):
            return "its samples may depend on a network's parameters"
    return None


class LookAheadSource(PlacedSource):
    """Passes over a loader with samples of any kind.

    Args:
        loader: a loader that `reason_against` has nothing against.
        code: what its samples are, for the sentence that explains.
        depth: batches ahead.
    """

    def __init__(self, loader: DataLoader[Any], code: str, depth: int = DEPTH) -> None:
        super().__init__(loader, f"{code}; whether a thread that makes them ahead gains anything is being measured")
        self.kind = "look-ahead"
        self._code = code
        self._depth = depth
        self._probed: list[float] = []
        self._tried: list[float] = []
        self._settled = False
        self._asked = 0.0
        self._before: Snapshot | None = None

    def epoch(self) -> Iterator[Any]:
        """Start a pass."""
        begun = begin_pass(self.loader, self._place)
        if self.kind == "plain" or not begun.by_index:
            self._running = stock_batches(begun, self._place)
        else:
            self._running = self._batches(begun)
        return self._running  # type: ignore[no-any-return]  # an attribute of any kind of pass

    def _batches(self, begun: StockPass) -> Iterator[Any]:
        place, limit, drawn = self._place, batches_ahead(self.loader), self._place.taken
        coming: Coming = deque()
        pool: ThreadPoolExecutor | None = None
        process, ended, recheck = os.getpid(), False, drawn + RECHECK
        if not begun.started:
            place.begin_sampler()
        self._asked, self._before = 0.0, None
        own = own_generators(self.loader)
        try:
            while True:
                self._note_cycle(perf_counter())
                if drawn >= recheck and not coming:
                    # this one is made here, with nothing in the thread
                    ahead, recheck = 0, drawn + RECHECK
                else:
                    ahead = self._depth if self._looks_ahead() and drawn < recheck else 0
                while not ended and len(coming) <= ahead and (not coming or drawn < limit):
                    indices = next(begun.sampler, None)
                    if indices is None:
                        ended = True
                        break
                    drawn += 1
                    made = None
                    if ahead:
                        pool = pool or ThreadPoolExecutor(1, "fulmen-look-ahead")
                        if not coming:
                            # the thread rests, and the sampler has drawn what it draws
                            self._before = Snapshot(own)
                        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
                        made = pool.submit(_fetch, begun.inner, indices, *modes)
                    coming.append((indices, made))
                if not coming:
                    return
                indices, made = coming.popleft()
                if made is not None and process != os.getpid():
                    # the thread stayed in the parent
                    pool = made = None
                    coming = deque((indices, None) for indices, _ in coming)
                    self._decide_against("the process was forked")
                if made is not None and self._before is not None:
                    wait([made])
                    if not self._before.is_now():
                        coming.appendleft((indices, made))
                        coming = self._who_drew(begun.inner, coming, self._before)
                        indices, made = coming.popleft()
                if made is not None and made.exception() is not None:
                    made = None
                    self._decide_against("they cannot be made by another thread")
                    # two threads at once would be one more than the dataset knows
                    wait([other for _, other in coming if other is not None and not other.cancel()])
                    coming = deque((indices, None) for indices, _ in coming)
                yield self._next(begun.inner, indices, made)
        finally:
            if pool is not None and process == os.getpid():
                # as with the stock loader, none of the dataset's code runs once the pass is over
                pool.shutdown(wait=True, cancel_futures=True)

    def _who_drew(self, inner: Any, coming: Coming, before: Snapshot) -> Coming:
        """A generator has moved while the thread worked: what is to become of the batches that are under way."""
        self._before = None
        self._decide_against("they or the training draw from random generators, in turn")
        under_way = [made for _, made in coming if made is not None]
        wait([made for made in under_way if not made.cancel()])
        if not under_way:
            return coming
        now = Snapshot(own_generators(self.loader))
        before.restore()
        try:
            for indices, _ in coming:
                inner._dataset_fetcher.fetch(indices)
        except Exception:
            # it comes again where the stock loader raises it
            drew = not before.is_now()
        else:
            drew = not before.is_now()
        (before if drew else now).restore()
        return deque((indices, None) for indices, _ in coming)

    def _next(self, inner: Any, indices: Any, made: Future[Any] | None) -> Any:
        """The batch of these indices: from the thread if it has made it, else here."""
        if made is not None:
            batch = made.result()
        elif self.kind == "look-ahead":
            batch = self._watched(inner, indices)
        else:
            batch = inner._dataset_fetcher.fetch(indices)
        if inner._pin_memory:
            batch = pinned(batch, inner._pin_memory_device)
        self._place.taken += 1
        return batch

    def _watched(self, inner: Any, indices: Any) -> Any:
        """Makes a batch here, and sees what it costs and whether a random generator has moved."""
        came = perf_counter()
        before = Snapshot(own_generators(self.loader))
        begin = perf_counter()
        batch = inner._dataset_fetcher.fetch(indices)
        taken = perf_counter() - begin
        if not before.is_now():
            self._decide_against("they draw from random generators, in turn with the training")
        elif not self._settled and len(self._probed) >= 2 and taken < WORTH:
            self._decide_against("they are made too quickly for a thread to gain")
        # watching is no part of what a batch takes without a thread
        self._asked += perf_counter() - came - taken
        return batch

    def _looks_ahead(self) -> bool:
        return self.kind == "look-ahead" and len(self._probed) >= PROBED

    def _note_cycle(self, now: float) -> None:
        """The consumer asks again: what did the batch before take, with its step?"""
        asked, self._asked = self._asked, now
        if not asked or self._settled or self.kind == "plain":
            return
        if len(self._probed) < PROBED:
            self._probed.append(now - asked)
        else:
            self._tried.append(now - asked)
            if len(self._tried) >= TRIED:
                self._judge()

    def _judge(self) -> None:
        self._settled = True
        # batches made ahead come in bursts, most of them at once: their median would say that they cost nothing
        without, with_thread = statistics.median(self._probed[1:]), statistics.fmean(self._tried[2:])
        if with_thread > GAIN * without:
            self._decide_against(
                f"a thread gains nothing ({with_thread * 1e3:.2f} ms a step with it, {without * 1e3:.2f} ms without)"
            )
        else:
            self.why = f"{self._code}; a thread makes them ahead ({with_thread * 1e3:.2f} ms a step, {without * 1e3:.2f} ms without)"

    def _decide_against(self, reason: str) -> None:
        self.kind, self._settled = "plain", True
        self.why = f"{self._code}, and {reason}"


def _fetch(inner: Any, indices: Any, gradients: bool, inference: bool) -> Any:
    """In the thread, under the modes that the consumer has: they belong to threads."""
    with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
        return inner._dataset_fetcher.fetch(indices)
