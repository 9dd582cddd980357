"""Storages that lie on a device: brought to main memory through page-locked buffers.

A synchronous save asks for them piece by piece, through two buffers that take turns: one is being filled while the other is
being written. A save in the background copies them on a stream of its own into page-locked memory that is reused from save to
save; the device's memory does not grow, and the next optimizer step waits on the device, not in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch

from fulmen._core import CheckpointArchive

#: bytes of each of the two buffers
_PIECE: Final = 8 << 20

Fetch = Callable[[int, int, int, int], None]


def fetcher(archive: CheckpointArchive) -> Fetch | None:
    """What brings pieces of an archive's device storages, or None if there are none."""
    storages = dict(archive.device_storages())
    return _Ring(storages).fetch if storages else None


class _Ring:
    """Two page-locked buffers; the next piece is on its way while the last one is written."""

    def __init__(self, storages: dict[int, torch.UntypedStorage]) -> None:
        self.storages = storages
        pinned = any(storage.device.type == "cuda" for storage in storages.values())
        self.buffers = [torch.empty(_PIECE, dtype=torch.uint8, pin_memory=pinned) for _ in range(2)]
        self.turn = 0
        self.ahead: tuple[int, int, int] | None = None
        self.event: Any = None

    def fetch(self, number: int, offset: int, address: int, count: int) -> None:
        """Puts `count` bytes of a storage, from `offset` on, at an address in main memory."""
        if self.ahead != (number, offset, count):
            self._start(number, offset, count)
        self._wait()
        ready = self.buffers[self.turn][:count]
        self.turn = 1 - self.turn
        following = offset + count
        left = self.storages[number].nbytes() - following
        if left > 0:
            self._start(number, following, min(left, _PIECE))
        _copy_to(address, ready)

    def _start(self, number: int, offset: int, count: int) -> None:
        storage = self.storages[number]
        source = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, offset, (count,), (1,))
        self.buffers[self.turn][:count].copy_(source, non_blocking=True)
        self.ahead = (number, offset, count)
        if storage.device.type == "cuda":
            self.event = torch.cuda.Event()
            self.event.record(torch.cuda.current_stream(storage.device))

    def _wait(self) -> None:
        event, self.event = self.event, None
        if event is not None:
            event.synchronize()


def _copy_to(address: int, source: torch.Tensor) -> None:
    import ctypes

    ctypes.memmove(address, source.data_ptr(), source.numel())


class Staging:
    """Page-locked copies of device storages, for saves in the background."""

    def __init__(self) -> None:
        self._spare: list[torch.Tensor] = []
        self._used: list[torch.Tensor] = []
        self._places: dict[tuple[torch.device, int, int], torch.Tensor] = {}
        self._events: list[tuple[torch.device, Any]] = []
        self._streams: dict[torch.device, Any] = {}

    def take(self, archive: CheckpointArchive, lasting: set[int], overlap: bool, same_moment: bool) -> None:
        """Starts the copies of an archive's device storages, and makes it look at them.

        Args:
            archive: the encoded checkpoint.
            lasting: addresses that only an optimizer's step changes.
            overlap: the device may go on before these have been copied.
            same_moment: the copies of lasting storages that were taken last are those of this state too.
        """
        storages = archive.device_storages()
        if not same_moment:
            self._spare += self._used
            self._used, self._places = [], {}
        if not storages:
            return
        early = [(n, s) for n, s in storages if s.data_ptr() not in lasting]
        late = [(n, s) for n, s in storages if s.data_ptr() in lasting]
        for stream in self._refreshed({s.device for _, s in storages}):
            # what was computed so far is what has to be saved
            stream.wait_stream(torch.cuda.current_stream(stream.device))
        for number, storage in early:
            self._copy(archive, number, storage)
        if not overlap:
            for number, storage in late:
                self._copy_once(archive, number, storage)
        for device, event in self._record():
            torch.cuda.current_stream(device).wait_event(event)
        if overlap:
            for number, storage in late:
                self._copy_once(archive, number, storage)
        self._events += self._record()

    def _copy_once(self, archive: CheckpointArchive, number: int, storage: torch.UntypedStorage) -> None:
        key = (storage.device, storage.data_ptr(), storage.nbytes())
        if key in self._places:
            archive.substitute(number, self._places[key].data_ptr(), self._places[key])
        else:
            self._places[key] = self._copy(archive, number, storage)

    def _copy(self, archive: CheckpointArchive, number: int, storage: torch.UntypedStorage) -> torch.Tensor:
        size, device = storage.nbytes(), storage.device
        host = self._buffer(size, device.type == "cuda")
        source = torch.empty(0, dtype=torch.uint8, device=device).set_(storage, 0, (size,), (1,))
        if device.type == "cuda":
            with torch.cuda.stream(self._streams[device]):
                host[:size].copy_(source, non_blocking=True)
            source.record_stream(self._streams[device])
        else:
            host[:size].copy_(source)
        self._used.append(host)
        archive.substitute(number, host.data_ptr(), host)
        return host

    def _refreshed(self, devices: set[torch.device]) -> list[Any]:
        for device in devices:
            if device.type == "cuda" and device not in self._streams:
                self._streams[device] = torch.cuda.Stream(device)
        return list(self._streams.values())

    def _record(self) -> list[tuple[torch.device, Any]]:
        recorded = []
        for device, stream in self._streams.items():
            event = torch.cuda.Event()
            event.record(stream)
            recorded.append((device, event))
        return recorded

    def _buffer(self, size: int, pinned: bool) -> torch.Tensor:
        fitting = [b for b in self._spare if size <= b.numel() <= 2 * size + 4096]
        if fitting:
            best = min(fitting, key=torch.Tensor.numel)
            self._spare = [b for b in self._spare if b is not best]
            return best
        return torch.empty(size, dtype=torch.uint8, pin_memory=pinned)

    def before_step(self) -> None:
        """The devices' next work waits for the copies; Python does not."""
        for device, event in self._events:
            torch.cuda.current_stream(device).wait_event(event)

    def wait(self) -> None:
        """Waits until the copies are complete."""
        events, self._events = self._events, []
        for _, event in events:
            event.synchronize()

    def clear(self) -> None:
        """Lets go of the buffers."""
        self._spare, self._used, self._places = [], [], {}
