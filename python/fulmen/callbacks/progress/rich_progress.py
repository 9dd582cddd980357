"""The progress bar of rich."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fulmen import errors
from fulmen.callbacks.callback import ignores_outputs
from fulmen.callbacks.progress.progress_bar import ProgressBar
from fulmen.utilities.imports import requirement_available

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Task, TaskID
    from rich.style import Style

    from fulmen.callbacks.progress.rich_columns import CustomProgress, MetricsTextColumn
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer

_DRAW_SECONDS = 0.1
_RICH_NAMES = (
    "BatchesProcessedColumn",
    "CustomBarColumn",
    "CustomProgress",
    "CustomTimeColumn",
    "MetricsTextColumn",
    "ProcessingSpeedColumn",
)


@dataclass
class RichProgressBarTheme:
    """How the parts of a `RichProgressBar` look: styles of rich, as text or objects.

    Args:
        description: what is going on: ``Epoch 3``.
        progress_bar: the bar.
        progress_bar_finished: the bar of a finished epoch.
        progress_bar_pulse: the bar where the number of batches is not known.
        batch_progress: ``12/90``.
        time: times elapsed and left.
        processing_speed: batches per second.
        metrics: the metrics.
        metrics_text_delimiter: what stands between two metrics; no style.
        metrics_format: format of numbers; no style.
    """

    description: str | Style = ""
    progress_bar: str | Style = "#6206E0"
    progress_bar_finished: str | Style = "#6206E0"
    progress_bar_pulse: str | Style = "#6206E0"
    batch_progress: str | Style = ""
    time: str | Style = "dim"
    processing_speed: str | Style = "dim underline"
    metrics: str | Style = "italic"
    metrics_text_delimiter: str = " "
    metrics_format: str = ".3f"


class RichProgressBar(ProgressBar):
    """Bars of rich on the terminal: epoch, batches, time elapsed and left, speed, metrics.

    A bar is drawn at most ten times a second, whatever ``refresh_rate`` is. When the output is no terminal, there are
    plain lines instead, without control characters: one every five seconds at most, one at an epoch's end at most.

    Args:
        refresh_rate: drawings per second at most; 0: no bar.
        leave: leave every epoch's bar on the terminal.
        theme: how it looks.
        console_kwargs: arguments of rich's ``Console``.

    Raises:
        ModuleNotFoundError: rich is not installed.
    """

    def __init__(
        self,
        refresh_rate: int = 100,
        leave: bool = False,
        theme: RichProgressBarTheme = RichProgressBarTheme(),  # noqa: B008 (nothing changes it)
        console_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if not requirement_available("rich>=10.2.2"):
            raise errors.missing_package("rich", "RichProgressBar")
        super().__init__()
        self.theme = theme
        self.progress: CustomProgress | None = None
        self._refresh_rate = refresh_rate
        self._leave = leave
        self._console_kwargs = console_kwargs or {}
        self._console: Console | None = None
        self._metric_component: MetricsTextColumn | None = None
        self._enabled = True
        self._progress_stopped = False
        self._next_draw = 0.0
        self._batches_done = 0
        self._train_total: int | float = 0
        self._reset_progress_bar_ids()

    def __getstate__(self) -> dict[str, Any]:
        # displays hold locks and files
        return {**vars(self), "progress": None, "_console": None, "_metric_component": None}

    # ---- properties --------------------------------------------------------------------------------------------------

    @property
    def refresh_rate(self) -> float:
        """Drawings per second, at most."""
        return self._refresh_rate

    @property
    def is_enabled(self) -> bool:
        """Whether bars are shown."""
        return self._enabled and self.refresh_rate > 0

    @property
    def is_disabled(self) -> bool:
        """Whether bars are not shown."""
        return not self.is_enabled

    def disable(self) -> None:
        """Show no bars from now on."""
        self._enabled = False

    def enable(self) -> None:
        """Show bars again."""
        self._enabled = True

    @property
    def train_progress_bar(self) -> Task:
        """The training's bar."""
        return self._task(self.train_progress_bar_id)

    @property
    def val_sanity_check_bar(self) -> Task:
        """The sanity check's bar."""
        return self._task(self.val_sanity_progress_bar_id)

    @property
    def val_progress_bar(self) -> Task:
        """The validation's bar."""
        return self._task(self.val_progress_bar_id)

    @property
    def test_progress_bar(self) -> Task:
        """The test's bar."""
        return self._task(self.test_progress_bar_id)

    def _task(self, task_id: TaskID | None) -> Task:
        assert self.progress is not None
        assert task_id is not None
        return self.progress.tasks[task_id]

    # ---- the display -------------------------------------------------------------------------------------------------

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """The columns of rich before the metrics. Override it to show others."""
        from rich.progress import BarColumn, TextColumn

        from fulmen.callbacks.progress import rich_columns

        theme = self.theme
        return [
            TextColumn("[progress.description]{task.description}"),
            BarColumn(
                complete_style=theme.progress_bar,
                finished_style=theme.progress_bar_finished,
                pulse_style=theme.progress_bar_pulse,
            ),
            rich_columns.BatchesProcessedColumn(style=theme.batch_progress),
            rich_columns.CustomTimeColumn(style=theme.time),
            rich_columns.ProcessingSpeedColumn(style=theme.processing_speed),
        ]

    def _init_progress(self, trainer: Trainer) -> None:
        if self.is_disabled or (self.progress is not None and not self._progress_stopped):
            return
        from rich import get_console, reconfigure

        from fulmen.callbacks.progress.rich_columns import CustomProgress, FitLeftColumn, MetricsTextColumn

        self._reset_progress_bar_ids()
        if self._console_kwargs:
            reconfigure(**self._console_kwargs)
        self._console = get_console()
        theme = self.theme
        self._metric_component = MetricsTextColumn(
            trainer, theme.metrics, theme.metrics_text_delimiter, theme.metrics_format
        )
        self.progress = CustomProgress(
            *self.configure_columns(trainer),
            FitLeftColumn(self._fit_left, theme.time),
            self._metric_component,
            # drawn when a batch ends: no thread that competes with the training
            auto_refresh=False,
            console=self._console,
            get_time=perf_counter,
        )
        self.progress.share_pace(self._lines)
        self.progress.start()
        self._progress_stopped = False

    def _fit_left(self, task: Task) -> float | None:
        if self._trainer is None or task.id != self.train_progress_bar_id:
            return None
        return self._fit_eta.left(self._trainer, int(task.completed))

    def _stop_progress(self) -> None:
        if self.progress is not None and not self._progress_stopped:
            self.progress.stop()
            self._progress_stopped = True

    def _reset_progress_bar_ids(self) -> None:
        self.train_progress_bar_id: TaskID | None = None
        self.val_sanity_progress_bar_id: TaskID | None = None
        self.val_progress_bar_id: TaskID | None = None
        self.test_progress_bar_id: TaskID | None = None
        self.predict_progress_bar_id: TaskID | None = None

    def refresh(self, hard: bool = False) -> None:
        """Draw the bars if it is time to.

        Args:
            hard: draw them in any case.
        """
        if self.progress is not None:
            if hard:
                self.progress.draw()
            else:
                self.progress.refresh()

    def _begin(self, task_id: TaskID | None, total: int | float, description: str) -> TaskID | None:
        """Show a task from 0: a new one, or one that was used before."""
        if self.progress is None:
            return None
        from fulmen.callbacks.progress.rich_columns import finite

        if self.theme.description:
            description = f"[{self.theme.description}]{description}"
        if task_id is None:
            return self.progress.add_task(description, total=total)
        self.progress.reset(task_id, description=description, visible=True)
        # `reset` takes None for "as before"
        self.progress._tasks[task_id].total = finite(total)
        return task_id

    def _hide(self, task_id: TaskID | None) -> None:
        if self.progress is not None and task_id is not None:
            self.progress.update(task_id, visible=False)
            self.refresh()

    def _update(self, progress_bar_id: TaskID | None, current: int, visible: bool = True, hard: bool = False) -> None:
        if self.progress is not None and self.is_enabled and progress_bar_id is not None:
            self.progress.update(progress_bar_id, completed=current, visible=visible)
            self.refresh(hard=hard)
            self._next_draw = self._next_time(self.progress)

    def _next_time(self, progress: CustomProgress) -> float:
        return max(perf_counter() + max(_DRAW_SECONDS, 1 / self.refresh_rate), getattr(progress, "next_draw", 0.0))

    def _update_metrics(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.is_enabled and self._metric_component is not None:
            self._metric_component.update(self.get_metrics(trainer, pl_module))

    def _get_train_description(self, current_epoch: int) -> str:
        last = "" if self.trainer.max_epochs is None else f"/{self.trainer.max_epochs - 1}"
        # as wide as the validation's one, so that the bars stand in one column
        return f"Epoch {current_epoch}{last}".ljust(len(self.validation_description))

    # ---- training ----------------------------------------------------------------------------------------------------

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the display."""
        self._init_progress(trainer)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hide the sanity check's bar."""
        self._hide(self.val_sanity_progress_bar_id)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the display."""
        self._fit_eta.start(trainer)
        self._init_progress(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the training's bar to 0, on a new display if the last epoch's is to be left."""
        if self.is_disabled:
            return
        if self._leave and self.train_progress_bar_id is not None:
            self._stop_progress()
            self._init_progress(trainer)
        self._begin_epoch(trainer)

    def _begin_epoch(self, trainer: Trainer) -> None:
        self._batches_done = 0
        self._train_total = self.total_train_batches
        description = self._get_train_description(trainer.current_epoch)
        self.train_progress_bar_id = self._begin(self.train_progress_bar_id, self._train_total, description)

    def _idle(self, hook: str, trainer: Trainer) -> bool:
        # drawn by the clock (`_wake`), unless a subclass wants to see every batch
        return hook == "on_train_batch_end" and self._draws_by_clock()

    def _draws_by_clock(self) -> bool:
        return type(self).on_train_batch_end is RichProgressBar.on_train_batch_end

    def _wake(self, trainer: Trainer, pl_module: LightningModule) -> float | None:
        if not self._draws_by_clock():
            return None
        self.on_train_batch_end(trainer, pl_module, None, None, trainer.fit_loop.batch_idx)
        return self._next_draw

    @ignores_outputs
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the training's bar."""
        self._batches_done = batch_idx + 1
        if perf_counter() < self._next_draw:
            if batch_idx + 1 == self._train_total and self.progress is not None:
                # not drawn, but noted: what follows the last batch is not to count for the speed
                self._set_done()
            return
        if self.is_disabled:
            return
        if self.train_progress_bar_id is None:
            # an epoch that was resumed in its middle
            self._begin_epoch(trainer)
            self._batches_done = batch_idx + 1
        self._update_metrics(trainer, pl_module)
        self._update(self.train_progress_bar_id, self._batches_done)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the epoch's values."""
        self._update_metrics(trainer, pl_module)
        if self.progress is None or self.is_disabled or self.train_progress_bar_id is None:
            return
        self._set_done()
        self.progress.end_epoch()

    def _set_done(self) -> None:
        if self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(self.train_progress_bar_id, completed=self._batches_done)

    # ---- evaluation --------------------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the display."""
        self._init_progress(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Set the validation's (or sanity check's) bar to 0 when a loader begins."""
        if self.is_disabled or not self.has_dataloader_changed(dataloader_idx):
            return
        total = self.total_val_batches_current_dataloader
        if trainer.sanity_checking:
            bar = self.val_sanity_progress_bar_id
            self.val_sanity_progress_bar_id = self._begin(bar, total, self.sanity_check_description)
        else:
            self.val_progress_bar_id = self._begin(self.val_progress_bar_id, total, self.validation_description)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the validation's (or sanity check's) bar."""
        bar = self.val_sanity_progress_bar_id if trainer.sanity_checking else self.val_progress_bar_id
        self._advance(bar, batch_idx + 1)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hide the validation's bar within fit."""
        if trainer.state.fn == "fit":
            self._hide(self.val_progress_bar_id)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the validation's values at the training's bar."""
        if trainer.state.fn == "fit":
            self._update_metrics(trainer, pl_module)
            self.refresh()
        self.reset_dataloader_idx_tracker()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the display."""
        self._init_progress(trainer)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Set the test's bar to 0 when a loader begins."""
        if self.is_enabled and self.has_dataloader_changed(dataloader_idx):
            total = self.total_test_batches_current_dataloader
            self.test_progress_bar_id = self._begin(self.test_progress_bar_id, total, self.test_description)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the test's bar."""
        self._advance(self.test_progress_bar_id, batch_idx + 1)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the loader at hand."""
        self.reset_dataloader_idx_tracker()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the display."""
        self._init_progress(trainer)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Set the prediction's bar to 0 when a loader begins."""
        if self.is_enabled and self.has_dataloader_changed(dataloader_idx):
            total = self.total_predict_batches_current_dataloader
            self.predict_progress_bar_id = self._begin(self.predict_progress_bar_id, total, self.predict_description)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the prediction's bar."""
        self._advance(self.predict_progress_bar_id, batch_idx + 1)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the loader at hand."""
        self.reset_dataloader_idx_tracker()

    def _advance(self, task_id: TaskID | None, done: int) -> None:
        """Move a bar if it is time to draw it, or if it is full."""
        if task_id is None or self.is_disabled or self.progress is None:
            return
        if perf_counter() >= self._next_draw or done == self.progress._tasks[task_id].total:
            self._update(task_id, done)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the display; the bars stay on the terminal."""
        self._stop_progress()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the display, so that the traceback starts on a line of its own, and the cursor is back."""
        if not self._progress_stopped:
            self._set_done()
        self._stop_progress()
        self.reset_dataloader_idx_tracker()


def __getattr__(name: str) -> Any:
    if name == "_RICH_AVAILABLE":
        return requirement_available("rich>=10.2.2")
    if name in _RICH_NAMES:
        # here for those who build bars of their own; rich is imported for them only
        from fulmen.callbacks.progress import rich_columns

        return getattr(rich_columns, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
