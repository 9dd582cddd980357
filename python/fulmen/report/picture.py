"""The learning curves as a picture, drawn with matplotlib: for papers, slides and terminals without a browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fulmen import errors
from fulmen.report.groups import DEVICE, Group, base_name, group_series
from fulmen.report.metrics_file import epochs_done
from fulmen.report.run_folder import Run
from fulmen.utilities.imports import package_available

_STYLES = ("-", "--", ":", "-.")
_MOST_CHARTS = 24


def write_picture(runs: Sequence[Run], path: Path, metrics: Sequence[str] = (), x: str = "step") -> list[str]:
    """Draw one panel for each thing that was measured, all runs in it.

    Args:
        runs: the runs.
        path: the file; its ending says which format: ``.png``, ``.svg``, ``.pdf``.
        metrics: names of metrics, or titles of panels (``loss`` stands for ``train_loss`` and ``val_loss``); empty: all.
        x: ``"step"`` or ``"epoch"``.

    Returns:
        The titles of the panels.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: there is nothing to draw, a metric that no run has, or a format that matplotlib does not write.
    """
    if not package_available("matplotlib"):
        raise errors.missing_package("matplotlib", "fulmen plot", "matplotlib   (or: pip install 'fulmen[plot]')")
    groups = _choose(runs, metrics)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(groups), 2 if len(groups) in (2, 4) else 3)
    rows = math.ceil(len(groups) / columns)
    # no pyplot: it would choose a window system, and keep the figure
    figure: Any = Figure(figsize=(5 * columns, 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in formats:
        raise errors.value_error(
            "--output", f"a name that ends with one of {', '.join(sorted(formats))}", str(path), "Name it so"
        )
    for axes, group in zip(figure.subplots(rows, columns, squeeze=False).flat, groups, strict=False):
        _draw(axes, runs, group, x)
    for axes in figure.axes[len(groups) :]:
        axes.remove()
    figure.suptitle(runs[0].label if len(runs) == 1 else f"{len(runs)} runs")
    figure.savefig(path, dpi=150)
    return [group.title for group in groups]


def _choose(runs: Sequence[Run], metrics: Sequence[str]) -> list[Group]:
    groups = group_series(series for run in runs for series in run.series.values())
    if metrics:
        known = {name for group in groups for name in (group.title, *group.names)}
        for wanted in metrics:
            if wanted not in known:
                raise errors.value_error(
                    "--metric", f"one of {', '.join(sorted(known)) or 'none'}", wanted, "Name one of them"
                )
        groups = [group for group in groups if group.title in metrics or set(group.names) & set(metrics)]
        for group in groups:
            if group.title not in metrics:
                group.names = [name for name in group.names if name in metrics]
    else:
        # what the device does is no learning curve; the report shows it
        groups = [group for group in groups if group.part != DEVICE][:_MOST_CHARTS]
    if not groups:
        folders = ", ".join(str(run.path) for run in runs)
        raise errors.value_error(
            "RUN_DIR", "a run with values", errors.Words(f"none in {folders}"), "Wait for its rows"
        )
    return groups


def _draw(axes: Any, runs: Sequence[Run], group: Group, x: str) -> None:
    from matplotlib.ticker import MaxNLocator

    everything: list[float] = []
    bases = list(dict.fromkeys(map(base_name, group.names)))
    for number, run in enumerate(runs):
        ends = run.metrics.epoch_ends()
        for name in (name for name in group.names if name in run.series):
            # a metric by step and the same by epoch are one colour, the former paler
            at = bases.index(base_name(name))
            series = run.series[name]
            xs = [epochs_done(s, ends) for s in series.steps] if x == "epoch" and not group.by_batch else series.steps
            label = name if len(runs) == 1 else f"{run.label}: {name}"
            colour = f"C{at % 10}" if len(runs) == 1 else f"C{number % 10}"
            style = "-" if len(runs) == 1 else _STYLES[at % len(_STYLES)]
            by_step = name.endswith("_step") and len(group.names) > 1
            points = sorted(zip(xs, series.values, strict=True), key=lambda point: point[0])
            axes.plot(
                [point[0] for point in points], [point[1] for point in points],
                ls=style, color=colour, label=label,
                lw=0.8 if by_step else 1.6, alpha=0.5 if by_step else 1.0,
                marker="o" if len(points) == 1 else "." if len(points) <= 40 else None,
            )  # fmt: skip
            everything += [value for value in series.values if math.isfinite(value)]
    if everything and min(everything) > 0 and max(everything) / min(everything) > 50:
        axes.set_yscale("log")
    axes.set(title=group.title, xlabel="evaluation batch" if group.by_batch else "epochs done" if x == "epoch" else x)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=x != "epoch"))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize="small", frameon=False)
