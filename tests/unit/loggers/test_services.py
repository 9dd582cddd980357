"""The loggers of services, with their clients replaced by mocks."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import ANY, MagicMock, Mock, call

import pytest
import torch
import yaml

from fulmen.loggers import CometLogger, MLFlowLogger, NeptuneLogger, WandbLogger, mlflow, utilities
from fulmen.loggers.uploads import Upload, Uploads
from fulmen.utilities.exceptions import MisconfigurationException


class Checkpoints:
    """What loggers look at in a checkpoint callback."""

    monitor = "loss"
    mode = "min"
    save_top_k = 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best_model_path = self.last_model_path = ""
        self.best_model_score = self.current_score = torch.tensor(0.5)
        self.best_k_models: dict[str, Any] = {}

    def write(self, name: str, time: int, best: bool = False) -> None:
        path = self.folder / name
        path.touch()
        os.utime(path, (time, time))
        self.best_k_models[str(path)] = torch.tensor(float(time))
        if best:
            self.best_model_path = str(path)


# ---- uploads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "top_k", "at_once", "at_end"), [
    ("all", 1, ["a", "b", "a"], ["a", "b", "a"]),
    (True, 1, [], ["b", "a"]),
    (True, -1, ["a", "b", "a"], ["a", "b", "a"]),
    (False, 1, [], []),
])  # fmt: skip
def test_uploads(tmp_path: Path, when: Any, top_k: int, at_once: list[str], at_end: list[str]) -> None:
    sent: list[str] = []
    uploads = Uploads(when, lambda callback, upload: sent.append(upload.filename))
    callback = Checkpoints(tmp_path)
    callback.save_top_k = top_k
    for time, name in ((100, "a"), (200, "b"), (200, "b"), (300, "a")):
        callback.write(name, time)
        uploads.saved(callback)
    assert sent == at_once
    uploads.finish()
    assert sent == at_end


def test_what_is_sent(tmp_path: Path) -> None:
    sent: list[Upload] = []
    uploads = Uploads("all", lambda callback, upload: sent.append(upload))
    callback = Checkpoints(tmp_path)
    callback.write("a", 100)
    callback.write("b", 200, best=True)
    uploads.saved(callback)
    settings = {"monitor": "loss", "mode": "min", "save_top_k": 1}
    assert sent == [
        Upload(str(tmp_path / "a"), 100.0, settings, ["latest"]),
        Upload(str(tmp_path / "b"), 200.0, settings, ["latest", "best"]),
    ]
    assert type(sent[0].score) is float


# ---- wandb ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Any:
    client: Any = ModuleType("wandb")
    client.run = None
    client.init = Mock(side_effect=lambda **kwargs: Mock(id="the_id"))
    for name in ("Api", "Artifact", "Image", "Audio", "Video", "Table", "require"):
        setattr(client, name, Mock())
    monkeypatch.setitem(sys.modules, "wandb", client)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return client


def test_wandb_starts_a_run_when_it_is_needed(wandb: Any, tmp_path: Path) -> None:
    logger = WandbLogger(name="n", save_dir=tmp_path, version="v", tags=["t"], prefix="p")
    assert (logger.name, logger.version, logger.save_dir) == ("lightning_logs", "v", str(tmp_path))
    wandb.init.assert_not_called()
    logger.log_metrics({"a": 1.0}, 3)
    logger.log_metrics({"a": 2.0})
    wandb.init.assert_called_once_with(
        name="n", project="lightning_logs", dir=str(tmp_path), id="v", resume="allow", anonymous=None, tags=["t"]
    )
    assert logger.version == "the_id"
    assert logger.experiment.log.call_args_list == [call({"p-a": 1.0, "trainer/global_step": 3}), call({"p-a": 2.0})]
    assert logger.experiment.define_metric.call_args_list == [
        call("trainer/global_step"),
        call("*", step_metric="trainer/global_step", step_sync=True),
    ]


def test_wandb_that_follows_tensorboard(wandb: Any) -> None:
    logger = WandbLogger(sync_tensorboard=True)
    logger.log_metrics({"a": 1.0}, 3)
    logger.experiment.define_metric.assert_called_once_with("*", step_metric="global_step")
    logger.experiment.log.assert_called_once_with({"a": 1.0})


def test_wandb_project(wandb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "from_env")
    assert WandbLogger().name == "from_env"
    assert WandbLogger(project="given").name == "given"


def test_wandb_uses_a_run_in_progress(wandb: Any) -> None:
    wandb.run = Mock(id="other")
    logger = WandbLogger()
    with pytest.warns(UserWarning, match="There is a wandb run already in progress"):
        assert logger.experiment is wandb.run
    wandb.init.assert_not_called()


def test_wandb_hyperparameters(wandb: Any) -> None:
    logger = WandbLogger()
    logger.log_hyperparams({"none": None, "path": Path("p"), "nested": {"a": 1}, "class": dict, "call": lambda: 5})
    expected = {"none": None, "path": "p", "nested": {"a": 1}, "class": "dict", "call": 5}
    logger.experiment.config.update.assert_called_once_with(expected, allow_val_change=True)


def test_wandb_offline(wandb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "")
    _ = WandbLogger(offline=True).experiment
    assert os.environ["WANDB_MODE"] == "dryrun"
    with pytest.raises(MisconfigurationException, match="checkpoints cannot be uploaded in offline mode"):
        WandbLogger(offline=True, log_model="all")


@pytest.mark.parametrize(
    ("method", "kind", "argument"),
    [("log_image", "Image", "images"), ("log_audio", "Audio", "audios"), ("log_video", "Video", "videos")],
)
def test_wandb_media(wandb: Any, method: str, kind: str, argument: str) -> None:
    logger = WandbLogger()
    log = getattr(logger, method)
    log("key", ["x", "y"], step=2, caption=["cx", "cy"])
    assert getattr(wandb, kind).call_args_list == [call("x", caption="cx"), call("y", caption="cy")]
    logger.experiment.log.assert_called_once_with({"key": [ANY, ANY], "trainer/global_step": 2})
    with pytest.raises(TypeError, match=f'Expected a list as "{argument}", found'):
        log("key", "x")
    with pytest.raises(ValueError, match="Expected 2 items but only found 1 for caption"):
        log("key", ["x", "y"], caption=["cx"])


def test_wandb_tables(wandb: Any) -> None:
    logger = WandbLogger()
    logger.log_text("key", ["c"], [["d"]], step=1)
    wandb.Table.assert_called_once_with(columns=["c"], data=[["d"]], dataframe=None)
    logger.experiment.log.assert_called_once_with({"key": wandb.Table(), "trainer/global_step": 1})


def test_wandb_checkpoints(wandb: Any, tmp_path: Path) -> None:
    logger = WandbLogger(log_model=True, add_file_policy="immutable")
    callback = Checkpoints(tmp_path)
    callback.write("a.ckpt", 100, best=True)
    logger.after_save_checkpoint(callback)
    logger.finalize("failed")
    _ = logger.experiment
    wandb.Artifact.assert_not_called()
    logger.finalize("success")
    metadata = {
        "score": 100.0,
        "original_filename": "a.ckpt",
        "Checkpoints": {"monitor": "loss", "mode": "min", "save_top_k": 1},
    }
    wandb.Artifact.assert_called_once_with(name="model-the_id", type="model", metadata=metadata)
    wandb.Artifact().add_file.assert_called_once_with(str(tmp_path / "a.ckpt"), name="model.ckpt", policy="immutable")
    logger.experiment.log_artifact.assert_called_once_with(wandb.Artifact(), aliases=["latest", "best"])


def test_wandb_artifacts(wandb: Any, tmp_path: Path) -> None:
    WandbLogger.download_artifact("a", tmp_path, "model")
    wandb.Api().artifact.assert_called_once_with("a", type="model")
    wandb.Api().artifact().download.assert_called_once_with(root=str(tmp_path))
    wandb.run = Mock()
    WandbLogger.download_artifact("a")
    wandb.run.use_artifact.assert_called_once_with("a")
    logger = WandbLogger(experiment=Mock())
    logger.use_artifact("b", "model")
    logger.experiment.use_artifact.assert_called_once_with("b", type="model")
    logger.watch("net", log="all", log_freq=3, log_graph=False)
    logger.experiment.watch.assert_called_once_with("net", log="all", log_freq=3, log_graph=False)


def test_wandb_in_another_process_goes_on_with_the_run(wandb: Any) -> None:
    wandb.init = Mock(side_effect=lambda **kwargs: SimpleNamespace(id="the_id", _attach_id="attach"))
    wandb._attach = Mock(return_value="attached")
    copy = pickle.loads(pickle.dumps(WandbLogger()))
    wandb.init.assert_called_once()
    assert copy.version == "the_id"
    assert copy.experiment == "attached"
    wandb._attach.assert_called_once_with("attach")


# ---- comet ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def comet(monkeypatch: pytest.MonkeyPatch) -> Any:
    client: Any = ModuleType("comet_ml")
    experiment = MagicMock(project_name="the_project")
    experiment.get_key.return_value = "the_key"
    for name in ("set_model_graph", "log_metrics", "log_parameters"):
        setattr(experiment, f"__internal_api__{name}__", MagicMock())
    client.start = Mock(return_value=experiment)
    client.ExperimentConfig = Mock(return_value=SimpleNamespace(offline_directory="folder"))
    client.exceptions = SimpleNamespace(ExperimentNotFound=LookupError)
    monkeypatch.setitem(sys.modules, "comet_ml", client)
    monkeypatch.setenv("COMET_DISABLE_AUTO_LOGGING", "")
    return client


def test_comet(comet: Any) -> None:
    logger = CometLogger(api_key="k", workspace="w", project="p", prefix="x", name="n")
    comet.start.assert_called_once_with(
        api_key="k", workspace="w", project="p", experiment_key=None, mode=None, online=None, experiment_config=ANY
    )
    comet.ExperimentConfig.assert_called_once_with(name="n")
    assert (logger.name, logger.version, logger.save_dir) == ("the_project", "the_key", "folder")
    assert os.environ["COMET_DISABLE_AUTO_LOGGING"] == "1"
    metrics = {"a": torch.tensor(1.0, requires_grad=True), "epoch": 2}
    logger.log_metrics(metrics, 3)
    (row,), options = getattr(logger.experiment, "__internal_api__log_metrics__").call_args
    assert not row["a"].requires_grad
    assert options == {"step": 3, "epoch": 2, "prefix": "x", "framework": "pytorch-lightning"}
    assert "epoch" in metrics
    logger.log_hyperparams({"a": {"b": 1}})
    getattr(logger.experiment, "__internal_api__log_parameters__").assert_called_once_with(
        parameters={"a": {"b": 1}}, framework="pytorch-lightning", flatten_nested=True, source="manual"
    )
    logger.log_graph("net")
    getattr(logger.experiment, "__internal_api__set_model_graph__").assert_called_once_with(
        graph="net", framework="pytorch-lightning"
    )
    logger.finalize("success")
    logger.experiment.flush.assert_called_once()
    logger.experiment.end.assert_not_called()


@pytest.mark.filterwarnings("ignore:CometLogger")
def test_comet_arguments_of_earlier_versions(comet: Any) -> None:
    CometLogger(experiment_name="n", project_name="p", save_dir="s", offline=True)
    comet.ExperimentConfig.assert_called_once_with(name="n", offline_directory="s")
    assert comet.start.call_args.kwargs["project"] == "p"
    assert comet.start.call_args.kwargs["online"] is False
    with pytest.warns(UserWarning, match="got both `project` and the deprecated `project_name`"):
        CometLogger(project="new", project_name="old")
    assert comet.start.call_args.kwargs["project"] == "new"


def test_comet_in_another_process_goes_on_with_the_experiment(comet: Any) -> None:
    logger = CometLogger()
    logger._comet_config = None
    copy = pickle.loads(pickle.dumps(logger))
    assert copy.version is None
    _ = copy.experiment
    assert comet.start.call_args.kwargs["experiment_key"] == "the_key"


def test_comet_without_experiment(comet: Any) -> None:
    comet.start.return_value = None
    with pytest.raises(LookupError, match="Comet gave no experiment"):
        CometLogger()


# ---- mlflow ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The client of MLflow."""
    package: Any = ModuleType("mlflow")
    package.set_tracking_uri = Mock()
    tracking: Any = ModuleType("mlflow.tracking")
    made = Mock()
    made.get_experiment_by_name.return_value = None
    made.create_experiment.return_value = "exp"
    made.create_run.return_value.info.run_id = "run"
    tracking.MlflowClient = Mock(return_value=made)
    entities: Any = ModuleType("mlflow.entities")
    entities.Metric = lambda **kwargs: kwargs
    entities.Param = lambda **kwargs: kwargs
    for name, module in {"": package, ".tracking": tracking, ".entities": entities}.items():
        monkeypatch.setitem(sys.modules, f"mlflow{name}", module)
    monkeypatch.setattr(mlflow, "_get_resolve_tags", lambda: lambda tags: tags)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made.package, made.tracking = package, tracking
    return made


