from __future__ import annotations

import io

import pytest

from fulmen.callbacks.progress import pace
from fulmen.callbacks.progress.pace import LinePace, LivePace, clock, is_live, plain_line

from .progress_fakes import Terminal


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set: ``now[0]``."""
    time = [1000.0]
    monkeypatch.setattr(pace, "perf_counter", lambda: time[0])
    return time


def test_live_pace_draws_ten_times_a_second(now: list[float]) -> None:
    live = LivePace()
    live.drew(began=now[0])
    assert live.next_draw == pytest.approx(1000.1)


def test_live_pace_gives_a_slow_terminal_half_a_percent(now: list[float]) -> None:
    live = LivePace()
    live.drew(began=now[0] - 0.002)
    assert live.next_draw == pytest.approx(1000.0 - 0.002 + 0.4)


def test_live_pace_shows_life_every_second(now: list[float]) -> None:
    live = LivePace()
    live.drew(began=now[0] - 0.3)
    assert live.next_draw == pytest.approx(1000.0 - 0.3 + 1.0)


def test_line_pace_waits_five_seconds(now: list[float]) -> None:
    lines = LinePace()
    now[0] += 4.9
    assert not lines.is_due(at_end=False)
    now[0] += 0.2
    assert lines.is_due(at_end=False)
    lines.wrote("x" * 70, speed=1000.0)
    assert not lines.is_due(at_end=False)


def test_line_pace_shows_every_epoch_of_a_short_run_but_not_of_a_long_one(now: list[float]) -> None:
    lines = LinePace()
    due = []
    for _ in range(100):
        now[0] += 0.1
        due.append(lines.is_due(at_end=True))
        if due[-1]:
            lines.wrote("x" * 70, speed=1000.0)
    assert all(due[:8])
    assert sum(due[8:]) == pytest.approx(9, abs=1)


def test_long_lines_are_not_free_for_long(now: list[float]) -> None:
    lines, written = LinePace(), 0
    for _ in range(8):
        if lines.is_due(at_end=True):
            written += 500
            lines.wrote("x" * 500, speed=1000.0)
    assert written == 1000


@pytest.mark.parametrize("steps_per_second", [0.5, 3.0, 40.0, 1000.0, 20000.0])
@pytest.mark.parametrize("steps_per_epoch", [1, 30, 1000])
@pytest.mark.parametrize("metrics", ["v_num=3, train_loss=0.123, val_loss=0.456", ", ".join(["a_metric=0.123"] * 20)])
def test_a_thousand_steps_write_less_than_five_kilobytes(
    now: list[float], steps_per_second: float, steps_per_epoch: int, metrics: str
) -> None:
    lines, written = LinePace(), 0
    for step in range(1, 1001):
        now[0] += 1 / steps_per_second
        if lines.is_due(at_end=step % steps_per_epoch == 0):
            line = plain_line("Epoch 3", step, 1000, step / steps_per_second, metrics, fit_left=4567.0)
            written += len(line) + 1
            lines.wrote(line, steps_per_second)
    assert written < 5000


def test_plain_line() -> None:
    assert plain_line("Epoch 3: ", 25, 100, 5.0, "loss=0.5") == (
        "Epoch 3: 25/100 (25%), 0:05 elapsed, 0:15 left, 5 it/s, loss=0.5"
    )
    assert plain_line("Epoch 3: ", 100, 100, 5.0, "", 727.0) == (
        "Epoch 3: 100/100 (100%), 0:05 elapsed, fit 12:07 left, 20 it/s"
    )
    assert plain_line("Epoch 0", 7, None, 0.0, "") == "Epoch 0: 7 batches, 0:00 elapsed, 0 it/s"
    assert "left" not in plain_line("Epoch 0", 7, 7, 1.0, "")


def test_clock() -> None:
    assert [clock(3), clock(727), clock(11527)] == ["0:03", "12:07", "3:12:07"]


def test_is_live() -> None:
    assert is_live(Terminal())
    assert not is_live(io.StringIO())
    closed = io.StringIO()
    closed.close()
    assert not is_live(closed)
    assert not is_live(object())


def test_the_output_of_a_notebook_is_live() -> None:
    stream = type("OutStream", (), {"__module__": "ipykernel.iostream"})
    assert is_live(stream())
