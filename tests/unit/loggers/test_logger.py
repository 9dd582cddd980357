from __future__ import annotations

import copy
import pickle
from argparse import Namespace
from collections.abc import Iterable
from typing import Any

import pytest

from fulmen.loggers import Logger
from fulmen.loggers.logger import DummyExperiment, DummyLogger, merge_dicts, rank_zero_experiment
from fulmen.utilities.rank_zero import rank_zero_only


class Minimal(Logger):
    name = "n"
    version = 1

    def __init__(self) -> None:
        self.saved = 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None: ...

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None: ...

    def save(self) -> None:
        self.saved += 1

    @property
    @rank_zero_experiment
    def experiment(self) -> str:
        return "real"


def test_a_logger_has_to_define_four_things() -> None:
    for name in ("name", "version", "log_metrics", "log_hyperparams"):
        members = {n: getattr(Minimal, n) for n in ("name", "version", "log_metrics", "log_hyperparams") if n != name}
        with pytest.raises(TypeError, match=name):
            type("Partial", (Logger,), members)()


def test_what_a_logger_has_by_itself() -> None:
    logger = Minimal()
    assert (logger.save_dir, logger.root_dir, logger.log_dir, logger.group_separator) == (None, None, None, "/")
    logger.log_graph(None)
    logger.after_save_checkpoint(None)
    logger.finalize("success")
    assert logger.saved == 1


def test_experiment_is_a_dummy_on_other_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Minimal().experiment == "real"
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    experiment: Any = Minimal().experiment
    assert isinstance(experiment, DummyExperiment)
    assert experiment.anything(1, two=2) is None
    assert experiment[0].anything() is None
    experiment["key"] = 1
    assert experiment["key"] is experiment


def test_dummy_logger_takes_everything() -> None:
    logger = DummyLogger()
    logger.log_metrics("1", 2, three=3)
    logger.log_hyperparams("1", 2, three=3)
    assert (logger.name, logger.version) == ("", "")
    assert logger.watch("model") is None
    assert logger[0].experiment.add_image("x") is None
    logger.finalize("success")


def test_dummy_logger_is_no_trap() -> None:
    logger = DummyLogger()
    assert not isinstance(logger, Iterable)
    with pytest.raises(TypeError):
        list(logger)
    assert isinstance(copy.deepcopy(logger), DummyLogger)
    assert isinstance(pickle.loads(pickle.dumps(logger)), DummyLogger)


def test_merge_dicts() -> None:
    dicts = [
        {"a": 1.7, "b": 2.0, "c": 1, "d": {"d1": 1, "d3": 3}},
        {"a": 1.1, "b": 2.2, "v": 1, "d": {"d1": 2, "d2": 3}},
        {"a": 1.1, "v": 2.3, "d": {"d3": 3, "d4": {"d5": 1}}, "c": None},
    ]
    functions = {"a": sum, "v": max, "d": {"d1": sum}}
    assert merge_dicts(dicts, functions, min) == {
        "a": pytest.approx(3.9),
        "b": 2.0,
        "c": 1,
        "v": 2.3,
        "d": {"d1": 3, "d2": 3, "d3": 3, "d4": {"d5": 1}},
    }
    assert merge_dicts([{"a": 1}, {"a": 2}]) == {"a": 1.5}


def test_importing_loggers_imports_no_client() -> None:
    import subprocess
    import sys

    code = (
        "import sys, fulmen.loggers\n"
        "heavy = {'tensorboard', 'fsspec', 'yaml', 'wandb', 'mlflow', 'comet_ml', 'rich', 'tqdm'}\n"
        "import torch; print(sorted(heavy & set(sys.modules)))"
    )
    base = "import sys, torch; print(sorted({'fsspec', 'yaml', 'tqdm', 'rich'} & set(sys.modules)))"
    found = [subprocess.check_output([sys.executable, "-c", c], text=True) for c in (base, code)]
    assert found[0] == found[1]
