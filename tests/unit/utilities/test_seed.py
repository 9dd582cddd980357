"""Seeding, and guarding generators."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch

from fulmen.utilities.seed import (
    _collect_rng_states,
    _set_rng_states,
    isolate_rng,
    pl_worker_init_function,
    reset_seed,
    seed_everything,
)


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    states = _collect_rng_states()
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    yield
    _set_rng_states(states)


def _draw():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_same_seed_same_numbers():
    assert seed_everything(3) == 3
    first = _draw()
    assert seed_everything("3") == 3
    assert _draw() == first
    assert os.environ["PL_GLOBAL_SEED"] == "3"
    assert os.environ["PL_SEED_WORKERS"] == "0"
    seed_everything(4, workers=True)
    assert _draw() != first
    assert os.environ["PL_SEED_WORKERS"] == "1"


def test_default_is_the_environment_or_zero(monkeypatch):
    with pytest.warns(UserWarning, match="No seed found, seed set to 0") as record:
        assert seed_everything() == 0
    assert record[0].filename == __file__
    monkeypatch.setenv("PL_GLOBAL_SEED", "11")
    assert seed_everything() == 11


@pytest.mark.parametrize("seed", [-1, 2**32, "one"])
def test_impossible_seeds(seed):
    with pytest.raises(ValueError):
        seed_everything(seed)


def test_impossible_seed_of_environment(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "one")
    with pytest.raises(ValueError, match="PL_GLOBAL_SEED.*'one'"):
        seed_everything()


def test_message_only_if_verbose(caplog):
    with caplog.at_level("INFO"):
        seed_everything(5, verbose=False)
        assert not caplog.records
        seed_everything(5)
    assert caplog.messages == ["Seed set to 5"]


def test_reset_seed():
    reset_seed()  # nothing to reset
    assert "PL_GLOBAL_SEED" not in os.environ
    seed_everything(7, workers=True)
    first = _draw()
    reset_seed()
    assert _draw() == first
    assert os.environ["PL_SEED_WORKERS"] == "1"


@pytest.mark.parametrize("fails", [False, True])
def test_isolate_rng(fails):
    seed_everything(1)
    expected = _draw()
    seed_everything(1)
    try:
        with isolate_rng():
            _draw()
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert _draw() == expected


def test_states_survive_lists():
    states = _collect_rng_states()
    expected = _draw()
    version, words, gauss = states["python"]
    states["python"] = [version, list(words), gauss]
    _set_rng_states(states)
    assert _draw() == expected


def test_workers_differ_by_everything():
    seen = set()
    for base, worker, rank in [(1, 0, 0), (1, 1, 0), (1, 0, 1), (2, 0, 0)]:
        torch.manual_seed(base + worker)
        pl_worker_init_function(worker, rank)
        seen.update(_draw())
    assert len(seen) == 12
