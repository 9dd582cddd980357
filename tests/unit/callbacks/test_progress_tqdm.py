from __future__ import annotations

import io
import pickle
import re
from types import SimpleNamespace
from typing import Any

import pytest

from fulmen.callbacks.progress import TQDMProgressBar, pace, tqdm_progress
from fulmen.callbacks.progress.tqdm_progress import Tqdm, convert_inf

from .progress_fakes import Terminal, make_trainer, run_epoch, run_fit


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stdout = Terminal()
    monkeypatch.setattr(tqdm_progress, "sys", SimpleNamespace(stdout=stdout))
    return stdout


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stdout = io.StringIO()
    monkeypatch.setattr(tqdm_progress, "sys", SimpleNamespace(stdout=stdout))
    return stdout


def set_up(bar: TQDMProgressBar, **changes: Any) -> Any:
    trainer = make_trainer(bar, **changes)
    bar.setup(trainer, None, "fit")
    return trainer


def test_terminal_shows_epoch_batches_and_metrics(terminal: Terminal) -> None:
    bar = TQDMProgressBar()
    run_fit(bar, make_trainer(bar, progress_bar_metrics={"loss": 0.25}), epochs=2)
    last = terminal.getvalue().split("\r")[-1]
    assert re.match(r"Epoch 1: 100%\|[█#]+\| 10/10 \[00:00<00:00, .*it/s, loss=0\.250\]\n$", last)
    assert bar.train_progress_bar.n == bar.train_progress_bar.total == 10


def test_terminal_is_not_drawn_for_every_batch(terminal: Terminal) -> None:
    bar = TQDMProgressBar()
    trainer = set_up(bar, num_training_batches=20000)
    bar.on_train_start(trainer, None)
    run_epoch(bar, trainer)
    assert len(terminal.getvalue()) < 5000


def test_epochs_of_one_batch_are_not_all_drawn(terminal: Terminal) -> None:
    bar = TQDMProgressBar()
    run_fit(bar, make_trainer(bar, num_training_batches=1), epochs=300)
    assert len(terminal.getvalue()) < 5000


def test_file_gets_one_line_an_epoch(file: io.StringIO) -> None:
    bar = TQDMProgressBar()
    run_fit(bar, make_trainer(bar, progress_bar_metrics={"loss": 0.25}), epochs=3)
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    fit = ["fit 0:00 left, ", "fit 0:00 left, ", ""]
    for epoch, line in enumerate(lines):
        assert re.fullmatch(rf"Epoch {epoch}: 10/10 \(100%\), 0:00 elapsed, {fit[epoch]}\S+ it/s, loss=0\.250", line)


def test_file_stays_small_and_plain(file: io.StringIO) -> None:
    bar = TQDMProgressBar()
    run_fit(bar, make_trainer(bar, num_training_batches=1, progress_bar_metrics={"loss": 0.25}), epochs=1000)
    text = file.getvalue()
    assert 0 < len(text) < 5000
    assert text.isascii()
    assert all(character.isprintable() for character in text.replace("\n", ""))


