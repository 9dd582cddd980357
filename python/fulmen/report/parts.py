"""The parts of a report, each as HTML: overview, curves, learning rates, time, checkpoints, hyperparameters, environment."""

from __future__ import annotations

from collections.abc import Sequence

from fulmen.report.groups import CURVES, DEVICE, RATES, Group
from fulmen.report.run_folder import Run, Timeline
from fulmen.report.tables import compared, duration, moment, number, row, share, size, table, text

_REST = "everything else"
_MANY_CHARTS = 6


def overview(runs: Sequence[Run], groups: Sequence[Group]) -> str:
    """A card for each run, the first chart, and the last and best values of all metrics."""
    cards = "".join(_card(run, at, len(runs) > 1) for at, run in enumerate(runs))
    chart = '<div class="first" data-charts="first"></div>' if groups else ""
    return f'<div class="grid">{cards}{chart}</div><h2>Values</h2><div class="card">{_values(runs, groups)}</div>'


def _card(run: Run, at: int, several: bool) -> str:
    facts = [("steps", number(run.last_step + 1) if run.last_step >= 0 else "none yet", "")]
    ends = run.metrics.epoch_ends()
    if ends:
        facts.append(("epochs", number(ends[-1][1]), ""))
    if run.started is not None:
        facts.append(("started", moment(run.started), ""))
    if run.last_row is not None:
        after = f"{duration((run.last_row - run.started).total_seconds())} after the start" if run.started else ""
        facts.append(("last row", moment(run.last_row), after))
    best = next((file for file in run.checkpoints if file.best), None)
    count = f"{len(run.checkpoints)}"
    facts.append(("checkpoints", count, f"best: {best.score}" if best else ""))
    if "device" in run.environment:
        facts.append(("device", run.environment["device"], ""))
    items = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}{f'<small>{text(more)}</small>' if more else ''}</dd></div>"
        for name, value, more in facts
    )
    dot = f'<span class="dot" style="background:var(--s{at % 8})"></span>' if several else ""
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in run.notes)
    return (
        f'<article class="card"><h3>{dot}{text(run.label)}</h3><p class="sub">{text(run.path.resolve())}</p>'
        f'<dl class="facts">{items}</dl>{notes}</article>'
    )


def _values(runs: Sequence[Run], groups: Sequence[Group]) -> str:
    names = [name for group in groups for name in group.names]
    if not names:
        return '<p class="empty">No values have been logged yet.</p>'
    rows = []
    for name in names:
        for at, run in enumerate(runs):
            series = run.series.get(name)
            if series is None:
                continue
            finite, cells = series.finite, [number(len(series.values))]
            if finite:
                step_low, low = min(finite, key=lambda point: point[1])
                step_high, high = max(finite, key=lambda point: point[1])
                cells.append(number(finite[-1][1]))
                cells += [
                    f"{number(value)}<br><small>step {number(step)}</small>"
                    for value, step in ((low, step_low), (high, step_high))
                ]
            else:
                cells += ["not finite"] * 3
            if bad := len(series.values) - len(finite):
                cells[0] += f"<br><small>{bad} not finite</small>"
            dot = f'<span class="dot" style="background:var(--s{at % 8})"></span> '
            label = f"{text(name)}<br><small>{dot}{text(run.label)}</small>" if len(runs) > 1 else text(name)
            rows.append(row(label, cells, numbers=True))
    return table("What was logged", ["metric", "values", "last", "lowest", "highest"], rows, numbers=(1, 2, 3, 4))


def curves(groups: Sequence[Group]) -> str:
    """Charts of everything that is neither a learning rate nor a device's state."""
    return _charts(groups, CURVES, "No metric has been logged yet.")


def rates(groups: Sequence[Group]) -> str:
    """Charts of the learning rates."""
    missing = "No learning rate was logged. Add the callback: `Trainer(callbacks=[LearningRateMonitor()])`."
    return _charts(groups, RATES, missing)


def device(groups: Sequence[Group]) -> str:
    """Charts of what DeviceStatsMonitor logged."""
    return _charts(groups, DEVICE, "Nothing was logged about the device.")


def _charts(groups: Sequence[Group], part: str, missing: str) -> str:
    count = sum(group.part == part for group in groups)
    if not count:
        return f'<p class="empty">{text(missing)}</p>'
    search = (
        '<label>find <input type="search" data-filter placeholder="metric"></label>' if count > _MANY_CHARTS else ""
    )
    return (
        '<div class="tools"><label>x axis <select data-option="x"><option value="step">steps</option>'
        '<option value="epoch">epochs</option></select></label>'
        '<label>smoothing <input type="range" min="0" max="0.99" step="0.01" value="0" data-option="smooth">'
        "<output>0.00</output></label>"
        f'<label><input type="checkbox" data-option="log"> logarithmic</label>'
        f'<label><input type="checkbox" data-option="outliers" checked> cut outliers off</label>{search}</div>'
        f'<div class="grid" data-charts="{part}"></div>'
    )


