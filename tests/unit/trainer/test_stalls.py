"""What is said about a batch that does not come."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

import fulmen as L
from fulmen.demos.boring_classes import BoringModel
from fulmen.prefetch.worker_stack import ask_for_stack, offer_stack
from fulmen.trainer import stalls


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stalls after a third of a second."""
    monkeypatch.setattr(stalls, "LEAST_SECONDS", 0.3)
    monkeypatch.setattr(stalls, "LOOK_EVERY", 0.05)


class Stuck(Dataset[Any]):
    """Sample 6 takes a second."""

    def __init__(self, seconds: float = 1.0, length: int = 12) -> None:
        self.seconds, self.length = seconds, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 6:
            self.wait_for_the_disk()
        return torch.ones(32) * index

    def wait_for_the_disk(self) -> None:
        time.sleep(self.seconds)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield torch.ones(32)
        time.sleep(0.7)
        yield torch.ones(32)


class Net(BoringModel):
    def train_dataloader(self) -> Any:
        raise NotImplementedError

    def val_dataloader(self) -> Any:
        raise NotImplementedError


def fit(folder: Path, loader: Any, val: Any = None, net: Any = None, **options: Any) -> L.Trainer:
    trainer = L.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=1,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        limit_val_batches=0 if val is None else 1.0, **options,
    )  # fmt: skip
    trainer.fit(net or Net(), loader, val)
    return trainer


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == stalls.log.name]


def about(caplog: pytest.LogCaptureFixture, batch: int) -> str:
    """The one report about a training batch; a busy machine may have reasons for others."""
    (text,) = [text for text in said(caplog) if f"for batch {batch} of epoch 0" in text]
    return text


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fulmen-stall-watch"]


def test_in_this_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path, DataLoader(Stuck(), batch_size=2))
    text = about(caplog, 3)
    assert re.search(r"the training has waited 0\.[3-9]\d* s for batch 3 of epoch 0, where the median wait is", text), (
        text
    )
    assert "Loader 0: DataLoader over Stuck; plain" in text
    assert "Samples that are being loaded in this process: [6, 7]." in text
    assert "wait_for_the_disk" in text and "time.sleep(self.seconds)" in text
    assert not watching()


def test_in_a_thread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Ahead(Stuck):
        def __getitem__(self, index: int) -> torch.Tensor:
            time.sleep(0.01)
            return super().__getitem__(6 if index == 35 else 0)

    class Busy(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            time.sleep(0.01)
            return super().training_step(batch, batch_idx)

    fit(tmp_path, DataLoader(Ahead(length=40)), net=Busy())
    text = about(caplog, 35)
    assert "DataLoader over Ahead; look-ahead" in text
    assert "Samples that are being loaded in this process: [35]." in text
    assert re.search(
        r"Thread fulmen-look-ahead\w*, which makes batches, stands here:.*wait_for_the_disk", text, re.DOTALL
    )


def test_in_a_worker_process_of_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path, DataLoader(Stuck(), batch_size=2, num_workers=2))
    text = about(caplog, 3)
    assert "Loader 0: DataLoader over Stuck; workers (2 worker processes" in text
    assert "Batch 3 of the pass is with worker 1; its samples: [6, 7]." in text
    pids = re.findall(r"^Worker \d \(pid (\d+)\): alive, S \(sleeping\)", text, re.MULTILINE)
    assert len(set(pids)) == 2 and str(os.getpid()) not in pids
    assert re.search(r"Worker 1 stands here.*in wait_for_the_disk\n.*in __getitem__", text, re.DOTALL), text


def test_in_a_worker_process_of_the_stock_loader(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path, DataLoader(Stuck(), batch_size=2, num_workers=2), prefetch="off")
    text = about(caplog, 3)
    assert "plain (prefetching is switched off)" in text
    assert "Batch 3 of the pass is with worker 1." in text
    assert len(re.findall(r"^Worker \d \(pid \d+\): alive, S \(sleeping\)", text, re.MULTILINE)) == 2


def test_a_worker_that_is_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Stops(Stuck):
        def wait_for_the_disk(self) -> None:
            pid = os.getpid()
            if os.fork() == 0:
                time.sleep(1.5)
                os.kill(pid, signal.SIGCONT)
                os._exit(0)
            os.kill(pid, signal.SIGSTOP)

    fit(tmp_path, DataLoader(Stops(), batch_size=2, num_workers=1))
    text = about(caplog, 3)
    assert re.search(r"Worker 0 \(pid \d+\): alive, T \(stopped\)", text), text