def test_a_long_epoch_writes_lines_between(file: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(pace, "perf_counter", lambda: now[0])
    monkeypatch.setattr(tqdm_progress, "perf_counter", lambda: now[0])
    bar = TQDMProgressBar()
    trainer = set_up(bar, num_training_batches=1000)
    bar.on_train_start(trainer, None)
    bar.on_train_epoch_start(trainer, None)
    for batch_idx in range(100):
        now[0] += 0.5
        bar.on_train_batch_end(trainer, None, None, None, batch_idx)
    assert 2 <= len(file.getvalue().splitlines()) <= 10


def test_evaluation_bars(file: io.StringIO) -> None:
    bar = TQDMProgressBar()
    trainer = set_up(bar)
    for stage, loaders in (("validation", [4, 6]), ("test", [5]), ("predict", [7])):
        trainer.state.fn = {"validation": "validate"}.get(stage, stage)
        getattr(bar, f"on_{stage}_start")(trainer, None)
        for loader, batches in enumerate(loaders):
            for batch_idx in range(batches):
                getattr(bar, f"on_{stage}_batch_start")(trainer, None, None, batch_idx, loader)
                getattr(bar, f"on_{stage}_batch_end")(trainer, None, None, None, batch_idx, loader)
            tqdm = getattr(bar, f"{stage}_progress_bar".replace("validation", "val"))
            assert (tqdm.n, tqdm.total) == (batches, batches)
            assert tqdm.desc.startswith(f"{getattr(bar, f'{stage}_description')} DataLoader {loader}")
        getattr(bar, f"on_{stage}_end")(trainer, None)
    starts = [line.partition(" elapsed")[0] for line in file.getvalue().splitlines()]
    assert starts == [
        "Validation DataLoader 1: 6/6 (100%), 0:00",
        "Testing DataLoader 0: 5/5 (100%), 0:00",
        "Predicting DataLoader 0: 7/7 (100%), 0:00",
    ]


def test_validation_within_fit_shows_its_metrics_at_the_training_bar(terminal: Terminal) -> None:
    bar = TQDMProgressBar()
    trainer = set_up(bar)
    bar.on_train_start(trainer, None)
    bar.on_train_epoch_start(trainer, None)
    bar.on_validation_start(trainer, None)
    assert bar.val_progress_bar.pos == -1
    assert not bar.val_progress_bar.leave
    trainer.progress_bar_metrics = {"val_loss": 0.5}
    bar.on_validation_end(trainer, None)
    assert bar.train_progress_bar.postfix == "val_loss=0.500"
    assert bar.val_progress_bar.disable
    bar.on_train_end(trainer, None)


def test_sanity_check(file: io.StringIO) -> None:
    bar = TQDMProgressBar()
    trainer = set_up(bar, sanity_checking=True)
    bar.on_sanity_check_start(trainer, None)
    bar.on_validation_start(trainer, None)
    bar.on_validation_batch_start(trainer, None, None, 0)
    assert bar.val_progress_bar.desc == "Sanity Checking DataLoader 0: "
    bar.on_validation_batch_end(trainer, None, None, None, 0)
    bar.on_sanity_check_end(trainer, None)
    assert file.getvalue() == ""


def test_refresh_rate(terminal: Terminal) -> None:
    bar = TQDMProgressBar(refresh_rate=3)
    trainer = set_up(bar)
    bar.on_train_start(trainer, None)
    bar.on_train_epoch_start(trainer, None)
    seen = []
    for batch_idx in range(10):
        bar.on_train_batch_end(trainer, None, None, None, batch_idx)
        seen.append(bar.train_progress_bar.n)
    assert seen == [0, 0, 3, 3, 3, 6, 6, 6, 9, 10]
    bar.on_train_end(trainer, None)


@pytest.mark.parametrize("how", ["rate", "disabled", "rank"])
def test_no_bar(terminal: Terminal, how: str) -> None:
    bar = TQDMProgressBar(refresh_rate=0 if how == "rate" else 1)
    if how == "disabled":
        bar.disable()
    run_fit(bar, make_trainer(bar, is_global_zero=how != "rank"))
    assert bar.is_disabled
    assert not bar.is_enabled
    assert terminal.getvalue() == ""


def test_leave_keeps_every_epoch(terminal: Terminal) -> None:
    bar = TQDMProgressBar(leave=True)
    run_fit(bar, make_trainer(bar), epochs=3)
    kept = [line.rpartition("\r")[2] for line in terminal.getvalue().split("\n")]
    assert [line.partition("%")[0] for line in kept] == ["Epoch 0: 100", "Epoch 1: 100", "Epoch 2: 100", ""]


def test_unknown_length(terminal: Terminal) -> None:
    bar = TQDMProgressBar()
    trainer = set_up(bar, num_training_batches=float("inf"))
    bar.on_train_start(trainer, None)
    run_epoch(bar, trainer, batches=5)
    bar.on_train_end(trainer, None)
    assert bar.train_progress_bar.total is None
    assert "5/?" in terminal.getvalue()


def test_users_own_bar(terminal: Terminal) -> None:
    class Mine(TQDMProgressBar):
        def init_train_tqdm(self) -> Any:
            made = super().init_train_tqdm()
            made.set_description("mine")
            return made

        def get_metrics(self, trainer: Any, pl_module: Any) -> Any:
            return {**super().get_metrics(trainer, pl_module), "extra": "text"}

    bar = Mine()
    run_fit(bar, make_trainer(bar))
    assert "mine" in terminal.getvalue()
    assert "extra=text" in terminal.getvalue()


def test_a_bar_of_plain_tqdm_is_fine(terminal: Terminal) -> None:
    from tqdm import tqdm

    class Mine(TQDMProgressBar):
        def init_train_tqdm(self) -> Any:
            return tqdm(file=terminal)

    bar = Mine()
    run_fit(bar, make_trainer(bar), epochs=2)
    assert "10/10" in terminal.getvalue()


def test_exception_leaves_the_bar_on_its_own_line(terminal: Terminal) -> None:
    bar = TQDMProgressBar()
    trainer = set_up(bar)
    bar.on_train_start(trainer, None)
    bar.on_train_epoch_start(trainer, None)
    bar.on_train_batch_end(trainer, None, None, None, 0)
    bar.on_validation_start(trainer, None)
    bar.on_exception(trainer, None, KeyboardInterrupt())
    assert terminal.getvalue().endswith("\n")
    assert bar.train_progress_bar.disable
    assert bar.val_progress_bar.disable


def test_print(capsys: pytest.CaptureFixture[str]) -> None:
    bar = TQDMProgressBar()
    bar.print("before any bar")
    trainer = set_up(bar)
    bar.on_train_start(trainer, None)
    bar.print("a", 1, sep="-", end="!\n")
    bar.on_train_end(trainer, None)
    bar.print("after the bar")
    assert capsys.readouterr().out == "a-1!\n"


def test_bars_before_their_stage() -> None:
    bar = TQDMProgressBar()
    for name in ("train", "val", "test", "predict"):
        with pytest.raises(TypeError, match=f"{name}_progress_bar` reference has not been set yet"):
            getattr(bar, f"{name}_progress_bar")


def test_pickle(file: io.StringIO) -> None:
    bar = TQDMProgressBar(refresh_rate=7)
    bar.train_progress_bar = bar._make("x", leave=False)
    copy = pickle.loads(pickle.dumps(bar))
    assert copy.refresh_rate == 7
    with pytest.raises(TypeError):
        _ = copy.train_progress_bar


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_MINITERS", "10")
    assert TQDMProgressBar().refresh_rate == 10
    assert TQDMProgressBar(refresh_rate=12).refresh_rate == 12
    monkeypatch.delenv("TQDM_MINITERS")
    monkeypatch.setenv("COLAB_GPU", "1")
    assert TQDMProgressBar().refresh_rate == 20
    assert TQDMProgressBar(refresh_rate=2).refresh_rate == 2


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (21, "21"), ("21", "21.00"), (21.0, "21.00"), (21.123, "21.10"), ("nan", "nan.0"), ("abc", "abc"),
        ("1e-5", "1e-5"), (0.123456, "0.123"), (1.5e-7, "1.5e-7"), (-0.5, "-0.50"),
    ],
)  # fmt: skip
def test_width_of_numbers(number: Any, text: str) -> None:
    assert Tqdm.format_num(number) == text


def test_convert_inf() -> None:
    assert [convert_inf(x) for x in (None, float("inf"), float("nan"), 3)] == [None, None, None, 3]


def test_tqdm_starts_no_thread(terminal: Terminal) -> None:
    import threading

    before = set(threading.enumerate())
    run_fit(bar := TQDMProgressBar(), make_trainer(bar))
    assert set(threading.enumerate()) == before
