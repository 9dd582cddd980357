"""Seeds for the random generators of worker processes."""

from __future__ import annotations

import random
import sys
from typing import Literal

import torch

Seeding = Literal["batch", "stock"]
"""``Trainer(worker_seeding=...)``: anew for every batch, or once for every worker as the stock loader does."""

_MASK = 2**64 - 1


def seed_batch(base: int, epoch: int, number: int) -> None:
    """Seed torch's, Python's and numpy's generators of this process for one batch: whoever makes it, it comes out the same.

    Args:
        base: the run's seed.
        epoch: number of the pass.
        number: number of the batch in the pass.
    """
    first, second = words(base, epoch, number)
    # not torch.manual_seed, which looks after the devices, too
    torch.default_generator.manual_seed(first >> 1)
    random.seed(first << 64 | second)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        # a list of more words would take five times as long as one
        numpy.random.seed(second >> 32 ^ first & 0xFFFFFFFF)


def words(*numbers: int) -> tuple[int, int]:
    """Two numbers of 64 bits that depend on every bit of all numbers (the finalizer of splitmix64, Steele et al. 2014)."""
    state = 0
    for number in numbers:
        state = _mixed(state ^ (number & _MASK))
    return state, _mixed(state)


def _mixed(state: int) -> int:
    state = (state + 0x9E3779B97F4A7C15) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def seed_worker(base: int, worker: int) -> None:
    """Seed the generators of a worker process as the stock loader does."""
    from torch.utils.data._utils.worker import _generate_state

    random.seed(base + worker)
    torch.manual_seed(base + worker)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(_generate_state(base, worker))
