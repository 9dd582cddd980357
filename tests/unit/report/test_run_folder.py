from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from fulmen.report.checkpoint_files import find_checkpoints
from fulmen.report.folders import find_runs
from fulmen.report.run_folder import Timeline, read_run

TIMELINE = {"version": 1, "wall_seconds": 10.0, "steps": 100, "parts": {"forward": 4.0, "data wait": 2.5}}
STARTED = "2026-03-01T10:00:00+02:00"


def test_everything_that_a_folder_has(make_run) -> None:
    folder = make_run(
        hparams="lr: 0.1\nnet: {width: 8, sizes: [1, 2]}\nkind: !!python/name:torch.nn.ReLU ''\nnone: null\n",
        environment={"version": 1, "started": STARTED, "python": "3.11.7", "cpu_count": 2},
        timeline=TIMELINE,
    )
    run = read_run(folder, "a")
    assert run.hparams == {
        "lr": "0.1",
        "net/width": "8",
        "net/sizes": "[1, 2]",
        "kind": "torch.nn.ReLU",
        "none": "None",
    }
    assert run.environment == {"python": "3.11.7", "cpu_count": "2"}
    assert run.started.isoformat() == STARTED
    assert run.timeline == Timeline(10.0, 100, {"forward": 4.0, "data wait": 2.5}) and run.timeline.rest == 3.5
    assert (run.last_step, run.notes, run.checkpoints) == (75, [], [])


def test_only_the_metrics_are_needed(make_run) -> None:
    run = read_run(make_run(), "a")
    assert (run.hparams, run.environment, run.timeline, run.started, run.notes) == ({}, {}, None, None, [])


@pytest.mark.parametrize(("file", "content", "note"), [
    ("hparams", "a: [1, 2", "hparams.yaml cannot be read: while parsing"),
    ("hparams", "- 1", "it holds no names and values"),
    ("environment", '{"python": "3.1', "environment.json cannot be read"),
    ("environment", "[]", "environment.json cannot be read: it holds no names"),
    ("timeline", '{"version": 1}', "timeline.json cannot be read: KeyError"),
    ("timeline", {**TIMELINE, "parts": {"a": "x"}}, "timeline.json cannot be read: ValueError"),
    ("timeline", {**TIMELINE, "parts": {"a": -1}}, "negative or not finite"),
])  # fmt: skip
def test_damaged_files_are_noted_and_the_rest_is_shown(make_run, file, content, note) -> None:
    run = read_run(make_run(**{file: content}), "a")
    assert len(run.notes) == 1 and note in run.notes[0]
    assert run.timeline is None and len(run.series) == 4


def test_a_header_without_rows(make_run) -> None:
    run = read_run(make_run(table="loss,step\n"), "a")
    assert run.notes == ["metrics.csv has a header, and no values yet."] and run.last_step == -1


def checkpoint(path: Path, time: int, **state) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    os.utime(path, (time, time))


def test_checkpoints_and_the_best_of_them(tmp_path: Path) -> None:
    opinion = {"best_model_path": "/elsewhere/epoch=1-val_loss=0.25.ckpt", "best_model_score": torch.tensor(0.25)}
    state = {"ModelCheckpoint{'monitor': 'val_loss'}": {**opinion, "monitor": "val_loss"}}
    checkpoint(tmp_path / "epoch=1-val_loss=0.25.ckpt", 100)
    checkpoint(tmp_path / "sub" / "epoch=2-step=30-val_loss=1.5e-05.ckpt", 200)
    checkpoint(tmp_path / "last.ckpt", 300, callbacks=state)
    (tmp_path / "half.ckpt").write_bytes(b"PK\x03\x04 cut off")
    os.utime(tmp_path / "half.ckpt", (400, 400))
    (tmp_path / "other.txt").touch()
    sharded = tmp_path / "folder.ckpt"
    sharded.mkdir()
    (sharded / "part.ckpt").write_bytes(b"x" * 10)
    os.utime(sharded, (50, 50))
    found = find_checkpoints(tmp_path)
    assert [file.name for file in found] == [
        "folder.ckpt", "epoch=1-val_loss=0.25.ckpt", "sub/epoch=2-step=30-val_loss=1.5e-05.ckpt", "last.ckpt", "half.ckpt",
    ]  # fmt: skip
    assert [file.size for file in found[:1]] == [10]
    assert found[2].values == {"epoch": "2", "step": "30", "val_loss": "1.5e-05"}
    assert [(file.best, file.score) for file in found] == [(False, ""), (True, "val_loss = 0.25")] + [(False, "")] * 3


def test_no_checkpoints(tmp_path: Path) -> None:
    assert find_checkpoints(tmp_path / "missing") == []


def test_runs_below_a_folder_in_their_order(make_run) -> None:
    for name in ("version_10", "version_9"):
        make_run(name)
    parent = make_run("other/version_9").parent.parent
    assert [run.label for run in find_runs([parent / "version_9"])] == ["logs/version_9"]
    runs = find_runs([parent, parent / "version_9" / "metrics.csv"])
    assert [run.label for run in runs] == ["other/version_9", "logs/version_9", "logs/version_10"]


def test_what_is_no_run(tmp_path: Path, make_run) -> None:
    with pytest.raises(FileNotFoundError, match=r"a path that exists, received '.*nowhere'"):
        find_runs([tmp_path / "nowhere"])
    empty = make_run("empty", table=None)
    with pytest.raises(
        FileNotFoundError, match=r"RUN_DIR: expected a folder with a metrics\.csv, .*has the run logged"
    ):
        find_runs([empty])
    (empty / "events.out.tfevents.1.host").touch()
    with pytest.raises(FileNotFoundError, match="TensorBoard's event files: add a CSVLogger"):
        find_runs([empty])
    (empty / "metrics.csv").touch()
    with pytest.raises(ValueError, match="received an empty file"):
        find_runs([empty])
    with pytest.raises(ValueError, match="at least one"):
        find_runs([])
