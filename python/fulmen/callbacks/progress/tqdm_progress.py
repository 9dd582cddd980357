"""The progress bar of tqdm."""

from __future__ import annotations

import math
import os
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from fulmen.callbacks.callback import ignores_outputs
from fulmen.callbacks.progress.pace import is_notebook
from fulmen.callbacks.progress.progress_bar import ProgressBar

if TYPE_CHECKING:
    from tqdm import tqdm

    from fulmen.callbacks.progress.tqdm_bar import Tqdm
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer

    _tqdm: TypeAlias = tqdm[Any]

_BARS = ("_train_progress_bar", "_val_progress_bar", "_test_progress_bar", "_predict_progress_bar")
_DRAW_SECONDS = 0.1


class TQDMProgressBar(ProgressBar):
    """Bars of tqdm on stdout: for the sanity check, the training epoch, validation, test and prediction.

    A bar is drawn at most ten times a second, whatever ``refresh_rate`` is. When stdout is no terminal, there are plain
    lines instead, without control characters: one every five seconds at most, one at an epoch's end at most. In a notebook a
    validation within fit has no bar of its own: the training's says that it is going on.

    To change a bar, override ``init_train_tqdm`` (or ``init_sanity_tqdm``, ``init_validation_tqdm``,
    ``init_test_tqdm``, ``init_predict_tqdm``): change what the base method returns, or return another tqdm bar.

    Args:
        refresh_rate: draw at batches whose number is a multiple of it only; 0: no bar. The variables of the environment
            ``TQDM_MINITERS`` (a lower bound) and ``COLAB_GPU`` (1 becomes 20) have a say.
        process_position: lines by which the bars are moved down, for other bars of the program.
        leave: leave every epoch's bar on the terminal.
    """

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"

    def __init__(self, refresh_rate: int = 1, process_position: int = 0, leave: bool = False) -> None:
        super().__init__()
        self._refresh_rate = self._resolve_refresh_rate(refresh_rate)
        self._process_position = process_position
        self._leave = leave
        self._enabled = True
        self._next_draw = 0.0
        self._says_validating = False
        self._train_progress_bar: _tqdm | None = None
        self._val_progress_bar: _tqdm | None = None
        self._test_progress_bar: _tqdm | None = None
        self._predict_progress_bar: _tqdm | None = None

    def __getstate__(self) -> dict[str, Any]:
        # bars hold locks and files
        return {**vars(self), **dict.fromkeys(_BARS)}

    # ---- properties --------------------------------------------------------------------------------------------------

    @property
    def train_progress_bar(self) -> _tqdm:
        """The training's bar; TypeError before there is one."""
        return self._existing("_train_progress_bar")

    @train_progress_bar.setter
    def train_progress_bar(self, bar: _tqdm) -> None:
        self._train_progress_bar = bar

    @property
    def val_progress_bar(self) -> _tqdm:
        """The validation's bar; TypeError before there is one."""
        return self._existing("_val_progress_bar")

    @val_progress_bar.setter
    def val_progress_bar(self, bar: _tqdm) -> None:
        self._val_progress_bar = bar

    @property
    def test_progress_bar(self) -> _tqdm:
        """The test's bar; TypeError before there is one."""
        return self._existing("_test_progress_bar")

    @test_progress_bar.setter
    def test_progress_bar(self, bar: _tqdm) -> None:
        self._test_progress_bar = bar

    @property
    def predict_progress_bar(self) -> _tqdm:
        """The prediction's bar; TypeError before there is one."""
        return self._existing("_predict_progress_bar")

    @predict_progress_bar.setter
    def predict_progress_bar(self, bar: _tqdm) -> None:
        self._predict_progress_bar = bar

    def _existing(self, name: str) -> _tqdm:
        bar: _tqdm | None = getattr(self, name)
        if bar is None:
            raise TypeError(
                f"The `{type(self).__name__}.{name}` reference has not been set yet: the bar exists from its stage on."
            )
        return bar

    @property
    def refresh_rate(self) -> int:
        """Batches between two drawings, at least."""
        return self._refresh_rate

    @property
    def process_position(self) -> int:
        """Lines by which the bars are moved down."""
        return self._process_position

    @property
    def is_enabled(self) -> bool:
        """Whether bars are shown."""
        return self._enabled and self.refresh_rate > 0

    @property
    def is_disabled(self) -> bool:
        """Whether bars are not shown."""
        return not self.is_enabled

    def disable(self) -> None:
        """Show no bars from the next stage on."""
        self._enabled = False

    def enable(self) -> None:
        """Show bars again."""
        self._enabled = True

    # ---- the bars ----------------------------------------------------------------------------------------------------

    def init_sanity_tqdm(self) -> Tqdm:
        """Make the sanity check's bar."""
        return self._make(self.sanity_check_description, leave=False)

    def init_train_tqdm(self) -> Tqdm:
        """Make the training's bar, which also says how long the whole fit will take."""
        bar_format = self.BAR_FORMAT.replace("{remaining}", "{remaining}{fit_left}", 1)
        bar = self._make(self.train_description, leave=True, bar_format=bar_format, smoothing=0)
        bar.fit_left = lambda: self._fit_eta.left(self.trainer, int(bar.n))
        return bar

    def init_validation_tqdm(self) -> Tqdm:
        """Make a validation's bar; within fit it stands below the training's one and vanishes in the end.

        In a notebook it is a hidden one then: nothing can be drawn there on two lines.
        """
        within_fit = self.trainer.state.fn != "validate"
        if within_fit and is_notebook(sys.stdout):
            from fulmen.callbacks.progress.tqdm_bar import Tqdm

            return Tqdm(disable=True)
        return self._make(self.validation_description, leave=not within_fit, below=int(within_fit))

    def init_test_tqdm(self) -> Tqdm:
        """Make the test's bar."""
        return self._make(self.test_description, leave=True)

    def init_predict_tqdm(self) -> Tqdm:
        """Make the prediction's bar."""
        return self._make(self.predict_description, leave=True, smoothing=0)

    def _make(self, description: str, leave: bool, below: int = 0, **kwargs: Any) -> Tqdm:
        from fulmen.callbacks.progress.tqdm_bar import Tqdm

        bar = Tqdm(
            desc=description,
            position=2 * self.process_position + below,
            disable=self.is_disabled,
            leave=leave,
            dynamic_ncols=True,
            file=sys.stdout,
            **{"bar_format": self.BAR_FORMAT, **kwargs},
        )
        bar.share_pace(self._lines)
        return bar

    def _restart(self, bar: _tqdm, total: int | float, description: str) -> None:
        bar.reset()
        bar.total = convert_inf(total)
        bar.initial = 0
        bar.set_description(description, refresh=False)

    def _advance(self, bar: _tqdm | None, done: int) -> bool:
        """Move a bar; True if it is to be drawn. This runs for every batch."""
        if bar is None or bar.disable or not self._should_update(done, bar.total):
            return False
        bar.n = done
        return perf_counter() >= self._next_draw

    def _should_update(self, current: int, total: int | float | None) -> bool:
        rate = self._refresh_rate
        return self._enabled and rate > 0 and (current % rate == 0 or current == total)

    def _drew(self, bar: _tqdm) -> None:
        self._next_draw = max(perf_counter() + _DRAW_SECONDS, getattr(bar, "next_draw", 0.0))

    def _draw(self, bar: _tqdm) -> None:
        bar.refresh()
        self._drew(bar)

    def _show_metrics(self, bar: _tqdm, trainer: Trainer, pl_module: LightningModule, draw: bool = True) -> None:
        if not bar.disable:
            bar.set_postfix(self.get_metrics(trainer, pl_module), refresh=draw)

    # ---- training ----------------------------------------------------------------------------------------------------

    def on_sanity_check_start(self, *_: Any) -> None:
        """Make the bar of the sanity check, and a hidden one of the training, which is not there yet."""
        from fulmen.callbacks.progress.tqdm_bar import Tqdm

        self.val_progress_bar = self.init_sanity_tqdm()
        self.train_progress_bar = Tqdm(disable=True)

    def on_sanity_check_end(self, *_: Any) -> None:
        """Close the sanity check's bars."""
        self.val_progress_bar.close()
        self.train_progress_bar.close()

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Make the training's bar."""
        self._fit_eta.start(trainer)
        self.train_progress_bar = self.init_train_tqdm()

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Set the training's bar to 0."""
        if self._leave and self.train_progress_bar.disable:
            # the last epoch's bar was closed, and stays; the first epoch takes the one that is there
            self.train_progress_bar = self.init_train_tqdm()
        self._restart(self.train_progress_bar, self.total_train_batches, f"Epoch {trainer.current_epoch}")

    @ignores_outputs
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the training's bar."""
        bar = self._train_progress_bar
        if self._advance(bar, batch_idx + 1):
            assert bar is not None
            self._show_metrics(bar, trainer, pl_module)
            self._drew(bar)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the epoch's values."""
        bar = self.train_progress_bar
        self._show_metrics(bar, trainer, pl_module, draw=False)
        if self._leave:
            bar.close()
        else:
            _end_epoch(bar)

    def on_train_end(self, *_: Any) -> None:
        """Close the training's bar."""
        self.train_progress_bar.close()

    # ---- evaluation --------------------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the validation's bar."""
        if trainer.sanity_checking:
            return
        self.val_progress_bar = self.init_validation_tqdm()
        train = self._train_progress_bar
        if trainer.state.fn == "fit" and train is not None and self.val_progress_bar.disable and not train.disable:
            train.set_description(f"Epoch {trainer.current_epoch}, validating")
            self._says_validating = True

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Set the validation's bar to 0 when a loader begins."""
        if self.has_dataloader_changed(dataloader_idx):
            stage = self.sanity_check_description if trainer.sanity_checking else self.validation_description
            total = self.total_val_batches_current_dataloader
            self._restart(self.val_progress_bar, total, f"{stage} DataLoader {dataloader_idx}")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the validation's bar."""
        if self._advance(self._val_progress_bar, batch_idx + 1):
            self._draw(self.val_progress_bar)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the validation's bar, and show its values at the training's one."""
        self.val_progress_bar.close()
        self.reset_dataloader_idx_tracker()
        if self._train_progress_bar is not None and trainer.state.fn == "fit":
            if self._says_validating:
                self._says_validating = False
                self._train_progress_bar.set_description(f"Epoch {trainer.current_epoch}", refresh=False)
            self._show_metrics(self.train_progress_bar, trainer, pl_module, draw=perf_counter() >= self._next_draw)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the test's bar."""
        self.test_progress_bar = self.init_test_tqdm()

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Set the test's bar to 0 when a loader begins."""
        if self.has_dataloader_changed(dataloader_idx):
            total = self.total_test_batches_current_dataloader
            self._restart(self.test_progress_bar, total, f"{self.test_description} DataLoader {dataloader_idx}")

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
        if self._advance(self._test_progress_bar, batch_idx + 1):
            self._draw(self.test_progress_bar)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the test's bar."""
        self.test_progress_bar.close()
        self.reset_dataloader_idx_tracker()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the prediction's bar."""
        self.predict_progress_bar = self.init_predict_tqdm()

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Set the prediction's bar to 0 when a loader begins."""
        if self.has_dataloader_changed(dataloader_idx):
            total = self.total_predict_batches_current_dataloader
            self._restart(self.predict_progress_bar, total, f"{self.predict_description} DataLoader {dataloader_idx}")

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
        if self._advance(self._predict_progress_bar, batch_idx + 1):
            self._draw(self.predict_progress_bar)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the prediction's bar."""
        self.predict_progress_bar.close()
        self.reset_dataloader_idx_tracker()

    # ---- anything else -----------------------------------------------------------------------------------------------

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close all bars, so that the traceback starts on a line of its own."""
        # the training's bar last: it stands above the others, and ends its line
        for bar in reversed(self._bars()):
            bar.close()
        self.reset_dataloader_idx_tracker()

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Print above the bar; nothing if there is no bar.

        Args:
            args: what to print.
            sep: what to put between.
            kwargs: arguments of ``tqdm.write``: ``file``, ``end``.
        """
        shown = next((bar for bar in self._bars() if not bar.disable), None)
        if shown is not None:
            shown.write(sep.join(map(str, args)), **kwargs)

    def _bars(self) -> list[Any]:
        return [bar for bar in (getattr(self, name) for name in _BARS) if bar is not None]

    @staticmethod
    def _resolve_refresh_rate(refresh_rate: int) -> int:
        if refresh_rate == 1 and os.environ.get("COLAB_GPU"):
            # a notebook in Colab chokes on a bar drawn too often
            return 20
        return max(refresh_rate, int(os.environ.get("TQDM_MINITERS", refresh_rate)))


def convert_inf(x: int | float | None) -> int | float | None:
    """A total as tqdm wants it: None where the number of batches is not known."""
    return None if x is None or math.isinf(x) or math.isnan(x) else x


def _end_epoch(bar: Any) -> None:
    """Draw a bar at an epoch's end: our own ones know whether it is time to, those of users' overrides do not."""
    getattr(bar, "end_epoch", bar.refresh)()


def __getattr__(name: str) -> Any:
    if name == "Tqdm":
        # here for those who subclass it; tqdm is imported for them only
        from fulmen.callbacks.progress.tqdm_bar import Tqdm

        return Tqdm
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
