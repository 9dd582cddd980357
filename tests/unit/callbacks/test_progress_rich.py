from __future__ import annotations

import io
import pickle
import re
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from fulmen.callbacks.progress import RichProgressBar, pace, rich_progress
from fulmen.callbacks.progress.rich_progress import RichProgressBarTheme

from .progress_fakes import Terminal, make_trainer, run_epoch, run_fit

pytest.importorskip("rich", reason="needs rich: pip install rich")


@pytest.fixture(autouse=True)
def console() -> Any:
    """rich has one console for the whole program: give it back as it was."""
    import rich

    before = dict(rich.get_console().__dict__)
    yield
    rich.get_console().__dict__.clear()
    rich.get_console().__dict__.update(before)


def make_bar(file: io.StringIO, **arguments: Any) -> RichProgressBar:
    size = {"file": file, "force_terminal": isinstance(file, Terminal), "width": 200, "color_system": None}
    return RichProgressBar(console_kwargs=size, **arguments)


def set_up(bar: RichProgressBar, **changes: Any) -> Any:
    trainer = make_trainer(bar, **changes)
    bar.setup(trainer, None, "fit")
    return trainer


def test_terminal_shows_epoch_batches_and_metrics() -> None:
    bar = make_bar(terminal := Terminal())
    trainer = make_trainer(bar, progress_bar_metrics={"loss": 0.25}, loggers=[SimpleNamespace(version=3)])
    run_fit(bar, trainer, epochs=2)
    last = terminal.getvalue().split("\n")[-2].rpartition("\x1b[2K")[2]
    assert re.search(r"Epoch 1/2 +━+ 10/10 0:00:00 • 0:00:00 \d+\.\d\dit/s fit 0:00 v_num: 3 loss: 0\.250", last)
    # the cursor is visible again
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


def test_terminal_is_not_drawn_for_every_batch() -> None:
    bar = make_bar(terminal := Terminal())
    trainer = set_up(bar, num_training_batches=20000)
    bar.on_train_start(trainer, None)
    run_epoch(bar, trainer)
    bar.teardown(trainer, None, "fit")
    assert len(terminal.getvalue()) < 10000


def test_epochs_of_one_batch_are_not_all_drawn() -> None:
    bar = make_bar(terminal := Terminal())
    run_fit(bar, make_trainer(bar, num_training_batches=1), epochs=300)
    assert len(terminal.getvalue()) < 10000


def test_no_thread() -> None:
    bar = make_bar(Terminal())
    trainer = set_up(bar)
    before = set(threading.enumerate())
    bar.on_train_start(trainer, None)
    assert set(threading.enumerate()) == before
    bar.teardown(trainer, None, "fit")


def test_file_gets_one_line_an_epoch() -> None:
    bar = make_bar(file := io.StringIO())
    run_fit(bar, make_trainer(bar, progress_bar_metrics={"loss": 0.25}), epochs=3)
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    fit = ["fit 0:00 left, ", "fit 0:00 left, ", ""]
    for epoch, line in enumerate(lines):
        assert re.fullmatch(rf"Epoch {epoch}/2: 10/10 \(100%\), 0:00 elapsed, {fit[epoch]}\S+ it/s, loss: 0\.250", line)


def test_file_stays_small_and_plain() -> None:
    bar = make_bar(file := io.StringIO())
    run_fit(bar, make_trainer(bar, num_training_batches=1, progress_bar_metrics={"loss": 0.25}), epochs=1000)
    text = file.getvalue()
    assert 0 < len(text) < 5000
    assert text.isascii()
    assert all(character.isprintable() for character in text.replace("\n", ""))


def test_a_long_epoch_writes_lines_between(monkeypatch: pytest.MonkeyPatch) -> None:
    from fulmen.callbacks.progress import rich_columns

    now = [1000.0]
    for module in (pace, rich_progress, rich_columns):
        monkeypatch.setattr(module, "perf_counter", lambda: now[0])
    bar = make_bar(file := io.StringIO())
    trainer = set_up(bar, num_training_batches=1000)
    bar.on_train_start(trainer, None)
    bar.on_train_epoch_start(trainer, None)
    for batch_idx in range(100):
        now[0] += 0.5
        bar.on_train_batch_end(trainer, None, None, None, batch_idx)
    assert 2 <= len(file.getvalue().splitlines()) <= 10


