"""Seeding and guarding the random generators of Python, numpy and torch."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from fulmen.utilities.rank_zero import _get_rank, rank_prefixed_message, rank_zero_only, rank_zero_warn

log = logging.getLogger(__name__)

min_seed_value = 0
max_seed_value = 2**32 - 1  # numpy takes 32 bits
_WORD = 2**64 - 1


def seed_everything(seed: int | None = None, workers: bool = False, verbose: bool = True) -> int:
    """Seed the generators of Python, numpy and torch (all devices).

    Sets the environment variables ``PL_GLOBAL_SEED`` and ``PL_SEED_WORKERS``, so that child processes know.

    Args:
        seed: 0 to 2³²-1, or anything that ``int`` turns into that. None: ``PL_GLOBAL_SEED``, or 0 with a warning.
        workers: let the trainer seed the workers of every `DataLoader` without an own ``worker_init_fn``.
        verbose: log the seed, on every rank.

    Returns:
        The seed.

    Raises:
        ValueError: the seed is out of range or not a number.
    """
    if seed is None:
        seed = _seed_of_environment(verbose)
    seed = int(seed)
    if not min_seed_value <= seed <= max_seed_value:
        raise ValueError(f"seed: {seed} is not in bounds, numpy accepts {min_seed_value} to {max_seed_value}.")
    if verbose:
        log.info(rank_prefixed_message(f"Seed set to {seed}", _get_rank()))

    os.environ["PL_GLOBAL_SEED"] = str(seed)
    os.environ["PL_SEED_WORKERS"] = str(int(workers))
    random.seed(seed)
    numpy = _numpy()
    if numpy is not None:
        numpy.random.seed(seed)
    torch.manual_seed(seed)
    return seed


def _seed_of_environment(verbose: bool) -> int:
    text = os.environ.get("PL_GLOBAL_SEED")
    if text is None:
        if verbose:
            rank_zero_warn("No seed found, seed set to 0", stacklevel=6)
        return 0
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"Invalid seed specified via PL_GLOBAL_SEED: received {text!r}.") from None


def reset_seed() -> None:
    """Seed again what `seed_everything` seeded last; nothing if it was never called."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    if seed is not None:
        seed_everything(int(seed), workers=os.environ.get("PL_SEED_WORKERS", "0") == "1", verbose=False)


def pl_worker_init_function(worker_id: int, rank: int | None = None) -> None:
    """Seed the generators of a `DataLoader` worker, differently for every worker, rank and epoch.

    The trainer uses it as ``worker_init_fn`` after ``seed_everything(workers=True)``.

    Args:
        worker_id: index of the worker.
        rank: global rank of the process that owns the worker; None: as ``rank_zero_only`` knows it.
    """
    global_rank = (rank_zero_only.rank or 0) if rank is None else rank
    # torch seeds a worker with base + id: the base is the same for all of them, and new in every epoch
    base_seed = torch.initial_seed() - worker_id
    log.debug(f"seeding worker {worker_id} of rank {global_rank} from base seed {base_seed}")
    first, high, low, _ = _generate_seed_sequence(base_seed, worker_id, global_rank, count=4)
    torch.manual_seed(first)
    random.seed(high << 32 | low)
    numpy = _numpy()
    if numpy is not None:
        numpy.random.seed(numpy.random.SeedSequence([base_seed, worker_id, global_rank]).generate_state(4))


def _generate_seed_sequence(base_seed: int, worker_id: int, global_rank: int, count: int) -> list[int]:
    """``count`` 64-bit seeds from three numbers, for generators that cannot mix entropy by themselves.

    The finaliser of MurmurHash3 spreads the bits, Knuth's 64-bit linear congruential generator makes the sequence.
    """
    state = base_seed << 32 | worker_id << 16 | global_rank
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        state = (state ^ state >> 33) * factor & _WORD
    state ^= state >> 33
    seeds: list[int] = []
    while len(seeds) < count:
        state = state * 6364136223846793005 + 1 & _WORD
        seeds.append(state)
    return seeds


@contextmanager
def isolate_rng(include_cuda: bool = True) -> Generator[None, None, None]:
    """Give all global generators back the state that they had on entry, whatever was drawn inside.

    Args:
        include_cuda: also those of the CUDA devices; False in a forked process, which cannot use CUDA.
    """
    states = _collect_rng_states(include_cuda)
    try:
        yield
    finally:
        _set_rng_states(states)


def _collect_rng_states(include_cuda: bool = True) -> dict[str, Any]:
    """The state of all global generators."""
    states: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    numpy = _numpy()
    if numpy is not None:
        states["numpy"] = numpy.random.get_state()
    if include_cuda:
        states["torch.cuda"] = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return states


def _set_rng_states(rng_state_dict: dict[str, Any]) -> None:
    """Restore what `_collect_rng_states` returned, also after a trip through JSON-like storage (lists for tuples)."""
    torch.set_rng_state(rng_state_dict["torch"])
    if "torch.cuda" in rng_state_dict:
        torch.cuda.set_rng_state_all(rng_state_dict["torch.cuda"])
    numpy = _numpy()
    if numpy is not None and "numpy" in rng_state_dict:
        numpy.random.set_state(rng_state_dict["numpy"])
    version, words, gauss = rng_state_dict["python"]
    random.setstate((version, tuple(words), gauss))


def _numpy() -> Any:
    """Numpy, or None. torch imports it where it is installed."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        try:
            import numpy
        except ImportError:
            return None
    return numpy
