"""Batches copied to a device on a stream of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fulmen as L
from fulmen.trainer import side_stream, transfer
from fulmen.trainer.side_stream import SideStream


class Stream:
    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    def wait_stream(self, other: Stream) -> None:
        self.seen.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens, in order, with the CPU for a device."""
    happened: list[str] = []

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        happened.append(f"on {stream.name}")
        yield
        happened.append(f"off {stream.name}")

    real = Tensor.to

    def to(tensor: Tensor, *args: Any, **options: Any) -> Tensor:
        happened.append(f"copy {tuple(tensor.shape)}")
        return real(tensor, *args, **options).clone()

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side", happened))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main", happened))
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(Tensor, "is_pinned", lambda tensor: False)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: happened.append("pin") or tensor)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: happened.append(f"{stream.name} uses it"))
    monkeypatch.setattr(Tensor, "to", to)
    return happened


def test_work_that_comes_later_waits_for_the_copy(seen: list[str]) -> None:
    batch = {"x": torch.arange(6.0).view(2, 3), "names": ["a", "b"], "y": (torch.ones(2),)}
    moved = SideStream(torch.device("cpu")).send(batch)
    assert torch.equal(moved["x"], batch["x"])
    assert moved["names"] == ["a", "b"]
    one = ["pin", "on side", "copy {}", "off side", "main uses it"]
    assert seen == [
        *(line.format((2, 3)) for line in one), *(line.format((2,)) for line in one), "main waits for side",
    ]  # fmt: skip


def test_what_is_no_plain_tensor_goes_the_common_way(seen: list[str]) -> None:
    class Own:
        def to(self, device: torch.device) -> str:
            return f"moved to {device}"

    sparse = torch.eye(2).to_sparse()
    seen.clear()
    moved = SideStream(torch.device("cpu")).send([Own(), nn.Parameter(torch.ones(1)), sparse])
    assert moved[0] == "moved to cpu"
    assert isinstance(moved[1], Tensor)
    assert not any(line.startswith(("on", "pin")) for line in seen)


@pytest.mark.parametrize("hook", [None, "transfer_batch_to_device", "on_after_batch_transfer"])
def test_whoever_has_a_hook_keeps_the_word(monkeypatch: pytest.MonkeyPatch, hook: str | None) -> None:
    class Module(L.LightningModule):
        pass

    if hook is not None:
        setattr(Module, hook, lambda self, batch, *args: batch)
    sent: list[Any] = []
    monkeypatch.setattr(side_stream.torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(transfer.SideStream, "send", lambda self, batch: sent.append(batch) or batch)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    module = Module()
    module.trainer = trainer
    trainer.strategy._lightning_module = module
    monkeypatch.setattr(type(trainer.strategy), "root_device", torch.device("cuda"))
    move = transfer.make_transfer(trainer, "training_step")
    assert move is not None
    if hook is None:
        assert move([1], 0) == [1]
    assert sent == ([[1]] if hook is None else [])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_arrive_whole_while_the_device_is_busy() -> None:
    side = SideStream(torch.device("cuda", 0))
    work = torch.randn(2048, 2048, device="cuda")
    kept = []
    for number in range(64):
        batch = torch.full((1024, 1024), float(number))
        moved = side.send([batch, torch.tensor(number)])
        batch.fill_(-1.0)
        for _ in range(4):
            work = work @ work / 2048
        kept.append((moved[0].sum(), moved[1]))
        del moved
    for number, (total, single) in enumerate(kept):
        assert total.item() == number * 1024 * 1024
        assert single.item() == number
