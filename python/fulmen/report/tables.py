"""Pieces of HTML: tables, and numbers, sizes and times as text. Whatever comes from a run's files is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape

from fulmen.report.run_folder import Run


def text(value: object) -> str:
    """Text for HTML."""
    return escape(str(value))


def table(caption: str, head: Sequence[str], rows: Sequence[str], numbers: Sequence[int] = ()) -> str:
    """A table.

    Args:
        caption: what it shows; plain text.
        head: names of the columns; plain text.
        rows: rows of HTML, as `row` makes them.
        numbers: positions of columns with numbers.
    """
    names = "".join(
        f'<th scope="col"{" class=number" if at in numbers else ""}>{text(name)}</th>' for at, name in enumerate(head)
    )
    return (
        f'<div class="scroll"><table><caption>{text(caption)}</caption><thead><tr>{names}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def row(name: str, cells: Sequence[str], numbers: bool = False, kind: str = "") -> str:
    """A row: its name, which is HTML, and cells of HTML; ``kind`` is a CSS class."""
    of_class = f' class="{kind}"' if kind else ""
    tag = "<td class=number>" if numbers else "<td>"
    return f'<tr{of_class}><th scope="row">{name}</th>{"".join(f"{tag}{cell}</td>" for cell in cells)}</tr>'


def compared(caption: str, runs: Sequence[Run], values: Sequence[Mapping[str, str]]) -> str:
    """A table of names and values with a column for each run; rows that differ between runs are marked.

    Args:
        caption: what it shows.
        runs: the runs.
        values: name to value for each of them.
    """
    names = list(dict.fromkeys(name for one in values for name in one))
    several = len(runs) > 1
    rows = []
    for name in names:
        found = [one.get(name) for one in values]
        cells = ["<small>none</small>" if value is None else text(value) for value in found]
        rows.append(row(text(name), cells, kind=("differs" if len(set(found)) > 1 else "same") if several else ""))
    return table(caption, ["name", *(run.label if several else "value" for run in runs)], rows)


def number(value: float) -> str:
    """``0.1234``, ``1.5e-05``, ``12345``."""
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def size(count: int) -> str:
    """``12.3 MB``."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """``84 ms``, ``8.40 s``, ``12.3 s``, ``3 min 20 s``, ``5 h 12 min``, ``2 d 3 h``."""
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    for limit, big, big_name, small, small_name in (
        (3600, 60, "min", 1, "s"),
        (86400, 3600, "h", 60, "min"),
        (float("inf"), 86400, "d", 3600, "h"),
    ):
        if whole < limit:
            rest = whole % big // small
            return f"{whole // big} {big_name}" + (f" {rest} {small_name}" if rest else "")
    return ""


def share(part: float) -> str:
    """``42.0%``, ``<0.1%``."""
    return f"{part:.1%}" if part >= 0.0005 or part <= 0 else "<0.1%"


def moment(time: datetime) -> str:
    """``2026-03-01 14:05:09``, in the zone that it has."""
    return time.strftime("%Y-%m-%d %H:%M:%S")
