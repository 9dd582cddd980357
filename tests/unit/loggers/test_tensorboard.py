from __future__ import annotations

import os
import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from fulmen.loggers import TensorBoardLogger, tensorboard

pytest.importorskip("tensorboard", reason="needs tensorboard: pip install tensorboard")


def scalars(folder: str) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(folder)
    events.Reload()
    return {
        tag: [(value.step, value.value) for value in events.Scalars(tag)] for tag in sorted(events.Tags()["scalars"])
    }


def hparams(folder: str) -> dict[str, Any]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(folder)
    events.Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}


def test_values(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, prefix="p")
    logger.log_metrics({"a": 0.5, "b": torch.tensor(2), "n": np.float32(4)}, 3)
    logger.log_metrics({"a": 0.25}, 4)
    logger.log_metrics({"group": {"x": 1, "y": torch.tensor(2.0)}}, 5)
    logger.save()
    assert scalars(logger.log_dir) == {"p-a": [(3, 0.5), (4, 0.25)], "p-b": [(3, 2.0)], "p-n": [(3, 4.0)]}
    assert scalars(os.path.join(logger.log_dir, "p-group_x")) == {"p-group": [(5, 1.0)]}
    logger.finalize("success")


def test_value_of_another_type(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    with pytest.raises(ValueError, match="name: you tried to log .* which is currently not supported"):
        logger.log_metrics({"name": [1, 2]}, 0)


@pytest.mark.parametrize(
    ("metrics", "default", "shown"),
    [
        (None, True, {"hp_metric": [(0, -1.0)]}),
        (0.5, True, {"hp_metric": [(0, 0.5)]}),
        ({"x": 1.0}, True, {"x": [(0, 1.0)]}),
        (None, False, {}),
    ],
)
def test_hyperparameters_and_their_metric(tmp_path: Path, metrics: Any, default: bool, shown: dict[str, Any]) -> None:
    logger = TensorBoardLogger(tmp_path, default_hp_metric=default)
    logger.log_hyperparams({"lr": 0.1, "net": {"layers": [1, 2]}, "array": np.zeros((2, 2))}, metrics)
    logger.finalize("success")
    assert scalars(logger.log_dir) == shown
    if shown:
        assert hparams(logger.log_dir) == {"lr": 0.1, "net/layers": "[1, 2]", "array": str(np.zeros((2, 2)))}


def test_hparams_file(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, version=0)
    logger.log_hyperparams(Namespace(a=1))
    logger.log_hyperparams({"b": {"c": 2}})
    logger.save()
    file = Path(logger.log_dir) / "hparams.yaml"
    assert yaml.safe_load(file.read_text()) == {"a": 1, "b": {"c": 2}}
    # one that is there stays
    file.write_text("kept: 1\n")
    logger.log_hyperparams({"d": 3})
    logger.save()
    other = TensorBoardLogger(tmp_path, version=0)
    other.log_hyperparams({"e": 4})
    other.finalize("success")
    assert file.read_text() == "kept: 1\n"


def test_omegaconf(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"plain": 1})
    logger.log_hyperparams(omegaconf.OmegaConf.create({"a": {"b": 1}, "c": "${a.b}"}))
    logger.finalize("success")
    assert hparams(logger.log_dir) == {"plain": 1.0}
    assert omegaconf.OmegaConf.to_container(logger.hparams, resolve=True) == {"plain": 1, "a": {"b": 1}, "c": 1}


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "there")
    for name in ("version_3", "version_x", "other"):
        (tmp_path / "exp" / name).mkdir(parents=True)
    logger = TensorBoardLogger(tmp_path, name="exp", sub_dir=Path("$SOMEWHERE"))
    assert logger.version == 4
    assert logger.sub_dir == "$SOMEWHERE"
    assert (logger.save_dir, logger.root_dir) == (str(tmp_path), str(tmp_path / "exp"))
    assert logger.log_dir == str(tmp_path / "exp" / "version_4" / "there")
    logger.save()
    assert sorted(os.listdir(logger.log_dir))[-1] == "hparams.yaml"
    assert TensorBoardLogger("~/x", name=None, version="v").log_dir == os.path.expanduser("~/x/v")


def test_arguments_of_the_writer(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, filename_suffix=".mine")
    logger.log_metrics({"a": 1.0}, 0)
    logger.finalize("failed")
    names = os.listdir(logger.log_dir)
    # after a failure no hyperparameters are written
    assert len(names) == 1
    assert names[0].endswith(".mine")


class Net(torch.nn.Module):
    """What the graph needs of a LightningModule."""

    def __init__(self, example: Any) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.example_input_array = example

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)

    def _on_before_batch_transfer(self, batch: Any) -> Any:
        return batch

    def _apply_batch_transfer_handler(self, batch: Any) -> Any:
        return batch


def test_graph(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, log_graph=True)
    logger.log_graph(Net(torch.zeros(1, 3)))
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert any("layer" in node.name for node in events.Graph().node)


def test_graph_of_a_module_in_a_trainer(tmp_path: Path) -> None:
    import fulmen

    class Module(fulmen.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)
            self.example_input_array = torch.zeros(1, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    logger = TensorBoardLogger(tmp_path, log_graph=True)
    module = Module()
    module.trainer = fulmen.Trainer(logger=logger, accelerator="cpu", default_root_dir=tmp_path)
    logger.log_graph(module)
    logger.finalize("success")


def test_graph_without_example(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    with pytest.warns(UserWarning, match="example_input_array` is not set"):
        logger.log_graph(Net(None))
    with pytest.warns(UserWarning, match="which cannot be traced"):
        logger.log_graph(Net([torch.zeros(1, 3)]))
    TensorBoardLogger(tmp_path).log_graph(Net(None))


def test_pickle(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, 0)
    copy = pickle.loads(pickle.dumps(logger))
    copy.log_metrics({"a": 2.0}, 1)
    assert (copy.log_dir, copy.version) == (logger.log_dir, 0)
    copy.finalize("success")
    logger.finalize("success")


def test_finalize_twice_and_log_again(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, 0)
    logger.finalize("success")
    logger.log_metrics({"a": 2.0}, 1)
    logger.finalize("success")
    assert scalars(logger.log_dir)["a"] == [(0, 1.0), (1, 2.0)]


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fulmen.utilities.rank_zero import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, 0)
    logger.log_hyperparams({"a": 1})
    logger.save()
    logger.finalize("success")
    assert os.listdir(tmp_path) == []


def test_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "package_available", lambda name: False)
    with pytest.raises(ModuleNotFoundError, match="TensorBoardLogger needs .* pip install tensorboard"):
        TensorBoardLogger(tmp_path)


def test_tensorboardx_does_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboardX")
    monkeypatch.setattr(tensorboard, "package_available", lambda name: name == "tensorboardX")
    with pytest.warns(UserWarning, match="log_graph=True. needs `tensorboard`"):
        logger = TensorBoardLogger(tmp_path, log_graph=True)
    logger.log_metrics({"a": 1.0}, 0)
    logger.log_hyperparams({"b": 1})
    assert type(logger.experiment).__module__.startswith("tensorboardX")
    logger.finalize("success")
    assert scalars(logger.log_dir)["a"] == [(0, 1.0)]
