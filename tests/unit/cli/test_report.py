"""`fulmen report` and `fulmen plot`."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulmen.cli.main import main

TABLE = "epoch,step,train_loss\r\n0,3,0.5\r\n1,7,0.25\r\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "logs" / "version_0"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(TABLE, newline="")
    return folder


def test_report_goes_beside_the_run(run: Path, capsys) -> None:
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"report of 1 run: {run / 'report.html'}\n"
    assert "train_loss" in (run / "report.html").read_text()


def test_report_of_a_folder_of_runs_and_of_several(run: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = run.parent / "version_1"
    other.mkdir()
    (other / "metrics.csv").write_text(TABLE, newline="")
    assert main(["report", "logs"]) == 0 and main(["report", str(run), str(other)]) == 0
    assert main(["report", "logs", "-o", "deep/er/x.html"]) == 0
    places = [Path("logs/report.html"), Path("report.html"), Path("deep/er/x.html")]
    assert capsys.readouterr().out.splitlines() == [f"report of 2 runs: {path}" for path in places]
    assert all("2 runs compared" in path.read_text() for path in places)


def test_plot(run: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("matplotlib")
    assert main(["plot", str(run)]) == 0
    assert main(["plot", str(run), "-o", str(tmp_path / "a.svg"), "-m", "loss", "-x", "epoch"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"picture of 1 run (loss): {run / 'curves.png'}",
        f"picture of 1 run (loss): {tmp_path / 'a.svg'}",
    ]
    assert (run / "curves.png").stat().st_size > 5000


@pytest.mark.parametrize("command", ["report", "plot"])
def test_mistakes_are_one_line(command: str, run: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    for given in (str(tmp_path / "nowhere"), str(tmp_path / "empty")):
        assert main([command, given]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"fulmen {command}: RUN_DIR: expected ") and error.count("\n") == 1
    for wrong in ([], ["--colour", str(run)]):
        with pytest.raises(SystemExit, match="2"):
            main([command, *wrong])
        assert f"usage: fulmen {command}" in capsys.readouterr().err


def test_a_half_written_table_is_reported_with_a_note(run: Path) -> None:
    with (run / "metrics.csv").open("a", newline="") as file:
        file.write("2,11,0.1")
    assert main(["report", str(run)]) == 0
    assert "not complete" in (run / "report.html").read_text()
