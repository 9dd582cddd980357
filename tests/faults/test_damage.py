"""Altered, cut and foreign files: a clear error, never a wrong tensor, and no code from the file."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch

from fulmen.plugins.io import NativeCheckpointIO
from fulmen.plugins.io.loading import load
from fulmen.utilities.exceptions import DamagedCheckpoint

STATE = {
    "state_dict": {f"layer.{i}.weight": torch.arange(i * 100, i * 100 + 300, dtype=torch.float32) for i in range(5)},
    "epoch": 3,
    "hyper_parameters": {"lr": 0.1, "name": "x"},
}


def equal(left: object, right: object) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return isinstance(right, dict) and list(left) == list(right) and all(equal(left[k], right[k]) for k in left)
    return type(left) is type(right) and left == right


@pytest.fixture(params=["ours", "torch"])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    path = tmp_path / "whole" / "a.ckpt"
    path.parent.mkdir()
    if request.param == "ours":
        NativeCheckpointIO().save_checkpoint(STATE, path)
    else:
        torch.save(STATE, path)
    return path.read_bytes()


@pytest.mark.parametrize("mapped", [True, False])
def test_bit_flips(tmp_path: Path, whole: bytes, mapped: bool) -> None:
    random.seed(0)
    path = tmp_path / "a.ckpt"
    noticed = 0
    for place in random.sample(range(len(whole)), 200):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.randrange(8)
        path.write_bytes(damaged)
        try:
            loaded = load(path, map_file=mapped)
        except DamagedCheckpoint as error:
            assert str(path) in str(error)
            noticed += 1
        else:
            assert equal(loaded, STATE), place  # a bit that means nothing, such as padding
    assert noticed > 120


def test_truncations(tmp_path: Path, whole: bytes) -> None:
    random.seed(1)
    path = tmp_path / "a.ckpt"
    for length in [0, 1, 3, len(whole) - 1, *random.sample(range(len(whole)), 196)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedCheckpoint, match=r"a\.ckpt cannot be loaded: .*(truncated|empty|no zip)"):
            load(path)


def test_message_names_the_newest_that_loads(tmp_path: Path, whole: bytes) -> None:
    for number, content in enumerate((whole, whole, whole[:-40], whole[:100])):
        (tmp_path / f"{number}.ckpt").write_bytes(content)
        os.utime(tmp_path / f"{number}.ckpt", (number, number))
    with pytest.raises(DamagedCheckpoint, match=r"3\.ckpt cannot be loaded.*1\.ckpt"):
        load(tmp_path / "3.ckpt")
    for number in (0, 1):
        (tmp_path / f"{number}.ckpt").unlink()
    with pytest.raises(DamagedCheckpoint, match="No other checkpoint"):
        load(tmp_path / "3.ckpt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello", "no zip archive"),
        (b"<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x89HDF\r\n\x1a\n123", "HDF5"),
        (b'\x50\x00\x00\x00\x00\x00\x00\x00{"a":1}', "safetensors"),
        (pickle.dumps({"a": 1}), "no zip archive"),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=words):
        load(path)


def test_other_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    for name, method, words in (
        ("x/notes.txt", zipfile.ZIP_STORED, "no data.pkl"),
        ("notes.txt", zipfile.ZIP_STORED, "in no folder"),
        ("x/data.pkl", zipfile.ZIP_DEFLATED, "compressed"),
    ):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr(name, b"x" * 1000)
        with pytest.raises(DamagedCheckpoint, match=words):
            load(path)


# ---- malice ----------------------------------------------------------------------------------------------------------


class Malice:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> object:
        return os.system, (self.command,)


@pytest.mark.parametrize("weights_only", [True, None])
def test_code_is_refused_and_not_run(tmp_path: Path, weights_only: bool | None) -> None:
    path, proof = tmp_path / "a.ckpt", tmp_path / "proof"
    torch.save({"state_dict": {}, "x": Malice(f"touch {proof}")}, path)
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.system.*Nothing of it was run.*weights_only=False"):
        load(path, weights_only=weights_only)
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.system"):
        NativeCheckpointIO().load_checkpoint(path)
    assert not proof.exists()


def handmade(path: Path, opcodes: bytes) -> None:
    """An archive as torch writes it, with a pickle that no pickler would write."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", opcodes)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")


