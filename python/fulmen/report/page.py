"""A report: one HTML file with everything in it, which loads nothing from anywhere."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from string import Template

from fulmen.report import parts
from fulmen.report.curves import page_data
from fulmen.report.groups import DEVICE, group_series
from fulmen.report.run_folder import Run
from fulmen.report.tables import moment, text

_ASSETS = Path(__file__).parent / "assets"


def write_report(runs: Sequence[Run], path: Path) -> None:
    """Write the report of one run, or of several compared.

    Args:
        runs: the runs.
        path: the file, which is replaced in one step; its folder is made if missing.
    """
    page = render(runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, path)


def render(runs: Sequence[Run]) -> str:
    """The report as text.

    Args:
        runs: the runs.
    """
    from fulmen._core import __version__

    groups = group_series(series for run in runs for series in run.series.values())
    content = {
        "overview": ("Overview", parts.overview(runs, groups)),
        "curves": ("Curves", parts.curves(groups)),
        "rates": ("Learning rate", parts.rates(groups)),
        "time": ("Time", parts.time(runs)),
        "checkpoints": ("Checkpoints", parts.checkpoints(runs)),
        "hyperparameters": ("Hyperparameters", parts.hyperparameters(runs)),
        "environment": ("Environment", parts.environment(runs)),
    }
    if any(group.part == DEVICE for group in groups):
        content["device"] = ("Device", parts.device(groups))
    made = datetime.now(timezone.utc).astimezone()
    one = len(runs) == 1
    return Template(_asset("page.html")).substitute(
        title=text(f"{runs[0].label} · fulmen report" if one else f"{len(runs)} runs · fulmen report"),
        heading=text(runs[0].label if one else f"{len(runs)} runs compared"),
        subtitle=text(f"as of {moment(made)}"),
        css=_asset("page.css"),
        tabs="".join(_tab(key, title, at == 0) for at, (key, (title, _)) in enumerate(content.items())),
        sections="\n".join(_section(key, title, body) for key, (title, body) in content.items()),
        version=text(__version__),
        made=text(moment(made)),
        data=_json(page_data(runs)),
        script=_asset("chart.js") + _asset("page.js"),
    )


def _tab(key: str, title: str, first: bool) -> str:
    return (
        f'<button type="button" role="tab" id="tab-{key}" aria-controls="{key}" aria-selected="{str(first).lower()}" '
        f'tabindex="{0 if first else -1}">{title}</button>'
    )


def _section(key: str, title: str, body: str) -> str:
    return (
        f'<section id="{key}" role="tabpanel" aria-labelledby="tab-{key}" tabindex="0">'
        f'<h2 class="visually-hidden">{title}</h2>{body}</section>'
    )


def _json(value: object) -> str:
    """JSON that cannot end the element that holds it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
