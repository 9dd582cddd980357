"""Walking through collections, moving and detaching what is in them."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from fulmen.utilities.memory import is_oom_error, recursive_detach
from fulmen.utilities.move_data import move_data_to_device
from fulmen.utilities.nested import apply_to_collection

Pair = namedtuple("Pair", "a b")


@dataclass
class Record:
    x: Any
    name: str = "n"
    hidden: Any = field(init=False, default=None)

    def __post_init__(self):
        self.made = getattr(self, "made", 0) + 1


@dataclass(frozen=True)
class Frozen:
    x: Any


@dataclass(slots=True)
class Slotted:
    x: Any


def test_structure_and_classes_are_kept():
    counts = defaultdict(int, {"a": 1})
    given = {"l": [1, "s", None], "t": (2, 3.0), "p": Pair(4, "x"), "o": OrderedDict(k=5), "d": counts}
    result = apply_to_collection(given, int, lambda v, k: v * k, 10)
    assert result == {"l": [10, "s", None], "t": (20, 3.0), "p": Pair(40, "x"), "o": OrderedDict(k=50), "d": {"a": 10}}
    assert isinstance(result["p"], Pair)
    assert isinstance(result["o"], OrderedDict)
    assert result["d"].default_factory is int


def test_elements_of_the_type_are_not_looked_into():
    assert apply_to_collection([[1, 2], 3], list, len) == 2
    assert apply_to_collection({"a": [1, 2]}, list, len) == {"a": 2}
    untouched = object()
    assert apply_to_collection(untouched, int, str) is untouched
    assert apply_to_collection(["ab", b"cd", range(2)], int, str) == ["ab", b"cd", range(2)]


def test_dataclasses():
    given = Record(x=[1, 2])
    given.extra = 7
    result = apply_to_collection(given, int, lambda v: v + 1)
    assert (result.x, result.name, result.extra, result.made) == ([2, 3], "n", 7, 1)
    assert given.x == [1, 2]
    assert apply_to_collection(Slotted(1), int, lambda v: v + 1) == Slotted(2)
    assert apply_to_collection(Frozen("a"), int, str) == Frozen("a")
    with pytest.raises(ValueError, match="`Frozen`"):
        apply_to_collection(Frozen(1), int, str)


class Movable:
    def __init__(self, gives_back=True):
        self.device = None
        self.gives_back = gives_back

    def to(self, device):
        self.device = device
        return self if self.gives_back else None


def test_move_data_to_device():
    forgetful = Movable(gives_back=False)
    batch = {"x": torch.ones(2), "y": (Movable(), forgetful), "z": "text", "r": Record(torch.ones(1))}
    moved = move_data_to_device(batch, "meta")
    device = torch.device("meta")
    assert moved["x"].device == device
    assert moved["r"].x.device == device
    assert [m.device for m in moved["y"]] == [device, device]
    assert moved["y"][1] is forgetful
    assert moved["z"] == "text"
    assert batch["x"].device.type == "cpu"
    tensor = torch.ones(1)
    assert move_data_to_device(tensor, torch.device("cpu")) is tensor


def test_non_blocking_only_for_tensors_that_leave_the_host(monkeypatch):
    calls = []
    monkeypatch.setattr(Tensor, "to", lambda self, *a, **k: calls.append(k) or self)
    for device in ("cpu", "mps", "cuda:0", torch.device("cuda", 1)):
        move_data_to_device(torch.ones(1), device)
    assert calls == [{}, {}, {"non_blocking": True}, {"non_blocking": True}]


def test_recursive_detach():
    x = torch.ones(2, requires_grad=True)
    result = recursive_detach({"loss": (x * 2).sum(), "l": [x], "n": 3}, to_cpu=True)
    assert not result["loss"].requires_grad
    assert not result["l"][0].requires_grad
    assert result["n"] == 3
    assert x.requires_grad


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA out of memory. Tried"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("CUDA error: device-side assert"), False),
        (RuntimeError("CUDA out of memory", "twice"), False),
        (ValueError("CUDA out of memory"), False),
    ],
)
def test_is_oom_error(error, expected):
    assert is_oom_error(error) is expected
