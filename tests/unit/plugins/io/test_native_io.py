"""The default checkpoint IO: what goes in comes out, for torch, for Lightning and for itself."""

from __future__ import annotations

import argparse
import collections
import hashlib
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fulmen.plugins.io import AsyncCheckpointIO, NativeCheckpointIO, TorchCheckpointIO
from fulmen.plugins.io.loading import load

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128, torch.uint16, torch.uint32, torch.uint64,
    torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor):
        if type(left) is not type(right) or left.dtype != right.dtype or left.shape != right.shape:
            return False
        if left.is_sparse:
            return torch.equal(left.to_dense(), right.to_dense())
        if left.is_meta:
            return bool(right.is_meta)
        return (
            left.stride() == right.stride() and left.requires_grad == right.requires_grad and bits(left) == bits(right)
        )
    if isinstance(left, dict):
        return type(left) is type(right) and list(left) == list(right) and all(equal(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(equal, left, right))
    return type(left) is type(right) and left == right


def bits(tensor: Tensor) -> bytes:
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


READERS = {
    "torch": lambda path: torch.load(path, weights_only=True),
    "torch mapped": lambda path: torch.load(path, weights_only=True, mmap=True),
    "mapped": load,
    "read": lambda path: load(path, map_file=False),
}


def contents() -> dict[str, Any]:
    base = torch.randn(10, 12)
    return {
        "dtypes": {str(d): torch.arange(5).to(d) for d in DTYPES},
        "views": [base, base[2:5, ::2].t(), base[:, 3], base.expand(3, 10, 12)],
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "frozen": torch.nn.Parameter(torch.randn(3), requires_grad=False),
        "buffer": torch.nn.Parameter(torch.randn(2)).detach().requires_grad_(),
        "module": torch.nn.BatchNorm1d(3).state_dict(),
        "odd": [torch.empty(0), torch.tensor(3.5), torch.empty(2, 0, 3), torch.empty(3, device="meta")],
        "complex": torch.randn(3, dtype=torch.complex64).conj(),
        "negative": torch.randn(3, dtype=torch.complex64).conj().imag,
        "sparse": torch.eye(3).to_sparse(),
        "large": torch.randn(300_000),
        "plain": [
            None,
            True,
            False,
            0,
            255,
            256,
            65536,
            -1,
            2**40,
            -(2**70),
            2**2000,
            1.5,
            float("inf"),
            -0.0,
            "",
            "ü",
            "a\ud800b",
        ],
        "bytes": [b"", b"\x00\xff", bytearray(b"x")],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "set": {1, "a"},
        "ordered": collections.OrderedDict(b=1, a=2),
        "counter": collections.Counter("aab"),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "complex number": 1 + 2j,
        7: {None: "key", (1, 2): "tuple"},
    }


@pytest.mark.parametrize("reader", READERS)
def test_everything_comes_back(tmp_path: Path, reader: str) -> None:
    state = contents()
    NativeCheckpointIO().save_checkpoint(state, tmp_path / "a.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = READERS[reader](tmp_path / "a.ckpt")
    for key in state:
        assert equal(state[key], loaded[key]), key
    assert loaded["module"]._metadata == state["module"]._metadata
    views = loaded["views"]
    assert {v.untyped_storage().data_ptr() for v in views} == {views[0].untyped_storage().data_ptr()}


def test_sharing_and_circles(tmp_path: Path) -> None:
    shared: list[Any] = [1]
    circle: dict[str, Any] = {"shared": shared, "again": shared}
    circle["self"] = circle
    weight = torch.randn(1000)
    state = {"circle": circle, "a": weight, "b": weight, "c": weight.view(10, 100)}
    NativeCheckpointIO().save_checkpoint(state, tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").stat().st_size < 6000
    for read in READERS.values():
        loaded = read(tmp_path / "a.ckpt")
        assert loaded["circle"]["shared"] is loaded["circle"]["again"] and loaded["circle"]["self"] is loaded["circle"]
        loaded["a"][0] = 5
        assert loaded["b"][0] == 5 and loaded["c"][0, 0] == 5
    assert load(tmp_path / "a.ckpt")["a"][0] == weight[0]  # the map is private


def test_what_torch_wrote_is_read(tmp_path: Path) -> None:
    state = contents()
    del state["bytes"][0]  # which torch writes as a call that it refuses itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(state, tmp_path / "a.ckpt")
        assert all(equal(state[k], loaded) for k, loaded in load(tmp_path / "a.ckpt").items())
        torch.save(state["views"], tmp_path / "b.ckpt", _use_new_zipfile_serialization=False)
    assert equal(load(tmp_path / "b.ckpt"), state["views"])


def test_archive_is_one(tmp_path: Path) -> None:
    import zipfile

    NativeCheckpointIO().save_checkpoint(contents(), tmp_path / "a.ckpt")
    with zipfile.ZipFile(tmp_path / "a.ckpt") as archive:
        assert archive.testzip() is None
        assert archive.read("archive/version") == b"3\n" and archive.read("archive/byteorder") == b"little"


@pytest.mark.slow
def test_more_than_four_gigabytes(tmp_path: Path) -> None:
    weight = torch.zeros(2**30 + 100, dtype=torch.float32)
    weight[-1] = 7
    NativeCheckpointIO().save_checkpoint({"w": weight, "after": torch.arange(3)}, tmp_path / "a.ckpt")
    for loaded in (torch.load(tmp_path / "a.ckpt", mmap=True), load(tmp_path / "a.ckpt")):
        assert loaded["w"][-1] == 7 and loaded["w"].numel() == weight.numel() and loaded["after"].tolist() == [0, 1, 2]


# ---- what may be saved -----------------------------------------------------------------------------------------------


class Custom:
    def __init__(self) -> None:
        self.value = torch.ones(2)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            {"callbacks": {"Mine": {"x": argparse.Namespace(a=1)}}},
            r"\['callbacks'\]\['Mine'\]\['x'\].*argparse\.Namespace",
        ),
        ({"k": [1, Custom()]}, r"\['k'\]\[1\].*Custom"),
        ({"k": Path("x")}, r"pathlib"),
        ({"f": lambda: 1}, r"\['f'\].*lambda"),
        ({"f": torch.nn.ReLU()}, r"ReLU"),
        ({"g": (i for i in range(3))}, r"\['g'\].*generator"),
        ({"g": torch.ones(2).numpy()}, r"\['g'\]"),
    ],
)
def test_objects_are_refused_by_place_and_type(tmp_path: Path, state: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        NativeCheckpointIO().save_checkpoint(state, tmp_path / "a.ckpt")
    assert not list(tmp_path.iterdir())


def test_hyperparameters_may_be_objects(tmp_path: Path) -> None:
    state = {"hyper_parameters": {"custom": Custom(), "where": Path("x"), "lr": 0.1}}
    with pytest.warns(UserWarning, match=r"\['hyper_parameters'\]\['custom'\].*Custom.*weights_only=False"):
        NativeCheckpointIO().save_checkpoint(state, tmp_path / "a.ckpt")
    with pytest.raises(pickle.UnpicklingError, match="Custom"):
        NativeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")
    loaded = NativeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    assert loaded["hyper_parameters"]["custom"].value.tolist() == [1, 1]
    with pytest.raises(TypeError, match="Custom"):
        NativeCheckpointIO(objects="never").save_checkpoint(state, tmp_path / "b.ckpt")


def test_options_that_allow(tmp_path: Path) -> None:
    state = {"k": Custom()}
    NativeCheckpointIO(objects="always").save_checkpoint(state, tmp_path / "a.ckpt")
    assert load(tmp_path / "a.ckpt", weights_only=False)["k"].value.tolist() == [1, 1]
    with torch.serialization.safe_globals([Custom]):
        NativeCheckpointIO().save_checkpoint(state, tmp_path / "b.ckpt")
        assert load(tmp_path / "b.ckpt")["k"].value.tolist() == [1, 1]
        assert torch.load(tmp_path / "b.ckpt", weights_only=True)["k"].value.tolist() == [1, 1]
    with pytest.raises(ValueError, match="objects"):
        NativeCheckpointIO(objects="sometimes")


def test_two_types_over_one_memory(tmp_path: Path) -> None:
    weight = torch.ones(4)
    with pytest.raises(RuntimeError, match=r"\['b'\].*\['a'\].*clone"):
        NativeCheckpointIO().save_checkpoint({"a": weight, "b": weight.view(torch.int32)}, tmp_path / "a.ckpt")


# ---- files -----------------------------------------------------------------------------------------------------------


def test_digest(tmp_path: Path) -> None:
    io, path = NativeCheckpointIO(digest=True), tmp_path / "a.ckpt"
    io.save_checkpoint({"epoch": 1}, path)
    digest = (tmp_path / "a.ckpt.sha256").read_text()
    assert digest == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  a.ckpt\n"
    io.remove_checkpoint(path)
    assert not list(tmp_path.iterdir())


def test_leavings_of_dead_runs_go(tmp_path: Path) -> None:
    (tmp_path / ".a.ckpt.0123456789abcdef.fulmen-part").write_bytes(b"dead")
    NativeCheckpointIO().save_checkpoint({"epoch": 1}, tmp_path / "b.ckpt")
    assert [p.name for p in tmp_path.iterdir()] == ["b.ckpt"]


@pytest.mark.parametrize("url", ["memory://fulmen-test/x/a.ckpt", "file"])
def test_remote(tmp_path: Path, url: str) -> None:
    path = f"file://{tmp_path}/x/a.ckpt" if url == "file" else url
    for io in (NativeCheckpointIO(), AsyncCheckpointIO()):
        state = {"w": torch.randn(700_000), "epoch": 1}
        io.save_checkpoint(state, path)
        assert equal(io.load_checkpoint(path), state)
        io.remove_checkpoint(path)
        io.teardown()
        with pytest.raises(FileNotFoundError):
            io.load_checkpoint(path)


def test_a_replaced_torch_save_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = torch.save
    monkeypatch.setattr(torch, "save", lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs))
    NativeCheckpointIO().save_checkpoint({"epoch": 1}, tmp_path / "a.ckpt")
    assert calls == [1] and load(tmp_path / "a.ckpt") == {"epoch": 1}


