"""`Throughput`: batches, samples, items and operations per second over the last updates."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch

from fulmen import errors
from fulmen.precision.precision import Precision
from fulmen.utilities.available_flops import get_available_flops
from fulmen.utilities.flops import measure_flops

__all__ = ["Throughput", "get_available_flops", "measure_flops"]


class Throughput:
    """Turns running totals into rates.

    A rate is the growth of a total between the oldest and the newest of the last ``window_size`` updates, divided by the
    time between the two; there is none before so many updates came.

    Args:
        available_flops: peak operations per second of one device, for the utilization; None: unknown.
        world_size: processes. Above 1 the rates of all together are given too, besides those of one ("device/…").
        window_size: updates that a rate looks back over.
        separator: between "device" and a rate's name.
    """

    def __init__(
        self,
        available_flops: float | None = None,
        world_size: int = 1,
        window_size: int = 100,
        separator: str = "/",
    ) -> None:
        for argument, value, least in (("world_size", world_size, 1), ("window_size", window_size, 2)):
            if value < least:
                raise errors.value_error(
                    f"Throughput({argument})", f"at least {least}", value, "A rate needs two moments and one process"
                )
        self.available_flops = available_flops
        self.separator = separator
        self.world_size = world_size
        self._time: deque[float] = deque(maxlen=window_size)
        self._batches: deque[int] = deque(maxlen=window_size)
        self._samples: deque[int] = deque(maxlen=window_size)
        self._lengths: deque[int] = deque(maxlen=window_size)
        self._flops: deque[int] = deque(maxlen=window_size)

    def update(
        self, *, time: float, batches: int, samples: int, lengths: int | None = None, flops: int | None = None
    ) -> None:
        """Adds a moment.

        Args:
            time: seconds since the start.
            batches: batches so far, on this device.
            samples: samples so far, on this device, no fewer than batches.
            lengths: items (such as tokens) so far, no fewer than samples. Given always or never.
            flops: operations since the last update, on this device.

        Raises:
            ValueError: a total did not grow, or contradicts another.
            RuntimeError: ``lengths`` came at some updates only.
        """
        if samples < batches:
            raise errors.value_error(
                "Throughput.update(samples)",
                f"Expected samples ({samples}) to be greater or equal than batches ({batches})",
                samples,
                "Count the samples of all batches so far",
            )
        if lengths is not None and lengths < samples:
            raise errors.value_error(
                "Throughput.update(lengths)",
                f"Expected lengths ({lengths}) to be greater or equal than samples ({samples})",
                lengths,
                "Count the items of all samples so far",
            )
        _append(self._time, time, "time")
        _append(self._batches, batches, "batches")
        _append(self._samples, samples, "samples")
        if lengths is not None:
            _append(self._lengths, lengths, "lengths")
            if len(self._lengths) != len(self._samples):
                raise errors.runtime_error(
                    f"`lengths` came at {len(self._lengths)} updates of {len(self._samples)}: "
                    "there needs to be the same number of samples",
                    "Pass `lengths` at every update or at none",
                )
        if flops is not None:
            self._flops.append(flops * self.world_size)

    def compute(self) -> dict[str, int | float]:
        """The totals, and the rates as soon as there are any.

        Returns:
            "time", "batches", "samples", "lengths" as last given; "device/batches_per_sec", "device/samples_per_sec",
            "device/items_per_sec", "device/flops_per_sec", "device/mfu" (the share of ``available_flops``), and without
            "device/" those of all processes.
        """
        out: dict[str, int | float] = {
            "time": self._time[-1],
            "batches": self._batches[-1],
            "samples": self._samples[-1],
        }
        if self._lengths:
            out["lengths"] = self._lengths[-1]
        if len(self._time) < (self._time.maxlen or 0):
            return out
        elapsed = self._time[-1] - self._time[0]
        for name, totals in (("batches", self._batches), ("samples", self._samples), ("items", self._lengths)):
            if totals:
                self._put(out, f"{name}_per_sec", (totals[-1] - totals[0]) / elapsed)
        if len(self._flops) == self._flops.maxlen:
            # the oldest update's operations were done before the window's first moment
            rate = (sum(self._flops) - self._flops[0]) / elapsed / self.world_size
            self._put(out, "flops_per_sec", rate)
            if self.available_flops:
                out[f"device{self.separator}mfu"] = rate / self.available_flops
        return out

    def _put(self, out: dict[str, int | float], name: str, per_device: float) -> None:
        out[f"device{self.separator}{name}"] = per_device
        if self.world_size > 1:
            out[name] = per_device * self.world_size

    def reset(self) -> None:
        """Forgets all updates."""
        for window in (self._time, self._batches, self._samples, self._lengths, self._flops):
            window.clear()


def compute_dtype(precision: Precision) -> torch.dtype:
    """In which type a precision multiplies matrices."""
    name = str(precision.precision)
    if name.startswith("bf16"):
        return torch.bfloat16
    if name.startswith("16"):
        return torch.float16
    return torch.float64 if name.startswith("64") else torch.float32


def _append(window: deque[Any], value: float, name: str) -> None:
    if window and value <= window[-1]:
        raise errors.value_error(
            f"Throughput.update({name})",
            f"Expected the value to increase, last: {window[-1]}, current: {value}",
            value,
            "Totals grow with every update; call `reset()` before a new count",
        )
    window.append(value)
