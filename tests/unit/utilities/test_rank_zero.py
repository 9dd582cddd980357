"""Messages and calls of rank 0, and where warnings point."""

from __future__ import annotations

import logging
import warnings

import pytest

from fulmen.utilities import rank_zero as rz
from fulmen.utilities.warnings import PossibleUserWarning, disable_possible_user_warnings


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    monkeypatch.setattr(rz.rank_zero_only, "rank", 0)
    monkeypatch.setattr(rz, "_muted", [])
    with warnings.catch_warnings():
        yield


def _run(source: str, module: str):
    """Run code as if it stood in a file of some module."""
    code = compile(source, f"/somewhere/{module}.py", "exec")
    namespace = {"__name__": module, "rz": rz, "PossibleUserWarning": PossibleUserWarning}
    exec(code, namespace)
    return namespace


def test_only_rank_zero_runs(monkeypatch):
    @rz.rank_zero_only
    def f(x):
        """Doc."""
        return x + 1

    assert f(1) == 2
    assert (f.__name__, f.__doc__) == ("f", "Doc.")
    monkeypatch.setattr(rz.rank_zero_only, "rank", 1)
    assert f(1) is None
    assert rz.rank_zero_only(lambda: 1, default="else")() == "else"
    monkeypatch.setattr(rz.rank_zero_only, "rank", None)
    with pytest.raises(RuntimeError, match="rank_zero_only.rank"):
        f(1)


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, None),
        ({"SLURM_PROCID": "3"}, 3),
        ({"SLURM_PROCID": "3", "LOCAL_RANK": "1"}, 1),
        ({"RANK": "2", "LOCAL_RANK": "0"}, 2),
    ],
)
def test_rank_of_environment(monkeypatch, environment, rank):
    for name in rz._RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rz._get_rank() == rank


def test_other_ranks_are_silent(monkeypatch, caplog, recwarn):
    monkeypatch.setattr(rz.rank_zero_only, "rank", 1)
    with caplog.at_level(logging.DEBUG):
        rz.rank_zero_info("a")
        rz.rank_zero_debug("b")
        rz.rank_zero_warn("c")
        rz.rank_zero_deprecation("d")
    assert not caplog.records
    assert not recwarn.list


def test_log_records_point_at_the_caller(caplog):
    with caplog.at_level(logging.DEBUG, logger="fulmen"):
        rz.rank_zero_info("a %s", 1)
        rz.rank_zero_debug("b")
        rz.WarningCache().info("c")
    assert [r.getMessage() for r in caplog.records] == ["a 1", "b", "c"]
    assert {r.filename for r in caplog.records} == {"test_rank_zero.py"}
    assert {r.name for r in caplog.records} == {"fulmen.utilities.rank_zero"}


@pytest.mark.parametrize(
    "call",
    [
        lambda: rz.rank_zero_warn("m"),
        lambda: rz.rank_zero_deprecation("m"),
        lambda: rz.WarningCache().warn("m"),
        lambda: rz.WarningCache().deprecation("m"),
    ],
)
def test_warnings_point_at_the_caller(call):
    with pytest.warns(Warning, match="m") as record:
        call()
    assert record[0].filename == __file__


def test_warnings_from_inside_point_at_the_user():
    inner = _run("def inner(): rz.rank_zero_warn('w')\ndef outer(): inner()", "fulmen.somewhere")["outer"]
    with pytest.warns(UserWarning) as record:
        inner()
    assert record[0].filename == __file__


def test_without_a_user_the_warning_place_is_named():
    # everything up to the interpreter's start belongs to fulmen: a process of its own shows that
    import subprocess
    import sys

    code = "__name__ = 'fulmen.x'\nfrom fulmen.utilities.rank_zero import rank_zero_warn\nrank_zero_warn('w')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "<string>:3: UserWarning: w" in done.stderr


def test_warning_cache_gives_each_message_once(recwarn):
    cache = rz.WarningCache()
    for message in ("a", "a", "b"):
        cache.warn(message)
        cache.deprecation(message + "!")
    assert [str(w.message) for w in recwarn.list] == ["a", "a!", "b", "b!"]
    assert {w.category for w in recwarn.list} == {UserWarning, rz.LightningDeprecationWarning}
    assert cache == {"a", "a!", "b", "b!"}


def test_prefix():
    assert rz.rank_prefixed_message("m", None) == "m"
    assert rz.rank_prefixed_message("m", 2) == "[rank: 2] m"


@pytest.mark.parametrize(
    "module", ["fulmen.strategies", "lightning.pytorch.strategies", "pytorch_lightning.strategies"]
)
def test_possible_user_warnings_of_one_module_can_be_switched_off(recwarn, module):
    source = "def w(c): rz.rank_zero_warn('w', category=c)"
    off, on = _run(source, "fulmen.strategies.x")["w"], _run(source, "fulmen.trainer.x")["w"]
    disable_possible_user_warnings(module)
    off(PossibleUserWarning)
    assert not recwarn.list
    off(UserWarning)
    on(PossibleUserWarning)
    assert len(recwarn.list) == 2


def test_all_possible_user_warnings_can_be_switched_off():
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        disable_possible_user_warnings()
        rz.rank_zero_warn("a", category=PossibleUserWarning)
        rz.rank_zero_warn("b")
    assert [str(w.message) for w in record] == ["b"]
