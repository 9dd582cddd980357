"""The curves as the page's script wants them: short lists of short numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fulmen.report.groups import Group, group_series
from fulmen.report.metrics_file import Series, epochs_done
from fulmen.report.run_folder import Run

MOST_POINTS = 1600


def page_data(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything that charts need, of types that JSON has.

    Args:
        runs: the runs.

    Returns:
        ``{"runs": [{"label", "series": {name: {"x": [...], "e": [...], "y": [...]}}}], "groups": [{"title", "part",
        "names", "byBatch"}]}``: x are steps, e epochs done; y has None where a value is not finite.
    """
    groups = group_series(series for run in runs for series in run.series.values())
    return {"runs": [_run(run) for run in runs], "groups": [_group(group) for group in groups]}


def _group(group: Group) -> dict[str, Any]:
    return {"title": group.title, "part": group.part, "names": group.names, "byBatch": group.by_batch}


def _run(run: Run) -> dict[str, Any]:
    ends = run.metrics.epoch_ends()
    return {"label": run.label, "series": {name: _series(series, ends) for name, series in run.series.items()}}


def _series(series: Series, ends: list[tuple[float, float]]) -> dict[str, list[float | None]]:
    order = sorted(range(len(series.steps)), key=series.steps.__getitem__)
    kept = thin([series.values[at] for at in order], MOST_POINTS)
    steps = [series.steps[order[at]] for at in kept]
    return {
        "x": [_short(step) for step in steps],
        "e": [_short(epochs_done(step, ends)) for step in steps],
        "y": [_short(series.values[order[at]]) for at in kept],
    }


def thin(values: Sequence[float], most: int) -> list[int]:
    """Positions that show a curve of many values with few: the first, the last, and every bucket's extremes.

    Args:
        values: the values; those that are not finite are kept where a bucket has nothing else.
        most: about how many to keep; a curve that is not longer is kept whole.
    """
    count = len(values)
    if count <= most:
        return list(range(count))
    kept = {0, count - 1}
    buckets = max(1, most // 2 - 1)
    for bucket in range(buckets):
        positions = range(count * bucket // buckets, count * (bucket + 1) // buckets)
        finite = [at for at in positions if math.isfinite(values[at])]
        kept |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)} if finite else {positions[0]}
    return sorted(kept)


def _short(value: float) -> float | None:
    """Six digits are more than a screen shows, and a third of a float's text; steps stay exact."""
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < 2**53 else float(f"{value:.6g}")