@pytest.mark.parametrize("stage", ["validation", "test", "predict"])
def test_evaluation_bars(stage: str) -> None:
    bar = make_bar(file := io.StringIO())
    trainer = set_up(bar)
    trainer.state.fn = {"validation": "validate"}.get(stage, stage)
    loaders = {"validation": [4, 6], "test": [5], "predict": [7]}[stage]
    getattr(bar, f"on_{stage}_start")(trainer, None)
    for loader, batches in enumerate(loaders):
        for batch_idx in range(batches):
            getattr(bar, f"on_{stage}_batch_start")(trainer, None, None, batch_idx, loader)
            getattr(bar, f"on_{stage}_batch_end")(trainer, None, None, None, batch_idx, loader)
        task = bar._task(getattr(bar, f"{stage.replace('validation', 'val')}_progress_bar_id"))
        assert (task.completed, task.total) == (batches, batches)
        assert task.visible
    bar.on_validation_epoch_end(trainer, None)
    getattr(bar, f"on_{stage}_end")(trainer, None)
    bar.teardown(trainer, None, stage)
    assert file.getvalue().splitlines()[-1].startswith(f"{getattr(bar, f'{stage}_description')}: {loaders[-1]}/")


def test_validation_within_fit() -> None:
    bar = make_bar(Terminal())
    trainer = set_up(bar)
    bar.on_train_start(trainer, None)
    bar.on_train_epoch_start(trainer, None)
    for _ in range(3):
        bar.on_validation_start(trainer, None)
        bar.on_validation_batch_start(trainer, None, None, 0)
        assert bar.val_progress_bar.visible
        bar.on_validation_batch_end(trainer, None, None, None, 0)
        bar.on_validation_epoch_end(trainer, None)
        trainer.progress_bar_metrics = {"val_loss": 0.5}
        bar.on_validation_end(trainer, None)
        assert not bar.val_progress_bar.visible
    # validations do not pile up
    assert bar.progress is not None
    assert len(bar.progress.tasks) == 2
    assert bar._metric_component is not None
    assert bar._metric_component.text == "val_loss: 0.500"
    bar.teardown(trainer, None, "fit")


def test_sanity_check() -> None:
    bar = make_bar(Terminal())
    trainer = set_up(bar, sanity_checking=True)
    bar.on_sanity_check_start(trainer, None)
    bar.on_validation_start(trainer, None)
    bar.on_validation_batch_start(trainer, None, None, 0)
    bar.on_validation_batch_end(trainer, None, None, None, 0)
    assert bar.val_sanity_check_bar.description == "Sanity Checking"
    assert bar.val_sanity_check_bar.total == 2
    bar.on_sanity_check_end(trainer, None)
    assert not bar.val_sanity_check_bar.visible
    bar.teardown(trainer, None, "fit")


@pytest.mark.parametrize("how", ["rate", "disabled", "rank"])
def test_no_bar(how: str) -> None:
    bar = make_bar(terminal := Terminal(), refresh_rate=0 if how == "rate" else 100)
    if how == "disabled":
        bar.disable()
    run_fit(bar, make_trainer(bar, is_global_zero=how != "rank"))
    assert bar.is_disabled
    assert not bar.is_enabled
    assert bar.progress is None
    assert terminal.getvalue() == ""


def test_leave_keeps_every_epoch() -> None:
    bar = make_bar(terminal := Terminal(), leave=True)
    run_fit(bar, make_trainer(bar), epochs=3)
    kept = [line.rpartition("\x1b[2K")[2].rpartition("\r")[2] for line in terminal.getvalue().split("\n")]
    assert [line[:9] for line in kept if "10/10" in line] == ["Epoch 0/2", "Epoch 1/2", "Epoch 2/2"]


