"""The commands ``fulmen report`` and ``fulmen plot``: from the folders of runs to a page, and to a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

_DIRS = (
    "folder of a run (with a metrics.csv, as CSVLogger writes it), or a folder above some, which stands for all of them"
)


def report(arguments: Sequence[str]) -> int:
    """``fulmen report``: writes an HTML page.

    Args:
        arguments: what was typed after the command.

    Returns:
        The exit status: 0, or 1 if the runs cannot be read. A wrong command line ends with ``SystemExit(2)``.
    """
    parser = _parser(
        "report", "Write the report of a run, or of several compared, as one HTML file that loads nothing."
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: report.html beside the runs")
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    given = parser.parse_args(arguments)

    def work() -> str:
        from fulmen.report.folders import find_runs
        from fulmen.report.page import write_report

        runs = find_runs(given.runs)
        path = given.output or _beside(given.runs, "report.html")
        write_report(runs, path)
        if given.open:
            import webbrowser

            webbrowser.open(path.resolve().as_uri())
        return f"report of {_count(len(runs))}: {path}"

    return _guarded("report", work)


def plot(arguments: Sequence[str]) -> int:
    """``fulmen plot``: draws the curves with matplotlib.

    Args:
        arguments: what was typed after the command.

    Returns:
        The exit status: 0, or 1 if the runs cannot be read. A wrong command line ends with ``SystemExit(2)``.
    """
    parser = _parser("plot", "Draw the curves of a run, or of several in one, as a picture (needs matplotlib).")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="its ending is the format; default: curves.png beside the runs",
    )
    parser.add_argument(
        "-m", "--metric", action="append", default=[], metavar="NAME",
        help="draw this metric only, or all of a thing (loss: train_loss and val_loss); may be given more than once",
    )  # fmt: skip
    parser.add_argument("-x", choices=("step", "epoch"), default="step", help="the x axis; default: step")
    given = parser.parse_args(arguments)

    def work() -> str:
        from fulmen.report.folders import find_runs
        from fulmen.report.picture import write_picture

        runs = find_runs(given.runs)
        path = given.output or _beside(given.runs, "curves.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        titles = write_picture(runs, path, given.metric, given.x)
        return f"picture of {_count(len(runs))} ({', '.join(titles)}): {path}"

    return _guarded("plot", work)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"fulmen {name}", description=description, allow_abbrev=False)
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help=_DIRS)
    return parser


def _guarded(name: str, work: object) -> int:
    """Do the work and say what came out; a mistake in what was given is one line, not a traceback."""
    try:
        print(work())  # type: ignore[operator]  # set by the subcommand
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"fulmen {name}: {error}", file=sys.stderr)
        return 1
    return 0


def _beside(given: Sequence[str], name: str) -> Path:
    """In the folder that was named, if it is one; in the working directory for several."""
    first = Path(given[0])
    return (first if first.is_dir() else first.parent) / name if len(given) == 1 else Path(name)


def _count(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"