def time(runs: Sequence[Run]) -> str:
    """Where each run's time went."""
    pieces = [_timeline(run, run.timeline) for run in runs if run.timeline is not None]
    without = [run.label for run in runs if run.timeline is None]
    if without:
        pieces.append(
            f'<p class="empty">No time split for {text(", ".join(without))}: its file, timeline.json, is written at the '
            "end of a training with CSVLogger(notes=True).</p>"
        )
    return "".join(pieces)


def _timeline(run: Run, timeline: Timeline) -> str:
    whole = max(timeline.wall_seconds, sum(timeline.parts.values()), 1e-12)
    parts = sorted(timeline.parts.items(), key=lambda part: -part[1])
    rest = timeline.rest
    if rest > 0.0005 * whole and _REST not in timeline.parts:
        parts.append((_REST, rest))
    bar, rows = [], []
    for at, (name, seconds) in enumerate(parts):
        colour = "var(--line)" if name == _REST else f"var(--s{at % 8})"
        part = seconds / whole
        shown = share(part)
        title = f"{name}: {duration(seconds)}, {shown}"
        bar.append(f'<span style="width:{100 * part:.3f}%;background:{colour}" title="{text(title)}"></span>')
        meter = f'<span class="meter"><i style="width:{100 * part:.2f}%;background:{colour}"></i></span><span class="share">{text(shown)}</span>'
        per_step = f"{1e3 * seconds / timeline.steps:.3g} ms" if timeline.steps else ""
        swatch = f'<span class="swatch" style="background:{colour}"></span>'
        rows.append(row(swatch + text(name), [meter, duration(seconds), per_step], numbers=True))
    speed = f", {number(timeline.steps / timeline.wall_seconds)} steps a second" if timeline.wall_seconds > 0 else ""
    caption = f"{duration(timeline.wall_seconds)} for {timeline.steps} steps{speed}"
    head = ["part", "share", "time", "per step"]
    return (
        f'<div class="card" style="margin-bottom:18px"><h3>{text(run.label)}</h3>'
        f'<div class="split" role="img" aria-label="Shares of the time; the table below has them">{"".join(bar)}</div>'
        f"{table(caption, head, rows, numbers=(1, 2, 3))}</div>"
    )


def checkpoints(runs: Sequence[Run]) -> str:
    """The checkpoint files of each run."""
    pieces = []
    for run in runs:
        if not run.checkpoints:
            folder = run.path / "checkpoints"
            pieces.append(f'<p class="empty">{text(run.label)} has no checkpoints in {text(folder)}.</p>')
            continue
        rows = []
        for file in reversed(run.checkpoints):
            tag = f'<span class="tag">best: {text(file.score)}</span>' if file.best else ""
            values = ", ".join(f"{name} {value}" for name, value in file.values.items())
            rows.append(row(text(file.name) + tag, [text(values), size(file.size), moment(file.written)]))
        head = ["file", "its name says", "size", "written"]
        caption = f"{run.label}: {len(rows)} in {run.path / 'checkpoints'}, newest first"
        pieces.append(f'<div class="card" style="margin-bottom:18px">{table(caption, head, rows)}</div>')
    return "".join(pieces)


def hyperparameters(runs: Sequence[Run]) -> str:
    """The hyperparameters, run beside run."""
    if not any(run.hparams for run in runs):
        missing = "No hyperparameters were logged. Call `self.save_hyperparameters()` in the module's `__init__`."
        return f'<p class="empty">{text(missing)}</p>'
    return _beside("Hyperparameters, from hparams.yaml", runs, [run.hparams for run in runs])


def environment(runs: Sequence[Run]) -> str:
    """What the runs ran on."""
    if not any(run.environment for run in runs):
        missing = (
            "Nothing is known: environment.json, which CSVLogger(notes=True) writes with the first row, is not there."
        )
        return f'<p class="empty">{text(missing)}</p>'
    return _beside("Environment, from environment.json", runs, [run.environment for run in runs])


def _beside(caption: str, runs: Sequence[Run], values: Sequence[dict[str, str]]) -> str:
    only = (
        '<div class="tools"><label><input type="checkbox" data-differences> only what differs</label></div>'
        if len(runs) > 1
        else ""
    )
    return f'{only}<div class="card">{compared(caption, runs, values)}</div>'
