"""The loggers of services with their real clients, without a network: what a fit logs is read back from their files."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("client_script.py")
PIP = {"wandb": "wandb", "mlflow": "mlflow-skinny", "comet": "comet-ml", "neptune": "neptune"}


def fit(service: str, folder: Path) -> tuple[str, dict[str, list[float]]]:
    """Run the script; the logger's version, and the values of each metric that went into the CSV file beside it."""
    if importlib.util.find_spec({"comet": "comet_ml"}.get(service, service)) is None:
        pytest.skip(f"needs the client: pip install {PIP[service]}")
    quiet = {
        "WANDB_SILENT": "true",
        "COMET_LOGGING_CONSOLE": "ERROR",
        "OMP_NUM_THREADS": "1",
        "WANDB_ERROR_REPORTING": "false",
    }
    without = ("WANDB_MODE", "MLFLOW_TRACKING_URI", "NEPTUNE_MODE", "MLFLOW_ALLOW_FILE_STORE")
    environment = {name: value for name, value in os.environ.items() if name not in without}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), service], cwd=folder, env={**environment, **quiet}, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("version "))
    values: dict[str, list[float]] = {}
    with (folder / "csv" / "version_0" / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name, cell in row.items():
                if cell and name not in ("epoch", "step"):
                    values.setdefault(name, []).append(float(cell))
    assert {name: len(found) for name, found in values.items()} == {"train/loss": 6, "val/loss": 2}
    return line, values


def wandb_records(path: Path) -> list[Any]:
    """The records of a ``.wandb`` file: LevelDB's log format, in blocks of 32 KiB, after a header of 7 bytes.

    https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    from wandb.proto import wandb_internal_pb2

    content, at, records, parts = path.read_bytes(), 7, [], b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records


def test_wandb_offline(tmp_path: Path) -> None:
    line, values = fit("wandb", tmp_path)
    [file] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert line == f"version {file.stem.removeprefix('run-')} of p in ."
    records = wandb_records(file)
    [run] = [record.run for record in records if record.HasField("run")][:1]
    assert (run.project, run.display_name, list(run.tags)) == ("p", "n", ["t"])
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    for name, expected in values.items():
        assert [row[f"pre-{name}"] for row in rows if f"pre-{name}" in row] == pytest.approx(expected), name
    steps = [row["trainer/global_step"] for row in rows if "pre-train/loss" in row]
    assert steps == [1, 3, 5, 7, 9, 11]
    config = {}
    for record in records:
        for item in record.config.update if record.HasField("config") else []:
            config[item.key] = json.loads(item.value_json)
    assert config["lr"] == 0.1 and config["net"]["width"] == 3
    names = ("picture", "table", "text")
    kinds = {name: row[f"pre-{name}/_type"] for row in rows for name in names if f"pre-{name}/_type" in row}
    assert kinds == {"picture": "images/separated", "table": "table-file", "text": "table-file"}
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/*.png"))) == 1


def test_mlflow_on_its_files(tmp_path: Path) -> None:
    line, values = fit("mlflow", tmp_path)
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"file:{tmp_path / 'mlruns'}")
    experiment = client.get_experiment_by_name("e")
    [run] = client.search_runs([experiment.experiment_id])
    assert line == f"version {run.info.run_id} of {experiment.experiment_id} in mlruns"
    assert (run.info.run_name, run.info.status, run.data.tags["own"]) == ("r", "FINISHED", "tag")
    assert run.data.params == {"lr": "0.1", "net/width": "3", "net/act": "<class 'torch.nn.modules.activation.ReLU'>"}
    for name, expected in values.items():
        assert [point.value for point in client.get_metric_history(run.info.run_id, name)] == pytest.approx(expected)
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 3, 5, 7, 9, 11]
    [checkpoint] = tmp_path.glob("files/*.ckpt")
    sent = tmp_path / "mlruns" / experiment.experiment_id / run.info.run_id / "artifacts"
    assert (sent / checkpoint.stem / checkpoint.name).read_bytes() == checkpoint.read_bytes()
    assert (sent / checkpoint.stem / "aliases.txt").read_text() == "['latest', 'best']"
    assert (sent / "own.txt").read_text() == "words"


def test_comet_offline(tmp_path: Path) -> None:
    line, values = fit("comet", tmp_path)
    [archive] = tmp_path.glob("*.zip")
    assert line == f"version {archive.name.partition('-')[0]} of p in ."
    with zipfile.ZipFile(archive) as opened:
        messages = [json.loads(line) for line in opened.read("messages.json").splitlines()]
        assert json.loads(opened.read("experiment.json"))["project_name"] == "p"
    payloads: dict[str, list[Any]] = {}
    for message in messages:
        payloads.setdefault(message["type"], []).append(message["payload"])
    metrics = [payload["metric"] for payload in payloads["metric_msg"]]
    for name, expected in values.items():
        assert [m["metricValue"] for m in metrics if m["metricName"] == f"pre_{name}"] == pytest.approx(expected), name
    train = [(m["step"], m["epoch"]) for m in metrics if m["metricName"] == "pre_train/loss"]
    assert train == [(1, 0), (3, 0), (5, 0), (7, 1), (9, 1), (11, 1)]
    parameters = {p["param"]["paramName"]: p["param"]["paramValue"] for p in payloads["parameter_msg"]}
    assert parameters["lr"] == 0.1 and parameters["net|width"] == 3
    assert any("Linear" in str(payload) for payload in payloads["graph"])
    assert any("picture" in str(payload) for payload in payloads["file_upload"])


def test_neptune_offline(tmp_path: Path) -> None:
    line, values = fit("neptune", tmp_path)
    [log] = tmp_path.glob(".neptune/offline/run__*/data-*.log")
    decoder, text, at, operations = json.JSONDecoder(), log.read_text(), 0, []
    while at < len(text):
        entry, end = decoder.raw_decode(text, at)
        operations.append(entry["obj"])
        at = end + len(text[end:]) - len(text[end:].lstrip())
    fields: dict[str, list[Any]] = {}
    for operation in operations:
        fields.setdefault("/".join(operation["path"]), []).append(operation)
    assert line == f"version {fields['training/version'][0]['value']} of n in .neptune"
    for name, expected in values.items():
        logged = [value["value"] for operation in fields[f"training/{name}"] if "values" in operation
                  for value in operation["values"]]  # fmt: skip
        assert logged == pytest.approx(expected), name
    assert fields["training/hyperparams/lr"][0]["value"] == 0.1
    assert fields["training/hyperparams/net/width"][0]["value"] == 3
    assert fields["training/status"][0]["value"] == "success" and fields["own"][0]["value"] == "words"
    checkpoints = {name for name in fields if name.startswith("training/model/checkpoints/")}
    assert checkpoints and fields["training/model/best_model_score"][-1]["value"] == pytest.approx(
        min(values["val/loss"])
    )
    assert "training/model/summary" in fields
