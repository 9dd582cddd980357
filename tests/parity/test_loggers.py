"""The files and tables of fulmen's loggers and summaries against those of Lightning's."""

from __future__ import annotations

import importlib
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fulmen
import fulmen.callbacks
import fulmen.loggers
import fulmen.utilities.model_summary

pytest.importorskip("lightning", reason="the oracle is not installed: pip install lightning==2.6.6")
lightning = importlib.import_module("lightning.pytorch")
for _name in ("loggers", "utilities.model_summary"):
    importlib.import_module(f"lightning.pytorch.{_name}")

PACKAGES = {"fulmen": fulmen, "lightning": lightning}
ROWS: list[tuple[dict[str, Any], int | None]] = [
    ({"loss": torch.tensor(0.1), "epoch": 0}, 0),
    ({"loss": torch.tensor(1 / 3, dtype=torch.float64), "epoch": 0}, 9),
    ({"val": float("nan"), "epoch": 0}, 9),
    ({"acc": torch.tensor(3), "a name, with commas": True}, 19),
    ({"loss": float("inf"), "epoch": 1}, None),
    ({"Z": 1e-30, "val": -0.0}, 20),
]
HPARAMS: dict[str, Any] = {
    "float": 0.3, "int": 1, "text": "abc", "bool": True, "none": None, "nested": {"a": {"b": "c"}}, "list": [1, 2, 3],
    "layer": nn.BatchNorm1d, "path": Path("x/y"), "tuple": (1, 2), "space": Namespace(k=1), "function": len,
}  # fmt: skip


def both(tmp_path: Path, use: Any) -> tuple[Any, Any]:
    """What ``use(package, folder)`` gives with fulmen and with Lightning."""
    return tuple(use(package, tmp_path / name) for name, package in PACKAGES.items())


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        # fulmen's own files
        if path.is_file() and not path.name.startswith("events.") and path.suffix != ".json"
    }


@pytest.mark.parametrize("save_each", [True, False])
@pytest.mark.parametrize(
    "arguments", [{}, {"name": None, "version": "x"}, {"prefix": "p", "flush_logs_every_n_steps": 3}]
)
def test_csv_files(tmp_path: Path, save_each: bool, arguments: dict[str, Any]) -> None:
    def use(L: Any, folder: Path) -> dict[str, bytes]:
        logger = L.loggers.CSVLogger(folder, **arguments)
        logger.log_hyperparams(HPARAMS)
        for metrics, step in ROWS:
            logger.log_metrics(dict(metrics), step)
            if save_each:
                logger.save()
        logger.log_hyperparams({"later": 1})
        logger.finalize("success")
        return files(folder)

    ours, theirs = both(tmp_path, use)
    assert ours == theirs
    assert len(ours) == 2


def events(folder: Path) -> list[Any]:
    """Everything in the event files: (folder, tag, step, value or plugin data)."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found = []
    for path in sorted(folder.rglob("events.*")):
        place = str(path.parent.relative_to(folder))
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                plugin = value.metadata.plugin_data.content if place is not None else b""
                found.append((place, value.tag, event.step, value.tensor.SerializeToString(), _without_time(plugin)))
    return found


def _without_time(plugin: bytes) -> str:
    """Text of a plugin's data; hyperparameters' start time is the time of the run, to the nanosecond."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    try:
        data = HParamsPluginData.FromString(plugin)
    except Exception:
        return repr(plugin)
    data.session_start_info.ClearField("start_time_secs")
    data.session_end_info.ClearField("end_time_secs")
    return str(data)


@pytest.mark.parametrize("metrics", [None, 0.5, {"x": 1.0}, {}])
@pytest.mark.parametrize("arguments", [{}, {"sub_dir": "sub", "prefix": "p"}, {"default_hp_metric": False, "name": ""}])
def test_tensorboard_files(tmp_path: Path, arguments: dict[str, Any], metrics: Any) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install tensorboard")

    def use(L: Any, folder: Path) -> tuple[dict[str, bytes], list[Any]]:
        logger = L.loggers.TensorBoardLogger(folder, **arguments)
        logger.log_hyperparams({**HPARAMS, "array": np.ones((2, 2)), "np": np.float32(2)}, metrics)
        for row, step in ROWS:
            logger.log_metrics(dict(row), step)
            logger.save()
        logger.log_metrics({"group": {"a": 1, "b": 2.0}}, 3)
        logger.finalize("success")
        return files(folder), events(folder)

    ours, theirs = both(tmp_path, use)
    assert ours[0] == theirs[0]
    assert ours[1] == theirs[1]
    assert len(ours[1]) > len(ROWS)


