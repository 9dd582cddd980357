"""`Synchroniser`: values logged with ``sync_dist`` as all processes together have them.

When a row is due, or an epoch ends, every process of a group puts what it has of all due values into one block of float64
numbers, and one ``all_gather`` gives each process the blocks of all::

    round, turn, place in turn, digest of the keys, number of keys, then (value, amount) for each key, sorted

*round* counts passes over data and is the same everywhere. *turn* says which moment within the pass this is: a row of the
loader 0, 1, …, or the pass's end. Processes with fewer batches come to the end while others still send rows: the earliest
turn counts, those who are ahead add nothing to it and come back for the next block. So nobody waits for a process that has
no batch left, and each value is merged from exactly those that have one.

The blocks travel in a process group of their own (gloo), so that they never meet a collective of the training. Processes
whose keys differ find that by the digests; one that has no key at all never sends a block, but leaves a note in the
store of torch.distributed that it has passed, and who waits longer than `PATIENCE` looks there. See
``docs/decisions/0010-values-of-several-processes.md``.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor

from fulmen import errors
from fulmen.trainer.logging_custom import CustomEntry
from fulmen.trainer.logging_entry import SharedEntry

if TYPE_CHECKING:
    from fulmen.trainer.logging_entry import Entry
    from fulmen.trainer.trainer import Trainer

PATIENCE = 5.0
"""Seconds to wait for other processes before looking whether they come at all."""

CAPACITY = 60
"""Keys that one block holds; further ones travel in a second block."""

_HEAD = 5
_END = 1 << 20
_LEFT = (1 << 40, 0, 0)
_runs = count()
#: a group's processes -> the group that its blocks travel in; forgotten when torch.distributed is torn down
_channels: WeakKeyDictionary[Any, dict[tuple[int, ...], Any]] = WeakKeyDictionary()

#: a round, a turn and the place within it
Place = tuple[int, int, int]
#: for each process a pair (value, amount) for each entry
Parts = list[list[tuple[float, float]]]


class Synced:
    """What all processes together have of an entry.

    Args:
        key: how messages call it.
        ranks: the processes that share it.
        late: whether it is logged when an epoch ends, after the other values of the epoch have been merged.

    Attributes:
        step: the last step value; None before the first.
        epoch: the epoch's value; None before it is known.
        known: whether there ever was a common step value.
    """

    def __init__(self, key: str, ranks: tuple[int, ...], late: bool) -> None:
        self.key, self.ranks, self.late = key, ranks, late
        self.known = False
        self.reset()

    def reset(self) -> None:
        """A new epoch begins."""
        self.step: float | Tensor | None = None
        self.epoch: float | Tensor | None = None
        self._merged = {True: 0, False: 0}

    def has_new(self, updates: int, step: bool) -> bool:
        """Were values taken in since they were merged last?"""
        return updates != self._merged[step]

    def merged(self, value: float | Tensor | None, updates: int, step: bool) -> None:
        """There is a new common value; None: no process had one."""
        self._merged[step] = updates
        if not step:
            self.epoch = value
        elif value is not None:
            self.step, self.known = value, True


class Synchroniser:
    """Merges values over processes, at moments that all of them come to.

    Args:
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, rank: int, world_size: int) -> None:
        self._rank, self._everyone = rank, tuple(range(world_size))
        self._store = dist.PrefixStore(  # type: ignore[attr-defined]  # not in the stubs
            f"fulmen/values/{next(_runs)}", dist.distributed_c10d._get_default_store()
        )
        self._round = self._ends = 0
        self._rows: Counter[int] = Counter()
        self._met: set[tuple[int, ...]] = set()

    @classmethod
    def of(cls, trainer: Trainer) -> Synchroniser | None:
        """The one for a trainer; None where there is only one process."""
        if trainer.world_size < 2 or not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() < 2:
            return None
        return cls(dist.get_rank(), dist.get_world_size())

    def describe(self, entry: SharedEntry, hook: str, options: str, group: Any) -> Synced | None:
        """What an entry needs to be merged; None: this process is not in its group.

        Args:
            entry: the new entry.
            hook: where it is logged.
            options: the rest of what has to be the same in every process.
            group: a process group; None: all processes.
        """
        if group is None:
            ranks = self._everyone
        elif group is dist.GroupMember.NON_GROUP_MEMBER or dist.get_rank(group) < 0:
            return None
        else:
            ranks = tuple(sorted(dist.get_process_group_ranks(group)))
        levels = "+".join(name for name, on in (("step", entry.step), ("epoch", entry.epoch)) if on)
        key = f"{entry.base_name} ({hook}, {options}, {levels})"
        return Synced(key, ranks, late=hook.endswith("_epoch_end"))

    def leave(self) -> None:
        """An exception ends the run of this process: those who wait for its values need not wait any longer."""
        # the store may be gone, which is no news then
        with suppress(RuntimeError):
            self._store.set(f"passed/{self._rank}", json.dumps(_LEFT))

    # ---- moments -----------------------------------------------------------------------------------------------------

    def begin_pass(self) -> None:
        """A pass over data begins, or goes on after another one."""
        self._round += 1
        self._ends = 0
        self._rows.clear()

    def row(self, entries: Collection[Entry], loader: int | None, note: bool) -> None:
        """Merges step values, for a row.

        Args:
            entries: of the stage.
            loader: index of the loader in hand.
            note: leave a note that this process has passed, if it had nothing to merge. In training, where the next
                step may wait for those who wait here; an evaluation leaves one at its end.
        """
        turn = loader or 0
        self._rows[turn] += 1
        place = (self._round, turn, self._rows[turn])
        self._merge(place, entries, _of_row(entries, turn), [], step=True, note=note)

    def end(self, entries: Collection[Entry]) -> None:
        """Merges epoch values: the first time those of the pass, later those that hooks of its end have logged since."""
        self._ends += 1
        place = (self._round, _END, self._ends)
        shared = _shared(entries)
        if self._ends == 1:
            # where rows are merged, processes with more batches may still wait for this one
            due = [e for e in shared if not e.synced.late]  # type: ignore[union-attr]  # `_shared` gives those that have it
            passengers = [e for e in due if not e.epoch]
        else:
            due = [e for e in shared if e.synced.late and e.synced.has_new(e.updates(), step=False)]  # type: ignore[union-attr]  # `_shared` gives those that have it
            passengers = []
        self._merge(place, entries, due, passengers, step=False, note=True)

    def _merge(
        self,
        place: Place,
        everything: Collection[Entry],
        due: list[SharedEntry],
        passengers: list[SharedEntry],
        step: bool,
        note: bool,
    ) -> None:
        groups: dict[tuple[int, ...], list[SharedEntry]] = {}
        for entry in due:
            assert entry.synced is not None
            groups.setdefault(entry.synced.ranks, []).append(entry)
        for ranks, entries in groups.items():
            entries.sort(key=_key)
            rows = self._exchange(ranks, place, entries, everything, step)
            custom = [] if step else [e for e in entries if isinstance(e, CustomEntry) and e not in passengers]
            _take(entries, rows, step, leave=[*passengers, *custom])
            if custom:
                # at the end of a pass all are at the same place, with the same keys
                _take_values(custom, _channels[dist.group.WORLD][ranks], len(ranks))
        if note and (self._everyone not in groups or len(groups) > 1):
            self._store.set(f"passed/{self._rank}", json.dumps(place))

    # ---- blocks ------------------------------------------------------------------------------------------------------

    def _exchange(
        self,
        ranks: tuple[int, ...],
        place: Place,
        entries: list[SharedEntry],
        everything: Collection[Entry],
        step: bool,
    ) -> Parts:
        """The parts of all processes that are at this place."""
        keys = [_key(entry) for entry in entries]
        channel = self._channel(ranks, place, keys)
        pairs = _parts(entries, step)
        pairs += [0.0] * (2 * CAPACITY - len(pairs))
        block = [*place, _digest(keys), len(entries), *pairs[: 2 * CAPACITY]]
        while True:
            blocks = self._gather(channel, block, ranks, place, keys)
            heads = [row[:_HEAD] for row in blocks]
            turn = min(head[1] for head in heads)
            active = [i for i, head in enumerate(heads) if head[1] == turn]
            first = heads[active[0]]
            if any(head[0] != place[0] for head in heads) or any(heads[i] != first for i in active):
                self._refuse(channel, ranks, place, keys)
            size = int(first[4])
            values = [row[_HEAD:] for row in blocks]
            if size > CAPACITY:
                rest = pairs[2 * CAPACITY :] if place[1] == turn else [0.0] * (2 * (size - CAPACITY))
                more = self._gather(channel, rest, ranks, place, keys)
                values = [one + other for one, other in zip(values, more, strict=True)]
            theirs = [list(zip(values[i][: 2 * size : 2], values[i][1 : 2 * size : 2], strict=True)) for i in active]
            if place[1] == turn:
                return theirs
            # a row that this process has no batch for: it gets to know the values all the same
            row = sorted((e for e in _of_row(everything, int(turn)) if e.synced.ranks == ranks), key=_key)  # type: ignore[union-attr]  # `_shared` gives those that have it
            if _digest([_key(entry) for entry in row]) == first[3]:
                _take(row, theirs, step=True)

    def _channel(self, ranks: tuple[int, ...], place: Place, keys: list[str]) -> Any:
        """The group that blocks travel in; the first time in a run, when all its processes have come."""
        # by the default group, so that none outlives the processes' connection
        channels = _channels.setdefault(dist.group.WORLD, {})
        if ranks not in self._met:
            name = "-".join(map(str, ranks))
            self._store.set(f"{name}/{self._rank}", "has" if ranks in channels else "lacks")
            present = [f"{name}/{rank}" for rank in ranks]
            waited = 0.0
            while not self._store.check(present):
                waited = self._pause(waited, ranks, place, keys)
            # who came may have given up waiting since
            trouble = self._trouble(ranks, place, keys)
            if trouble is not None:
                raise trouble
            if any(self._store.get(key) == b"lacks" for key in present):
                channels[ranks] = dist.new_group(list(ranks), backend="gloo", use_local_synchronization=True)
            self._met.add(ranks)
        return channels[ranks]

    def _pause(self, waited: float, ranks: tuple[int, ...], place: Place, keys: list[str]) -> float:
        pause = min(0.1, 0.001 + waited / 10)
        time.sleep(pause)
        if waited > PATIENCE:
            trouble = self._trouble(ranks, place, keys)
            if trouble is not None:
                raise trouble
            waited = max(0.0, PATIENCE - 1.0)
        return waited + pause

    def _gather(
        self, channel: Any, block: list[float], ranks: tuple[int, ...], place: Place, keys: list[str]
    ) -> list[list[float]]:
        out = torch.empty(len(ranks), len(block), dtype=torch.float64)
        work = dist.all_gather(list(out.unbind()), torch.tensor(block, dtype=torch.float64), channel, async_op=True)
        patience, trouble = PATIENCE, None
        while True:
            try:
                work.wait(timedelta(seconds=patience))
                return out.tolist()
            except RuntimeError:
                # a wait that is over says so by the same exception as a broken connection
                if work.is_completed():
                    work.wait()
                    return out.tolist()
                if trouble is not None:
                    # the block is still on its way in there
                    _channels[dist.group.WORLD].pop(ranks)
                    raise trouble from None
            # one more wait before it is raised: what has been sent may be on its way
            trouble = self._trouble(ranks, place, keys)
            patience = min(1.0, PATIENCE)

    # ---- what may be wrong -------------------------------------------------------------------------------------------

    def _trouble(self, ranks: tuple[int, ...], place: Place, keys: list[str]) -> Exception | None:
        """Why some of these processes will not come; None: they may be slow."""
        notes = {}
        for rank in ranks:
            note = f"passed/{rank}"
            if rank != self._rank and self._store.check([note]):
                notes[rank] = tuple(json.loads(self._store.get(note)))
        passed = [rank for rank, at in notes.items() if at >= place]
        if not passed:
            return None
        waits = (
            f"rank {self._rank} waits to merge {keys}, and rank{'s' * (len(passed) > 1)} {', '.join(map(str, passed))}"
        )
        if any(notes[rank] == _LEFT for rank in passed):
            return errors.runtime_error(
                f"{waits} left the run by an exception", "The cause is in the output of the process that left"
            )
        return _differ(f"{waits} went on without logging any of them")

    def _refuse(self, channel: Any, ranks: tuple[int, ...], place: Place, keys: list[str]) -> NoReturn:
        """Everybody comes here together, and learns who has what."""
        everyone: list[Any] = [None] * len(ranks)
        dist.all_gather_object(everyone, (place, keys), group=channel)
        have = {rank: set(theirs) for rank, (_, theirs) in zip(ranks, everyone, strict=True)}
        common = set.intersection(*have.values())
        odd = [
            f"{key!r} only on rank {', '.join(str(r) for r in ranks if key in have[r])}"
            for key in sorted(set.union(*have.values()) - common)
        ]
        if not odd:
            at = ", ".join(f"rank {r} at row {p[2]} of pass {p[0]}" for r, (p, _) in zip(ranks, everyone, strict=True))
            odd = [f"{sorted(common)} a different number of times ({at})"]
        raise _differ("; ".join(odd))


