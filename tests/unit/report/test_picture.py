from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fulmen.report import picture
from fulmen.report.folders import find_runs
from fulmen.report.picture import write_picture

pytest.importorskip("matplotlib")


def test_formats_and_panels(make_run, tmp_path: Path) -> None:
    make_run("a")
    make_run("b")
    runs = find_runs([tmp_path / "logs"])
    for ending, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        path = tmp_path / f"curves.{ending}"
        assert write_picture(runs, path, x="epoch") == ["loss", "learning rate", "acc"]
        assert path.read_bytes().startswith(start)
    # every curve is in it
    drawn = (tmp_path / "curves.svg").read_text()
    for words in ("2 runs", "a: train_loss", "b: val_acc", "a: test_acc", "b: lr-Adam", "epochs done"):
        assert f"<!-- {words} -->" in drawn, words


def test_chosen_metrics(make_run, tmp_path: Path) -> None:
    runs = find_runs([make_run()])
    path = tmp_path / "curves.svg"
    assert write_picture(runs, path, ["val_acc"]) == ["acc"]
    assert "<!-- val_acc -->" in path.read_text() and "test_acc" not in path.read_text()
    assert write_picture(runs, path, ["loss", "val_acc"]) == ["loss", "acc"]
    with pytest.raises(ValueError, match="--metric: expected one of acc, learning rate, .*received 'f1'"):
        write_picture(runs, path, ["f1"])


def test_what_cannot_be_drawn(make_run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--output: expected a name that ends with one of .*png"):
        write_picture(find_runs([make_run("a")]), tmp_path / "curves.xyz")
    with pytest.raises(ValueError, match="expected a run with values, received none"):
        write_picture(find_runs([make_run("b", table="loss,step\n")]), tmp_path / "curves.png")


def test_without_matplotlib_the_error_names_the_command(make_run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(picture, "package_available", lambda name: name != "matplotlib")
    with pytest.raises(ModuleNotFoundError, match="fulmen plot needs the package `matplotlib`.*pip install matplotlib"):
        write_picture(find_runs([make_run()]), tmp_path / "curves.png")


def test_no_window_system_is_chosen(make_run, tmp_path: Path) -> None:
    write_picture(find_runs([make_run()]), tmp_path / "curves.png")
    assert "matplotlib.pyplot" not in sys.modules or sys.modules["matplotlib.pyplot"].get_fignums() == []
