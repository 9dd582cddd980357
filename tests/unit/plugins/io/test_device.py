"""Checkpoints of tensors on a CUDA device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fulmen.plugins.io import NativeCheckpointIO
from fulmen.plugins.io.background import Moment
from fulmen.plugins.io.loading import load

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def state() -> dict[str, Any]:
    torch.manual_seed(0)
    shared = torch.randn(3_000_001, device="cuda")
    return {
        "w": shared,
        "view": shared[10:20],
        "odd": torch.arange(5, device="cuda", dtype=torch.int8),
        "cpu": torch.ones(3),
    }


def test_a_synchronous_save_brings_every_byte(tmp_path: Path) -> None:
    saved = state()
    expected = {key: value.cpu().clone() for key, value in saved.items()}
    NativeCheckpointIO().save_checkpoint(saved, tmp_path / "a.ckpt")
    for found in (load(tmp_path / "a.ckpt", "cpu"), torch.load(tmp_path / "a.ckpt", "cpu", weights_only=True)):
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    there = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert there["w"].is_cuda and there["view"].untyped_storage().data_ptr() == there["w"].untyped_storage().data_ptr()


@pytest.mark.parametrize("overlap", [False, True])
def test_a_save_in_the_background_has_the_values_of_its_moment(tmp_path: Path, overlap: bool) -> None:
    """The device's memory does not grow, and an optimizer's step after the save does not show in the file."""
    saved = state()
    weight = torch.nn.Parameter(saved.pop("w"))
    saved.pop("view")
    saved["w"] = weight.data
    optimizer = torch.optim.SGD([weight], lr=1.0)
    io = NativeCheckpointIO(background_from=0)
    for number in range(3):
        weight.grad = torch.ones_like(weight)
        expected = weight.detach().cpu().clone()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with io.during(Moment([weight], overlap=overlap)):
            io.save_checkpoint(saved, tmp_path / f"{number}.ckpt")
        assert torch.cuda.max_memory_allocated() - before < 1 << 20
        optimizer.step()
        io.background.drain()
        assert torch.equal(load(tmp_path / f"{number}.ckpt", "cpu")["w"], expected)
    io.teardown()
