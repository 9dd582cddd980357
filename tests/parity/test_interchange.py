"""Lightning's checkpoints continue in fulmen, and fulmen's in Lightning: the rest of the run is that of one which never changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.parity import crossing

pytest.importorskip("lightning")

pytestmark = pytest.mark.filterwarnings("ignore")

PACKAGES = ("lightning", "fulmen")


def end(package: str, folder: Path, epochs: int, ckpt_path: str | None = None, **options: Any) -> dict[str, Any]:
    """What the file at the end of a run holds."""
    return crossing.contents(crossing.run(package, folder, epochs, ckpt_path, **options)["final"], folder)


def continued(first: str, then: str, folder: Path, name: str, **options: Any) -> dict[str, Any]:
    """Two epochs under one package, two more under another, in the same folder."""
    part = crossing.run(first, folder, 2, **options)
    return end(then, folder, 4, {"final": part["final"], "last": str(folder / "best" / "last.ckpt")}[name], **options)


def check_all(folder: Path, name: str = "last", **options: Any) -> None:
    """No way of changing packages shows."""
    straight = {package: end(package, folder / f"straight {package}", 4, **options) for package in PACKAGES}
    assert crossing.differences(straight["lightning"], straight["fulmen"]) == []
    stayed = continued("lightning", "lightning", folder / "stayed", name, **options)
    weights = [key for key in stayed if key.startswith((".state_dict", ".optimizer_states", ".lr_schedulers"))]
    assert len(weights) > 20
    assert all(stayed[key] == straight["lightning"][key] for key in weights)
    for first, then in (("lightning", "fulmen"), ("fulmen", "lightning"), ("fulmen", "fulmen")):
        there = continued(first, then, folder / f"{first} {then}", name, **options)
        assert crossing.differences(stayed, there) == [], (first, then)


@pytest.mark.parametrize("name", ["last", pytest.param("final", marks=pytest.mark.slow)])
def test_automatic_optimization(tmp_path: Path, name: str) -> None:
    check_all(tmp_path, name)


def test_manual_optimization(tmp_path: Path) -> None:
    check_all(tmp_path, kind="manual")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["compiled", "compiled part"])
def test_compiled(tmp_path: Path, kind: str) -> None:
    check_all(tmp_path, kind=kind)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"precision": "bf16-mixed"}, {"scaler": True}, {"precision": "bf16-true"}])
def test_precision(tmp_path: Path, options: dict[str, Any]) -> None:
    check_all(tmp_path, **options)


@pytest.mark.slow
@pytest.mark.parametrize("first", PACKAGES)
def test_double_precision(tmp_path: Path, first: str) -> None:
    """Lightning rounds a resumed run's weights to float32, and then computes in float64; here nothing is rounded."""
    straight = end("lightning", tmp_path / "straight", 4, precision="64-true")
    there = continued(first, "fulmen", tmp_path / first, "last", precision="64-true")
    assert crossing.differences(straight, there) == []


@pytest.mark.slow
def test_accumulation(tmp_path: Path) -> None:
    check_all(tmp_path, accumulate_grad_batches=3, gradient_clip_val=0.5)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_part_in_torchs_own_wrapper(tmp_path: Path, process_group: None) -> None:
    check_all(tmp_path, kind="DDP part")


@pytest.mark.parametrize("then", PACKAGES)
def test_draws_are_the_same_after_the_change(tmp_path: Path, then: str) -> None:
    """With dropout and shuffling: from the seed at the continuation on, since Lightning's files hold no generators."""
    options = {"dropout": 0.3, "shuffle": True}
    stayed = continued("lightning", "lightning", tmp_path / "stayed", "last", **options)
    first = "fulmen" if then == "lightning" else "lightning"
    there = continued(first, then, tmp_path / "changed", "last", **options)
    assert crossing.differences(stayed, there) == []


# ---- Lightning's DDP ---------------------------------------------------------------------------------------------


def apart(package: str, folder: Path, epochs: int, ckpt_path: str | None = None, **options: Any) -> dict[str, Any]:
    """A run in processes of its own."""
    arguments = {"folder": str(folder), "epochs": epochs, "ckpt_path": ckpt_path, **options}
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore")
    for name in ("MASTER_PORT", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK"):
        environment.pop(name, None)
    command = [sys.executable, crossing.__file__, package, json.dumps(arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return crossing.contents(str(folder / "final.ckpt"), folder)


@pytest.mark.distributed
@pytest.mark.parametrize("processes", [1, 2])
def test_saved_by_ddp(tmp_path: Path, processes: int) -> None:
    ddp = {"strategy": "ddp", "devices": processes}
    for then in PACKAGES:
        folder = tmp_path / then / "run"
        apart("lightning", folder, 2, **ddp)
        apart(then, folder, 4, str(folder / "best" / "last.ckpt"))
    left, right = (crossing.contents(str(tmp_path / p / "run" / "final.ckpt"), tmp_path / p) for p in PACKAGES)
    assert crossing.differences(left, right) == []


@pytest.mark.distributed
def test_continued_by_ddp(tmp_path: Path) -> None:
    for first in PACKAGES:
        folder = tmp_path / first / "run"
        apart(first, folder, 2)
        apart("lightning", folder, 4, str(folder / "best" / "last.ckpt"), strategy="ddp", devices=2)
    left, right = (crossing.contents(str(tmp_path / p / "run" / "final.ckpt"), tmp_path / p) for p in PACKAGES)
    assert crossing.differences(left, right) == []