def test_the_first_batch_and_a_validation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Late(Stuck):
        def __getitem__(self, index: int) -> torch.Tensor:
            if index == 0:
                time.sleep(1.0)
            return torch.ones(32)

    fit(tmp_path, DataLoader(Late(length=4)), DataLoader(Stuck(1.0, 8)))
    first, second = about(caplog, 0), said(caplog)[-1]
    assert "for batch 0 of epoch 0, the first one." in first
    assert "the validation has waited" in second and "for batch 6 of epoch 0" in second
    assert "DataLoader over Stuck" in second


def test_a_stream_and_several_loaders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Several(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch[1], batch_idx)

    quick = DataLoader(torch.ones(8, 32))
    fit(tmp_path, [quick, DataLoader(Stream())], net=Several())
    text = said(caplog)[0]
    assert "Loader 1: DataLoader over Stream; plain (its dataset is an iterable)." in text
    assert "Samples" not in text, "a stream has no indices"
    assert "Loader 0" not in text


def test_what_is_long_and_no_wait_for_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Slow(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            time.sleep(0.5)
            return super().training_step(batch, batch_idx)

        def on_train_epoch_end(self) -> None:
            time.sleep(0.5)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            time.sleep(0.03)

    data = DataLoader(torch.ones(2, 32))
    fit(tmp_path, data, DataLoader(torch.ones(30, 32)), net=Slow())
    assert said(caplog) == []


def test_waits_that_are_usual_are_no_stalls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Even(Stuck):
        def __getitem__(self, index: int) -> torch.Tensor:
            time.sleep(0.1 if index < 4 else 0.4)
            return torch.ones(32)

    fit(tmp_path, DataLoader(Even(length=5)), prefetch="off")
    assert said(caplog) == [], "20 times the median"
    monkeypatch.setattr(stalls, "FACTOR", 1.0)
    fit(tmp_path, DataLoader(Even(length=5)), prefetch="off")
    assert len(said(caplog)) == 1


def test_no_more_than_three_reports(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Often(Stuck):
        def __getitem__(self, index: int) -> torch.Tensor:
            time.sleep(0.5 if index % 4 == 3 else 0)
            return torch.ones(32)

    fit(tmp_path, DataLoader(Often(length=24)), prefetch="off")
    assert len(said(caplog)) == stalls.MOST_REPORTS == 3


@pytest.mark.parametrize("end", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_thread_is_gone_after_an_exception(tmp_path: Path, end: type[BaseException]) -> None:
    class Fails(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert len(watching()) == 1
            raise end

    with pytest.raises(end):
        fit(tmp_path, DataLoader(torch.ones(8, 32)), net=Fails())
    assert not watching()


def test_a_fork_within_a_fit_ends_well(tmp_path: Path) -> None:
    class Forks(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 1 and os.fork() == 0:
                # the child ends the fit by an exception, through `stop`
                raise SystemExit(7)
            return super().training_step(batch, batch_idx)

    def run() -> None:
        try:
            fit(tmp_path, DataLoader(torch.ones(4, 32)), net=Forks())
            _, code = os.wait()
            os._exit(os.waitstatus_to_exitcode(code) * 10)
        except SystemExit as ended:
            os._exit(int(ended.code or 0))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == 70


def test_barebones_has_no_watch(tmp_path: Path) -> None:
    seen = []

    class Looks(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append(watching())
            return super().training_step(batch, batch_idx)

    L.Trainer(barebones=True, max_epochs=1, accelerator="cpu", limit_val_batches=0).fit(
        Looks(),
        DataLoader(torch.ones(2, 32)),
    )
    assert seen == [[], []]


def test_a_watch_that_fails_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> bool:
        raise RuntimeError("broken")

    monkeypatch.setattr(stalls, "waits_for_data", fails)
    with caplog.at_level(logging.DEBUG, logger=stalls.log.name):
        fit(tmp_path, DataLoader(Stuck(0.5), batch_size=2))
    assert ["the watch over stalls has ended"] == said(caplog)


def _offers(ready: Any) -> None:
    offer_stack()
    ready.set()
    time.sleep(30)


def _offers_nothing(ready: Any) -> None:
    ready.set()
    time.sleep(30)


@pytest.mark.parametrize(("target", "offers"), [(_offers, True), (_offers_nothing, False)])
def test_only_who_offers_his_stack_gets_the_signal(target: Any, offers: bool) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=target, args=(ready,), daemon=True)
    process.start()
    try:
        ready.wait(10)
        assert process.pid is not None
        for _ in range(2):
            stack = ask_for_stack(process.pid)
            assert (stack is not None) is offers
            if stack is not None:
                assert target.__name__ in stack and stack.count("most recent call first") == 1
        assert process.is_alive()
    finally:
        process.kill()
        process.join()