@pytest.mark.parametrize("kind", ["CSVLogger", "TensorBoardLogger"])
@pytest.mark.parametrize("arguments", [{}, {"name": ""}, {"name": "exp", "version": 3}, {"version": "text"}])
def test_paths(tmp_path: Path, kind: str, arguments: dict[str, Any]) -> None:
    def use(L: Any, folder: Path) -> list[Any]:
        for name in ("version_0", "version_4", "version_5_x", "version_", "x"):
            (folder / "lightning_logs" / name).mkdir(parents=True)
            (folder / name).mkdir(parents=True, exist_ok=True)
        logger = getattr(L.loggers, kind)(folder, **arguments)
        paths = [logger.save_dir, logger.root_dir, logger.log_dir, logger.name, logger.version]
        return [p if not isinstance(p, str) else p.replace(str(folder), "ROOT") for p in paths]

    ours, theirs = both(tmp_path, use)
    assert ours == theirs


@pytest.mark.parametrize("kind", ["CSVLogger", "TensorBoardLogger"])
def test_files_of_a_run(tmp_path: Path, kind: str) -> None:
    from .harness import make_module, rows

    def use(L: Any, folder: Path) -> Any:
        L.seed_everything(1)
        module = make_module(L)
        logger = getattr(L.loggers, kind)(folder)
        trainer = L.Trainer(
            max_epochs=2, logger=logger, log_every_n_steps=2, accelerator="cpu", default_root_dir=folder,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        data = torch.utils.data.DataLoader(rows(20, 0), batch_size=4)
        trainer.fit(module, data, data)
        trainer.test(module, data, verbose=False)
        return files(folder), events(folder)

    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install tensorboard")
    ours, theirs = both(tmp_path, use)
    assert ours == theirs
    assert sum(map(len, ours)) >= 1


# ---- summaries ------------------------------------------------------------------------------------------------------


def make_net(L: Any, example: Any) -> Any:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.LSTM(6, 12, batch_first=True)
            self.b = nn.Linear(12, 150)

        def forward(self, x: Any, scale: float = 1.0) -> Any:
            return self.b(self.a(x)[0]) * scale

    class Net(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(Block(), nn.Dropout(), nn.Sequential(nn.ReLU(), nn.Linear(150, 900)))
            self.head = nn.Linear(900, 1200)
            self.unused = nn.Embedding(3, 3)
            self.scale = nn.Parameter(torch.ones(7))
            self.head.bias.requires_grad_(False)
            self.body[1].eval()
            self.example_input_array = example

        def forward(self, x: Any) -> Any:
            return {"out": self.head(self.body(x))}

    return Net()


@pytest.mark.parametrize("depth", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize(
    "example", [None, torch.zeros(2, 5, 6), {"x": torch.zeros(2, 5, 6)}], ids=["none", "x", "dict"]
)
def test_summary(depth: int, example: Any) -> None:
    ours, theirs = (
        L.utilities.model_summary.ModelSummary(make_net(L, example), max_depth=depth) for L in PACKAGES.values()
    )
    assert str(ours) == str(theirs)
    assert ours._get_summary_data() == theirs._get_summary_data()
    for name in (
        "layer_names", "layer_types", "in_sizes", "out_sizes", "param_nums", "training_modes", "total_training_modes",
        "total_parameters", "trainable_parameters", "total_layer_params", "model_size", "total_flops", "flop_counts",
    ):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name), name


def test_counts_are_worded_alike() -> None:
    numbers = [0, *(int(base * 10**power) for base in (1, 1.049, 1.05, 9.94, 9.96, 9.99, 9.999) for power in range(18))]
    ours, theirs = (L.utilities.model_summary.get_human_readable_count for L in PACKAGES.values())
    assert [ours(number) for number in numbers] == [theirs(number) for number in numbers]


def test_number_of_files_is_that_of_a_plain_run(tmp_path: Path) -> None:
    logger = fulmen.loggers.CSVLogger(tmp_path)
    logger.log_metrics({"a": 1}, 0)
    logger.save()
    logger.log_metrics({"b": 1}, 1)
    logger.finalize("success")
    assert sorted(os.listdir(logger.log_dir)) == ["metrics.csv"]
