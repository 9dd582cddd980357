"""The parts of rich's bar: its columns, and a display that is redrawn when it is time to, or writes plain lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from math import isfinite
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.style import Style
from rich.text import Text

from fulmen.callbacks.progress.pace import LinePace, LivePace, clock, plain_line

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

CustomBarColumn = BarColumn
"""rich's own column: it knows tasks of unknown length."""


class CustomProgress(Progress):
    """rich's display, redrawn by `refresh` at a bounded rate, or plain lines where the console is no terminal.

    Args:
        args: columns.
        kwargs: rich's arguments.

    Attributes:
        next_draw: time, on the clock of ``time.perf_counter``, before which `refresh` does nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        console = self.console
        live = console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal)
        self._pace: LivePace | LinePace = LivePace() if live else LinePace()
        self._silent = self.disable
        self._last_line = ""
        if not live:
            # tasks are kept all the same; rich must not draw them
            self.disable = True

    @property
    def next_draw(self) -> float:
        """When it makes sense to refresh the display."""
        return self._pace.next_draw

    def share_pace(self, lines: LinePace) -> None:
        """Let all displays of a run write their lines, if lines they are, at one pace."""
        if isinstance(self._pace, LinePace):
            self._pace = lines

    def refresh(self) -> None:
        """Draw, or write a line, if it is time to."""
        if perf_counter() >= self._pace.next_draw:
            self.draw()

    def draw(self) -> None:
        """Draw now; write a line if it is time to."""
        if isinstance(self._pace, LinePace):
            self._write_line(self._pace, at_end=False)
            return
        began = perf_counter()
        super().refresh()
        self._pace.drew(began)

    def end_epoch(self) -> None:
        """The bar stands at an epoch's end: show it if it is time to."""
        if isinstance(self._pace, LinePace):
            self._write_line(self._pace, at_end=True)
        else:
            self.refresh()

    def stop(self) -> None:
        """Leave the display as it is now; as a last line where there are lines."""
        if isinstance(self._pace, LinePace):
            self._write_line(self._pace, at_end=True, anyway=True)
        super().stop()

    def add_task(
        self,
        description: str,
        start: bool = True,
        total: float | None = 100.0,
        completed: int = 0,
        visible: bool = True,
        **fields: Any,
    ) -> TaskID:
        """Add a bar; ``total`` may be infinite."""
        return super().add_task(description, start, finite(total), completed, visible, **fields)

    def _write_line(self, pace: LinePace, at_end: bool, anyway: bool = False) -> None:
        shown = [task for task in self.tasks if task.visible and task.completed]
        if self._silent or not shown or not (anyway or pace.is_due(at_end)):
            return
        # a validation within fit comes after the training's bar, and is what is going on
        task = shown[-1]
        metrics = next((column.text for column in self.columns if isinstance(column, MetricsTextColumn)), "")
        state = f"{task.description} {task.completed}/{task.total} {metrics}"
        if state == self._last_line:
            return
        self._last_line = state
        fit_left = next((column.seconds(task) for column in self.columns if isinstance(column, FitLeftColumn)), None)
        description = Text.from_markup(task.description).plain
        line = plain_line(description, task.completed, task.total, task.elapsed or 0.0, metrics, fit_left)
        print(line, file=self.console.file, flush=True)
        pace.wrote(line, task.completed / task.elapsed if task.elapsed else 0.0)


class CustomTimeColumn(ProgressColumn):
    """Elapsed and remaining time."""

    # twice a second, so that the numbers do not jitter
    max_refresh = 0.5

    def __init__(self, style: str | Style) -> None:
        self.style = style
        super().__init__()

    def render(self, task: Task) -> Text:
        """The column's text."""
        elapsed = task.finished_time if task.finished else task.elapsed
        return Text(f"{_clock(elapsed)} • {_clock(task.time_remaining)}", style=self.style)


class FitLeftColumn(ProgressColumn):
    """Time until the end of the whole fit, on the training's line.

    Args:
        left: the seconds for a task; None: not known, or not the training's.
        style: style of the text.
    """

    # twice a second, so that the numbers do not jitter
    max_refresh = 0.5

    def __init__(self, left: Callable[[Task], float | None], style: str | Style) -> None:
        self.seconds = left
        self._style = style
        super().__init__()

    def render(self, task: Task) -> Text:
        """The column's text."""
        seconds = self.seconds(task)
        return Text() if seconds is None else Text(f"fit {clock(seconds)}", style=self._style)


class BatchesProcessedColumn(ProgressColumn):
    """Batches done, and in all."""

    def __init__(self, style: str | Style) -> None:
        self.style = style
        super().__init__()

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text(f"{int(task.completed)}/{'--' if task.total is None else int(task.total)}", style=self.style)


class ProcessingSpeedColumn(ProgressColumn):
    """Batches per second."""

    def __init__(self, style: str | Style) -> None:
        self.style = style
        super().__init__()

    def render(self, task: Task) -> Text:
        """The column's text."""
        # rich counts from one drawing to the next: there may have been one only
        overall = task.completed / task.elapsed if task.elapsed else 0.0
        return Text(f"{task.finished_speed or task.speed or overall:.2f}it/s", style=self.style)


class MetricsTextColumn(ProgressColumn):
    """The metrics, on the training's line.

    Args:
        trainer: the trainer.
        style: style of the text.
        text_delimiter: what stands between two metrics.
        metrics_format: how numbers are formatted.
    """

    def __init__(self, trainer: Trainer, style: str | Style, text_delimiter: str, metrics_format: str) -> None:
        self._trainer = trainer
        self._style = style
        self._text_delimiter = text_delimiter
        self._metrics_format = metrics_format
        self._metrics: dict[str, Any] = {}
        super().__init__()

    def update(self, metrics: dict[str, Any]) -> None:
        """Show these from now on: name to value."""
        self._metrics = metrics

    @property
    def text(self) -> str:
        """The metrics as text."""
        return self._text_delimiter.join(self._generate_metrics_texts())

    def render(self, task: Task) -> Text:
        """The column's text: empty unless the task is the training's."""
        trainer = self._trainer
        train_bar = getattr(trainer.progress_bar_callback, "train_progress_bar_id", None)
        if trainer.state.fn != "fit" or trainer.sanity_checking or task.id != train_bar:
            return Text()
        return Text(self.text, justify="left", style=self._style)

    def _generate_metrics_texts(self) -> Iterator[str]:
        for name, value in self._metrics.items():
            text = value
            if isinstance(value, int):
                # a version or a count
                text = str(value)
            elif not isinstance(value, str):
                try:
                    text = format(value, self._metrics_format)
                except (TypeError, ValueError):
                    text = str(value)
            yield f"{name}: {text}"


def finite(total: float | None) -> float | None:
    """A total as rich wants it: None where the number of batches is not known."""
    return total if total is not None and isfinite(total) else None


def _clock(seconds: float | None) -> str:
    return "-:--:--" if seconds is None else str(timedelta(seconds=int(seconds)))