def _key(entry: SharedEntry) -> str:
    assert entry.synced is not None
    return entry.synced.key


def _digest(keys: list[str]) -> int:
    """48 bits, which a float64 holds."""
    return int.from_bytes(hashlib.blake2b("\n".join(keys).encode(), digest_size=6).digest(), "big")


def _shared(entries: Iterable[Entry]) -> list[SharedEntry]:
    return [e for e in entries if isinstance(e, SharedEntry) and e.synced is not None]


def _of_row(entries: Iterable[Entry], turn: int) -> list[SharedEntry]:
    return [e for e in _shared(entries) if e.step and (e.loader or 0) == turn]


def _take(entries: list[SharedEntry], parts: Parts, step: bool, leave: Collection[SharedEntry] = ()) -> None:
    """Each entry gets the value of all processes."""
    for index, entry in enumerate(entries):
        if entry in leave:
            continue
        assert entry.synced is not None
        entry.synced.merged(entry.merge([theirs[index] for theirs in parts]), entry.updates(), step)


def _take_values(entries: list[CustomEntry], channel: Any, size: int) -> None:
    """Entries that need all values get them, in one exchange for all these entries, rank after rank."""
    everyone: list[Any] = [None] * size
    dist.all_gather_object(everyone, [entry.values() for entry in entries], group=channel)
    for entry, *theirs in zip(entries, *everyone, strict=True):
        assert entry.synced is not None
        merged = entry.merge_values([value for values in theirs for value in values])
        entry.synced.merged(merged, entry.updates(), step=False)


def _differ(received: str) -> Exception:
    return errors.misconfiguration(
        "self.log(..., sync_dist=True)",
        "the same names, hooks and options in every process",
        errors.Words(received),
        "Log it in every process, or pass `sync_dist=False` (`rank_zero_only=True` for what only rank 0 logs)",
    )


def _parts(entries: list[SharedEntry], step: bool) -> list[float]:
    """Value and amount of each entry in turn. Values on a device come over in one copy."""
    pairs: list[float] = []
    tensors: dict[torch.device, list[tuple[int, Tensor]]] = {}
    for entry in entries:
        assert entry.synced is not None
        new = not step or entry.synced.has_new(entry.updates(), step=True)
        value, amount = entry.parts(step) if new else (0.0, 0.0)
        if isinstance(value, Tensor):
            tensors.setdefault(value.device, []).append((len(pairs), value.detach().double()))
            value = 0.0
        pairs += (value, amount)
    for waiting in tensors.values():
        for (index, _), number in zip(waiting, torch.stack([t for _, t in waiting]).tolist(), strict=True):
            pairs[index] = number
    return pairs