def test_mlflow_starts_a_run_when_it_is_needed(client: Any) -> None:
    logger = MLFlowLogger("e", run_name="r", tags={"t": 1}, save_dir="here", artifact_location="there", prefix="p")
    client.tracking.MlflowClient.assert_called_once_with("file:here")
    assert logger.save_dir == "here"
    client.create_run.assert_not_called()
    assert (logger.name, logger.version) == ("exp", "run")
    assert (logger.experiment_id, logger.run_id) == ("exp", "run")
    client.create_experiment.assert_called_once_with(name="e", artifact_location="there")
    client.create_run.assert_called_once_with(experiment_id="exp", tags={"t": 1, "mlflow.runName": "r"})
    client.package.set_tracking_uri.assert_called_once_with("file:here")
    logger.log_metrics({"a": 1.0, "text": "dropped"}, 3)
    logger.log_metrics({"b": 2.0})
    metrics = [kwargs["metrics"] for _, kwargs in client.log_batch.call_args_list]
    assert metrics == [
        [{"key": "p-a", "value": 1.0, "timestamp": ANY, "step": 3}],
        [{"key": "p-b", "value": 2.0, "timestamp": ANY, "step": 0}],
    ]


def test_mlflow_finds_what_is_there(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client.get_experiment_by_name.return_value = SimpleNamespace(lifecycle_stage="active", experiment_id="old")
    assert MLFlowLogger().experiment_id == "old"
    client.get_experiment_by_name.return_value.lifecycle_stage = "deleted"
    assert MLFlowLogger().experiment_id == "exp"
    client.get_run.return_value.info.experiment_id = "of the run"
    logger = MLFlowLogger(run_id="given")
    assert (logger.experiment_id, logger.run_id) == ("of the run", "given")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert MLFlowLogger().save_dir is None


def test_mlflow_names(client: Any) -> None:
    with pytest.warns(RuntimeWarning, match="special characters in metric name"):
        MLFlowLogger().log_metrics({"[a]/b c": 1.0})
    assert client.log_batch.call_args.kwargs["metrics"][0]["key"] == "a/b c"


def test_mlflow_hyperparameters(client: Any) -> None:
    MLFlowLogger(synchronous=None).log_hyperparams({"long": "x" * 300, **{f"n{i}": {"a": i} for i in range(150)}})
    batches = [kwargs["params"] for _, kwargs in client.log_batch.call_args_list]
    assert [len(batch) for batch in batches] == [100, 51]
    assert batches[0][:2] == [{"key": "long", "value": "x" * 250}, {"key": "n0/a", "value": "0"}]


def test_mlflow_synchronous(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "requirement_available", lambda requirement: True)
    MLFlowLogger(synchronous=False).log_metrics({"a": 1.0})
    assert client.log_batch.call_args.kwargs["synchronous"] is False
    monkeypatch.setattr(mlflow, "requirement_available", lambda requirement: False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install mlflow>=2\.8\.0"):
        MLFlowLogger(synchronous=True)


@pytest.mark.parametrize(("status", "told"), [("success", "FINISHED"), ("failed", "FAILED"), ("finished", "FINISHED")])
def test_mlflow_end(client: Any, status: str, told: str) -> None:
    logger = MLFlowLogger()
    logger.finalize(status)
    client.set_terminated.assert_not_called()
    _ = logger.experiment
    logger.finalize(status)
    client.set_terminated.assert_called_once_with("run", told)


def test_mlflow_checkpoints(client: Any, tmp_path: Path) -> None:
    texts = {}

    def read(run: str, folder: str, name: str) -> None:
        texts.update({file.name: file.read_text() for file in Path(folder).iterdir()})

    client.log_artifacts.side_effect = read
    logger = MLFlowLogger(log_model="all")
    _ = logger.experiment
    callback = Checkpoints(tmp_path)
    callback.write("a.ckpt", 100, best=True)
    logger.after_save_checkpoint(callback)
    client.log_artifact.assert_called_once_with("run", str(tmp_path / "a.ckpt"), "a")
    assert texts["aliases.txt"] == "['latest', 'best']"
    assert yaml.safe_load(texts["metadata.yaml"])["Checkpoint"]["monitor"] == "loss"


# ---- not installed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "package", "pip"),
    [(WandbLogger, "wandb", "wandb"), (CometLogger, "comet_ml", "comet-ml"), (MLFlowLogger, "mlflow", "mlflow")],
)
def test_not_installed(kind: Any, package: str, pip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fulmen.loggers import utilities

    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(utilities, "package_available", lambda name: False)
    with pytest.raises(ModuleNotFoundError, match=f"{kind.__name__} needs .* pip install {pip}"):
        kind()


# ---- neptune --------------------------------------------------------------------------------------------------------


class Run(dict[str, Any]):
    """A run of Neptune's: fields by path, each a mock."""

    def __missing__(self, path: str) -> Any:
        field = MagicMock()
        dict.__setitem__(self, path, field)
        return field


@pytest.fixture
def neptune(monkeypatch: pytest.MonkeyPatch) -> Any:
    client: Any = ModuleType("neptune")
    client.init_run = Mock(side_effect=lambda **_: Run())
    utils: Any = ModuleType("neptune.utils")
    utils.stringify_unsupported = lambda params: {"text of": params}
    monkeypatch.setitem(sys.modules, "neptune", client)
    monkeypatch.setitem(sys.modules, "neptune.utils", utils)
    monkeypatch.delenv("NEPTUNE_MODE", raising=False)
    return client


def test_neptune(neptune: Any) -> None:
    logger = NeptuneLogger(api_key="k", project="w/p", name="n", tags=["t"])
    neptune.init_run.assert_not_called()
    run = logger.experiment
    neptune.init_run.assert_called_once_with(api_token="k", project="w/p", name="n", tags=["t"])
    run["sys/id"].fetch.return_value = "P-7"
    assert (logger.name, logger.version, logger.run) == ("n", "P-7", run)
    assert logger.save_dir == os.path.join(os.getcwd(), ".neptune")
    logger.log_metrics({"a/b": torch.tensor(1.5), "c": 2}, 3)
    assert run["training/a/b"].append.call_args == call(1.5) and run["training/c"].append.call_args == call(2)
    logger.log_hyperparams({"lr": 1})
    assert run["training/hyperparams"] == {"text of": {"lr": 1}}
    logger.finalize("success")
    assert run["training/status"] == "success"
    # another process goes on with the same run
    again = pickle.loads(pickle.dumps(logger))
    _ = again.experiment
    assert neptune.init_run.call_args.kwargs["with_id"] == "P-7"


def test_neptune_without_a_prefix_or_with_a_run_of_ones_own(neptune: Any) -> None:
    run = Run()
    logger = NeptuneLogger(run=run, prefix="")
    logger.log_metrics({"a": 1})
    assert run["a"].append.call_args == call(1)
    neptune.init_run.assert_not_called()
    with pytest.raises(ValueError, match=r"NeptuneLogger\(run\): expected None together with api_key, tags"):
        NeptuneLogger(run=run, api_key="k", tags=["t"])


def test_neptune_offline_has_an_id(neptune: Any) -> None:
    one, other = NeptuneLogger(mode="offline"), NeptuneLogger(mode="offline")
    assert one.version and one.version != other.version
    assert one.experiment["training/version"] == one.version


def test_neptune_checkpoints(neptune: Any, tmp_path: Path) -> None:
    logger, callback = NeptuneLogger(), Checkpoints(tmp_path)
    callback.dirpath = str(tmp_path)
    run = logger.experiment
    callback.write("a.ckpt", 100)
    callback.write("b=0.5.ckpt", 200, best=True)
    logger.after_save_checkpoint(callback)
    a, b = (run[f"training/model/checkpoints/{name}"] for name in ("a", "b=0.5"))
    a.upload.assert_called_once_with(str(tmp_path / "a.ckpt"))
    b.upload.assert_called_once_with(str(tmp_path / "b=0.5.ckpt"))
    assert run["training/model/best_model_path"] == str(tmp_path / "b=0.5.ckpt")
    assert run["training/model/best_model_score"] == 0.5
    # one is removed, the other is written again
    (tmp_path / "a.ckpt").unlink()
    callback.write("b=0.5.ckpt", 300)
    logger.after_save_checkpoint(callback)
    assert "training/model/checkpoints/a" not in run
    assert b.upload.call_count == 2
    quiet = NeptuneLogger(log_model_checkpoints=False)
    quiet.after_save_checkpoint(callback)
    assert quiet._run is None


def test_neptune_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utilities, "package_available", lambda name: name != "neptune")
    monkeypatch.delitem(sys.modules, "neptune", raising=False)
    with pytest.raises(ModuleNotFoundError, match="NeptuneLogger needs the package `neptune`.*pip install neptune"):
        NeptuneLogger()