CALLS = {
    "GLOBAL": b"cposix\nsystem\n",
    "its former module": b"cos\nsystem\n",
    "STACK_GLOBAL": b"\x8c\x05posix\x8c\x06system\x93",
    "eval": b"c__builtin__\neval\n",
    "exec": b"cbuiltins\nexec\n",
    "getattr": b"c__builtin__\ngetattr\n",
    "import": b"c__builtin__\n__import__\n",
    "a callback of Lightning": b"cpytorch_lightning.callbacks.early_stopping\nEarlyStopping\n",
    "something else of Lightning": b"cpytorch_lightning.utilities.cloud_io\nload\n",
    "dotted": b"\x8c\x05torch\x8c\x1bserialization.os.system\x93",
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("way", ["REDUCE", "NEWOBJ", "OBJ", "INST", "BUILD"])
def test_no_way_of_calling_gets_through(tmp_path: Path, name: str, way: str) -> None:
    path, proof = tmp_path / "a.ckpt", tmp_path / "proof"
    command = f"open({str(proof)!r}, 'w')" if name in ("eval", "exec") else f"touch {proof}"
    text = b"X" + len(command).to_bytes(4, "little") + command.encode()
    call = CALLS[name]
    body = {
        "REDUCE": call + text + b"\x85R",
        "NEWOBJ": call + text + b"\x85\x81",
        "OBJ": b"(" + call + text + b"o",
        "INST": b"(" + text + b"i" + call[1:] if call.startswith(b"c") else call + text + b"\x85R",
        "BUILD": call + b")\x81}" + text + text + b"sb",
    }[way]
    for opcodes in (b"\x80\x02" + body + b".", b"\x80\x04}X\x01\x00\x00\x00a" + body + b"s."):
        handmade(path, opcodes)
        with pytest.raises((pickle.UnpicklingError, DamagedCheckpoint), match=r"a\.ckpt"):
            load(path)
        assert not proof.exists()


def test_command_line_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fulmen.cli.main import main

    path, proof = tmp_path / "a.ckpt", tmp_path / "proof"
    torch.save({"state_dict": {"w": torch.ones(2)}, "x": Malice(f"touch {proof}")}, path)
    assert main(["ckpt", "inspect", str(path)]) == 0
    assert main(["ckpt", "verify", str(path)]) == 0
    assert main(["ckpt", "diff", str(path), str(path)]) == 0
    assert main(["ckpt", "convert", str(path), str(tmp_path / "a.safetensors")]) == 0
    assert "object of posix.system" in capsys.readouterr().out
    assert not proof.exists()


def test_when_told_to_it_says_which_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import argparse
    import logging

    path = tmp_path / "a.ckpt"
    torch.save({"hyper_parameters": argparse.Namespace(a=1)}, path)
    with caplog.at_level(logging.INFO):
        assert load(path, weights_only=False)["hyper_parameters"].a == 1
    assert "argparse.Namespace" in caplog.text


def test_a_tensor_may_not_reach_beyond_its_storage(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    tensor = torch.arange(10.0)
    torch.save({"state_dict": {"w": tensor}}, path)
    with zipfile.ZipFile(path) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            # the size in the tuple (10,) becomes (200,): BININT1 10, TUPLE1
            archive.writestr(name, content.replace(b"K\n\x85", b"K\xc8\x85") if name.endswith("data.pkl") else content)
    with pytest.raises(DamagedCheckpoint, match="beyond its storage"):
        load(path)