def test_unknown_length() -> None:
    bar = make_bar(terminal := Terminal())
    trainer = set_up(bar, num_training_batches=float("inf"), max_epochs=None)
    bar.on_train_start(trainer, None)
    run_epoch(bar, trainer, batches=5)
    bar.teardown(trainer, None, "fit")
    assert bar.train_progress_bar.total is None
    assert re.search(r"Epoch 0 .* 5/-- 0:00:00 • -:--:--", terminal.getvalue())


def test_resumed_in_the_middle_of_an_epoch() -> None:
    bar = make_bar(Terminal())
    trainer = set_up(bar)
    bar.on_train_start(trainer, None)
    for batch_idx in range(6, 10):
        bar.on_train_batch_end(trainer, None, None, None, batch_idx)
    bar.on_train_epoch_end(trainer, None)
    assert bar.train_progress_bar.completed == 10
    bar.teardown(trainer, None, "fit")


def test_exception_gives_the_terminal_back() -> None:
    bar = make_bar(terminal := Terminal())
    trainer = set_up(bar)
    bar.on_train_start(trainer, None)
    bar.on_train_epoch_start(trainer, None)
    for batch_idx in range(3):
        bar.on_train_batch_end(trainer, None, None, None, batch_idx)
    bar.on_exception(trainer, None, KeyboardInterrupt())
    bar.teardown(trainer, None, "fit")
    assert "3/10" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n\x1b[?25h")


def test_a_second_run_has_a_display_of_its_own() -> None:
    bar = make_bar(Terminal())
    run_fit(bar, make_trainer(bar))
    first = bar.progress
    run_fit(bar, make_trainer(bar))
    assert bar.progress is not first


def test_theme_and_columns() -> None:
    from rich.progress import TextColumn

    class Mine(RichProgressBar):
        def configure_columns(self, trainer: Any) -> list[Any]:
            return [TextColumn("mine"), *super().configure_columns(trainer)]

    theme = RichProgressBarTheme(description="green", metrics_format=".1e", metrics_text_delimiter="|")
    size = {"file": (terminal := Terminal()), "force_terminal": True, "width": 200, "color_system": None}
    bar = Mine(theme=theme, console_kwargs=size)
    run_fit(bar, make_trainer(bar, progress_bar_metrics={"a": 0.25, "b": "text", "c": {"d": 1}}))
    assert re.search(r"mine +Epoch 0/2", terminal.getvalue())
    assert "a: 2.5e-01|b: text|c: {'d': 1}" in terminal.getvalue()
    assert bar.train_progress_bar.description.startswith("[green]Epoch 0")


def test_pickle() -> None:
    bar = make_bar(Terminal())
    bar._console_kwargs = {}
    bar.on_train_start(make_trainer(bar), None)
    copy = pickle.loads(pickle.dumps(bar))
    assert copy.progress is None
    assert copy.theme == bar.theme
    bar._stop_progress()


def test_refresh() -> None:
    bar = make_bar(terminal := Terminal())
    bar.refresh()
    trainer = set_up(bar)
    bar.on_train_start(trainer, None)
    bar.on_train_epoch_start(trainer, None)
    drawn = len(terminal.getvalue())
    bar.refresh()
    assert len(terminal.getvalue()) == drawn
    bar.refresh(hard=True)
    assert len(terminal.getvalue()) > drawn
    bar.teardown(trainer, None, "fit")


def test_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rich_progress, "requirement_available", lambda requirement: False)
    with pytest.raises(ModuleNotFoundError, match="pip install rich"):
        RichProgressBar()


def test_parts_can_be_imported_from_the_module() -> None:
    from fulmen.callbacks.progress.rich_progress import CustomProgress, MetricsTextColumn

    assert CustomProgress.__name__ == "CustomProgress"
    assert MetricsTextColumn.__name__ == "MetricsTextColumn"
    with pytest.raises(ImportError):
        from fulmen.callbacks.progress.rich_progress import Nothing  # noqa: F401 (importing it is the test)
