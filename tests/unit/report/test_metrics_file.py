from __future__ import annotations

import math
from pathlib import Path

import pytest

from fulmen.report.metrics_file import epochs_done, read_metrics

from .conftest import TABLE


def read(tmp_path: Path, content: str | bytes):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_metrics(path)


def test_columns_become_series(tmp_path: Path) -> None:
    metrics = read(tmp_path, TABLE)
    assert list(metrics.series) == ["lr-Adam", "test_acc", "train_loss", "val_acc"]
    assert (metrics.rows, metrics.notes) == (7, [])
    loss, rate = metrics.series["train_loss"], metrics.series["lr-Adam"]
    assert (loss.steps, loss.epochs, loss.values) == ([37, 75], [0, 1], [0.8, 0.3])
    assert (rate.steps, rate.epochs, rate.values) == ([0, 38], [None, None], [0.002, 0.001])


def test_every_cut_of_a_file_can_be_read(tmp_path: Path) -> None:
    """A file that grows, or a crash, may end at any byte: complete rows count, the rest is left out and said."""
    whole = TABLE.replace("\n", "\r\n").encode()
    header = whole.index(b"\n") + 1
    seen = []
    for end in range(header, len(whole) + 1):
        metrics = read(tmp_path, whole[:end])
        complete = whole[:end].count(b"\n") - 1
        # a row without its line end may itself be cut within a number: 0.94 as 0.9
        assert metrics.rows == complete
        assert bool(metrics.notes) == (not whole[:end].endswith(b"\n"))
        seen.append(metrics.rows)
    assert sorted(set(seen)) == list(range(8))


@pytest.mark.parametrize("content", ["", "\r\n", "epoch,st", "a,b\r\n1,2\r\n"])
def test_nothing_to_read_is_an_error_that_says_what_to_do(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match=r"metrics\.csv: expected CSV with a column `step`, received .* first row"):
        read(tmp_path, content)


def test_a_missing_file_is_an_error_that_names_the_logger(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="CSVLogger"):
        read_metrics(tmp_path / "metrics.csv")


def test_damage_is_left_out_and_noted(tmp_path: Path) -> None:
    metrics = read(
        tmp_path, b"loss,step,word\r\n0.5,0,\r\n\0\0\0\0\r\n0.4\r\n0.3,2,hello\r\n1,x,\r\nnan,3,\r\ninf,4,\r\n"
    )
    series = metrics.series["loss"]
    assert series.steps == [0, 2, 3, 4]
    assert series.values[:2] == [0.5, 0.3] and math.isnan(series.values[2]) and series.values[3] == math.inf
    assert series.finite == [(0, 0.5), (2, 0.3)]
    assert len(metrics.notes) == 3
    zero, rows, words = metrics.notes
    assert "zero bytes" in zero and "2 rows" in rows and "1 value of word" in words


def test_evaluations_that_count_their_own_batches(tmp_path: Path) -> None:
    metrics = read(
        tmp_path, "epoch,step,train_loss_step,val_loss_step,val_loss_epoch\r\n0,4,1,,\r\n,0,,2,\r\n0,4,,,3\r\n"
    )
    counting = {name: series.counts_batches for name, series in metrics.series.items()}
    assert counting == {"train_loss_step": False, "val_loss_step": True, "val_loss_epoch": False}


def test_an_evaluation_after_the_training_is_no_epoch(tmp_path: Path) -> None:
    assert read(tmp_path, TABLE).epoch_ends() == [(37, 1), (75, 2)]


def test_epochs_done() -> None:
    ends = [(9.0, 1.0), (19.0, 2.0), (24.0, 3.0)]
    assert epochs_done(9, ends) == 1 and epochs_done(19, ends) == 2
    assert epochs_done(4, ends) == 0.5 and epochs_done(14, ends) == 1.5
    # the last epoch is as long as the one before, unless it is known to be longer
    assert epochs_done(24, ends) == 2.5
    assert epochs_done(99, ends) == 3
    assert epochs_done(5, []) == 0
