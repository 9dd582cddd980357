from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fulmen.loggers import utilities as u


@dataclass
class Config:
    rate: float = 0.1


def test_convert() -> None:
    assert u._convert_params(None) == {}
    assert u._convert_params(Namespace(a=1)) == {"a": 1}
    params = {"a": 1}
    assert u._convert_params(params) is params


def test_flatten() -> None:
    nested = {
        "a": {"b": {"c": 1}, 5: 2},
        "data": Config(),
        "space": Namespace(x={"y": 3}),
        "list": [1, 2],
        "dicts": [{"p": 1}, {"q": {"r": 2}}],
        "class": Config,
        "empty": {},
    }
    assert u._flatten_dict(nested) == {
        "a/b/c": 1, "a/5": 2, "data/rate": 0.1, "space/x/y": 3, "list": [1, 2], "dicts/0/p": 1, "dicts/1/q/r": 2,
        "class": Config,
    }  # fmt: skip
    assert u._flatten_dict({"a": {"b": 1}}, delimiter=".", parent_key="root") == {"root.a.b": 1}


def test_sanitize() -> None:
    tensor = torch.ones(2)
    params: dict[str, Any] = {
        "float": 0.3, "bool": True, "text": "t", "none": None, "list": [1], "tensor": tensor, "np": np.float32(0.5),
        "npint": np.int64(3), "npbool": np.bool_(True), "npcomplex": np.complex64(1j), "array": np.zeros(1),
        "layer": torch.nn.ReLU,
    }  # fmt: skip
    result = u._sanitize_params(params)
    assert result is params
    assert result.pop("tensor") is tensor
    assert result == {
        "float": 0.3, "bool": True, "text": "t", "none": "None", "list": "[1]", "np": 0.5, "npint": 3, "npbool": True,
        "npcomplex": "1j", "array": "[0.]", "layer": "<class 'torch.nn.modules.activation.ReLU'>",
    }  # fmt: skip
    assert type(result["npint"]) is int


def test_sanitize_callables() -> None:
    def returns_function() -> Any:
        return len

    def needs(argument: int) -> int:
        return argument

    class Nameless:
        def __call__(self) -> None:
            raise RuntimeError

    params = {
        "class": dict, "value": lambda: 3, "returns": returns_function, "needs": needs, "plain": 1,
        "nameless": Nameless(),
    }  # fmt: skip
    assert u._sanitize_callable_params(params) == {
        "class": "dict", "value": 3, "returns": "returns_function", "needs": "needs", "plain": 1, "nameless": None,
    }  # fmt: skip


def test_json() -> None:
    params = {"a": 1, "b": None, "c": {1, 2}, "d": torch.nn.ReLU(), "e": [1], "f": (1, 2)}
    result = u._convert_json_serializable(params)
    assert result == {"a": 1, "b": None, "c": "{1, 2}", "d": "ReLU()", "e": [1], "f": (1, 2)}


def test_prefix() -> None:
    metrics = {"a": 1.0}
    assert u._add_prefix(metrics, "", "-") is metrics
    assert u._add_prefix(metrics, "p", "-") == {"p-a": 1.0}


def test_version() -> None:
    assert u._version([SimpleNamespace(version=3)]) == 3
    assert u._version([SimpleNamespace(version=v) for v in (3, "x", 3, None)]) == "3_x_None"


@pytest.fixture
def callback(tmp_path: Path) -> Any:
    paths = []
    for number in range(3):
        path = tmp_path / f"{number}.ckpt"
        path.touch()
        os.utime(path, (100 + number, 100 + number))
        paths.append(str(path))
    return SimpleNamespace(
        last_model_path=paths[2],
        current_score=0.1,
        best_model_path=paths[1],
        best_model_score=0.2,
        best_k_models={paths[0]: 0.3, str(tmp_path / "gone.ckpt"): 0.4},
    )


def test_scan_checkpoints(callback: Any) -> None:
    found = u._scan_checkpoints(callback, {})
    assert [(time, Path(path).name, score, tag) for time, path, score, tag in found] == [
        (100.0, "0.ckpt", 0.3, "best_k"),
        (101.0, "1.ckpt", 0.2, "best"),
        (102.0, "2.ckpt", 0.1, "latest"),
    ]


def test_scan_checkpoints_again(callback: Any) -> None:
    logged = {path: time for time, path, _, _ in u._scan_checkpoints(callback, {})}
    assert u._scan_checkpoints(callback, logged) == []
    logged[callback.best_model_path] -= 1
    assert [path for _, path, _, _ in u._scan_checkpoints(callback, logged)] == [callback.best_model_path]


def test_scan_checkpoints_of_a_callback_without_scores() -> None:
    assert u._scan_checkpoints(SimpleNamespace(), {}) == []