def test_is_the_default_and_a_torch_io() -> None:
    import fulmen as L

    io = L.Trainer(logger=False, enable_checkpointing=False).strategy.checkpoint_io
    assert type(io) is NativeCheckpointIO and isinstance(io, TorchCheckpointIO)


def test_lightning_reads_it_and_is_read(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch.plugins.io")
    state = {"state_dict": torch.nn.Linear(2, 2).state_dict(), "epoch": 1}
    NativeCheckpointIO().save_checkpoint(state, tmp_path / "a.ckpt")
    assert equal(dict(lightning.TorchCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")), state)
    lightning.TorchCheckpointIO().save_checkpoint(state, tmp_path / "b.ckpt")
    assert equal(NativeCheckpointIO().load_checkpoint(tmp_path / "b.ckpt"), state)


def test_storages_on_a_device_come_piece_by_piece(tmp_path: Path) -> None:
    """The way that device storages take, walked with storages in main memory."""
    from fulmen._core import encode_checkpoint
    from fulmen.plugins.io.device import _Ring
    from fulmen.plugins.io.plain import Judge

    weight = torch.randint(0, 255, (20_000_003,), dtype=torch.uint8)
    archive = encode_checkpoint({"w": weight}, Judge("never"))
    ring = _Ring({0: weight.untyped_storage()})
    import ctypes

    target = ctypes.create_string_buffer(8 << 20)
    taken = b""
    for start in range(0, weight.numel(), 8 << 20):
        count = min(8 << 20, weight.numel() - start)
        ring.fetch(0, start, ctypes.addressof(target), count)
        taken += target.raw[:count]
    assert taken == weight.numpy().tobytes()
    host = weight.clone()
    archive.substitute(0, host.data_ptr(), host)
    archive.write(tmp_path / "a.ckpt")
    assert torch.equal(load(tmp_path / "a.ckpt")["w"], weight)
    assert os.path.getsize(tmp_path / "a.ckpt") > weight.numel()
