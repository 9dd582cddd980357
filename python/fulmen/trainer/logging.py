"""`Ledger`: what `self.log` does with a value, who gets to see it when, and the rows that loggers get."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fulmen import errors
from fulmen._core import MetricStore
from fulmen.trainer import logging_state
from fulmen.trainer.device_values import Copy, LateRow, Newest, is_late
from fulmen.trainer.log_writer import RowWriter
from fulmen.trainer.logging_custom import CustomEntry
from fulmen.trainer.logging_entry import Entry, MetricEntry, NumberEntry, SharedEntry, TensorEntry
from fulmen.trainer.logging_rules import CUSTOM, levels, reduction
from fulmen.trainer.logging_sync import Synchroniser
from fulmen.trainer.states import RunningStage
from fulmen.utilities.rank_zero import WarningCache

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer

_warned = WarningCache()
#: Numbers of the two sets of quantities that hooks of the same name may log.
_TRAINING, _EVALUATION = 0, 1


class Ledger:
    """The logged values of a trainer.

    Training has entries of its own, which survive a validation within the epoch; an evaluation's are emptied when the
    next one begins. Nothing is made into tensors before somebody looks.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.rows = RowWriter()
        self._store = MetricStore()
        self._training: dict[tuple[Any, ...], Entry] = {}
        self._evaluation: dict[tuple[Any, ...], Entry] = {}
        self._arguments: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.log_fast = self._store.log
        self.set_training_batch = self._store.set_batch
        self._entries = self._training
        self._stage = RunningStage.TRAINING
        self._current_loader = 0
        self._loaders = 1
        self._epoch_view = False
        self._changed = False
        self._callback: dict[str, Tensor] = {}
        self._logged: dict[str, Tensor] = {}
        self._bar: dict[str, Tensor] = {}
        self._newest = Newest()
        #: a display is drawn between two steps, and must not wait for a device
        self.hurried = False
        self._eval_rows: dict[tuple[RunningStage, int], int] = {}
        self._sync: Synchroniser | None = None
        # entries that came from a file and were not logged since
        self._restored: set[tuple[Any, ...]] = set()
        # who gets rows; None: all loggers
        self._receivers: list[Any] | None = None

    def attach(self, timeline: Any, part: int) -> None:
        """Time spent in `log` belongs to this part of the timeline."""
        self._store.attach(timeline, part)

    @property
    def store(self) -> MetricStore:
        """Where the core keeps values, and the batch in hand."""
        return self._store

    # ---- the loops tell where they are -------------------------------------------------------------------------------

    def start(self, stage: RunningStage) -> None:
        """A block of this stage begins, or goes on."""
        self._look()
        self._stage = stage
        self._entries = self._training if stage is RunningStage.TRAINING else self._evaluation
        self._store.select(_TRAINING if stage is RunningStage.TRAINING else _EVALUATION)
        self._epoch_view = False
        self._loaders, self._current_loader = 1, 0
        self.clear_batch()
        if self._sync is None:
            self._sync = Synchroniser.of(self.trainer)
        if self._sync is not None:
            self._sync.begin_pass()

    def on_epoch_start(self) -> None:
        """A new pass over the data: nothing is accumulated yet."""
        self._look()
        for entry in self._entries.values():
            entry.begin_epoch()
        self._epoch_view = False
        if self._sync is not None:
            self._sync.begin_pass()

    def set_batch(self, batch: Any, batch_idx: int, dataloader_idx: int, num_dataloaders: int) -> None:
        """The batch of an evaluation that hooks now run for."""
        if self._current_loader != dataloader_idx:
            self._look()
        self._store.set_batch(batch, dataloader_idx if num_dataloaders > 1 else None)
        self._loaders = num_dataloaders
        self._current_loader = dataloader_idx
        self._epoch_view = False

    def clear_batch(self) -> None:
        """No batch is in hand."""
        if self._store.loader is not None:
            self._look()
        self._store.clear_batch()

    def end_training_epoch(self) -> None:
        """From here on the training's epoch values can be seen."""
        self._end_epoch()

    def end_eval_epoch(self) -> None:
        """From here on the evaluation's epoch values can be seen."""
        self._end_epoch()

    def _end_epoch(self) -> None:
        self._look()
        self.clear_batch()
        if self._sync is not None:
            self._sync.end(self._entries.values())
            # rows of other processes may have come in
            self._changed = True
            self._look()
        self._epoch_view = self._changed = True
        if self._sync is not None:
            # together, as these objects wait for those of the other processes: a look may come in one process alone
            for entry in self._entries.values():
                if isinstance(entry, MetricEntry) and entry.epoch:
                    entry.compute()

    def begin_run(self) -> None:
        """A run begins, perhaps with another module: nothing that an earlier one logged counts."""
        self._training.clear()
        self._evaluation.clear()
        self._arguments.clear()
        self._store.forget()
        self._restored.clear()
        self._eval_rows.clear()
        self._sync = None
        self.reset_metrics()

    def forget_values(self) -> None:
        """Empties all entries, and metric objects with them, which other ledgers may use later."""
        for entry in (*self._training.values(), *self._evaluation.values()):
            entry.begin_epoch()

    def leave(self) -> None:
        """An exception ends the run."""
        if self._sync is not None:
            self._sync.leave()

    def reset_metrics(self) -> None:
        """Empties what callbacks, loggers and the bar see."""
        self._store.take_changed()
        self._changed = False
        self._callback, self._logged, self._bar = {}, {}, {}

    # ---- self.log ----------------------------------------------------------------------------------------------------

    def log(
        self,
        module: LightningModule,
        name: str,
        value: Any,
        *,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str | Callable[..., Any] = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any | None = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Takes a value in; arguments as for ``LightningModule.log``, which tries the short way, ``log_fast``, before."""
        hook = self.trainer._hook
        key = (hook, name, self._store.loader)
        entry = self._entries.get(key)
        arguments = (prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, sync_dist, sync_dist_group,
                     add_dataloader_idx, metric_attribute, rank_zero_only)  # fmt: skip
        if entry is None or self._arguments[key, id(self._entries)] != arguments:
            entry = self._make(key, module, value, arguments)
        if isinstance(entry, NumberEntry):
            self._store.know(hook, name, entry.slot, entry.weighted, arguments)
        entry.update(self._plain(name, value, entry), self._store.weight(batch_size) if entry.weighted else 1.0)
        self._changed = True

    def _plain(self, name: str, value: Any, entry: Entry) -> Any:
        """The value as its entry wants it: a number, a tensor or a metric object."""
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise errors.value_error(
                    f"self.log({name!r}, value)",
                    f"a tensor with a single element: `self.log({name}, {value})` was called, but the tensor must have a single element",
                    errors.Words(f"one of shape {tuple(value.shape)}"),
                    f"You can try doing `self.log({name!r}, value.mean())`",
                )
            if entry.__class__ is NumberEntry:
                return value.item() if value.device.type == "cpu" else float(value)
            return value
        if isinstance(entry, MetricEntry):
            return value
        number = float(value)
        return number if isinstance(entry, NumberEntry) else torch.tensor(number)

    def _make(self, key: tuple[Any, ...], module: LightningModule, value: Any, arguments: tuple[Any, ...]) -> Entry:
        """A new entry, with everything checked that need not be checked at each call."""
        hook, name, loader = key
        prog_bar, logger, on_step, on_epoch, reduce_fx, graph, sync, group, suffix, metric_attribute, alone = arguments
        _check_value(name, value)
        if self.trainer.predicting:
            raise errors.misconfiguration(
                f"self.log({name!r})",
                "a training, a validation or a test",
                errors.Words(
                    f"a call from `{hook}` of a prediction, where the result collection is not registered yet"
                ),
                "Return the value from `predict_step`, or log in another entry point: `predict` has no metrics",
            )
        step, epoch = levels(hook, name, on_step, on_epoch)
        if "/dataloader_idx_" in name:
            raise errors.misconfiguration(
                "self.log(name)",
                "a name without `/dataloader_idx_`, which is appended by itself",
                name,
                f"You called `self.log` with the key `{name}` but it should not contain information like `dataloader_idx`",
            )
        if key in self._entries and key not in self._restored:
            raise errors.misconfiguration(
                f"self.log({name!r})",
                f"the same arguments at each call from `{hook}`",
                errors.Words(f"others: You called `self.log({name}, ...)` twice in `{hook}` with different arguments"),
                "This is not allowed: use two names, or the same arguments",
            )
        if logger and not self.trainer.loggers:
            _warned.warn(
                f"You called `self.log({name!r}, ..., logger=True)` but have no logger configured. You can enable one by "
                "doing `Trainer(logger=ALogger(...))`"
            )
        metric = _is_metric(value)
        reduced = "mean" if metric else reduction(name, reduce_fx)
        # what only rank 0 logs stays there, and metric objects merge by themselves
        shared = sync and not alone and not metric and self._sync is not None
        names: dict[str, Any] = {
            "name": name, "loader": loader, "suffix": suffix, "step": step, "epoch": epoch, "prog_bar": prog_bar,
            "logger": logger is not False, "weighted": (epoch or shared) and reduced == "mean" and not metric,
        }  # fmt: skip
        if metric:
            _check_attribute(module, name, value, metric_attribute)
        if key in self._restored:
            adopted = logging_state.adopt(self, key, metric, reduce_fx if reduced == CUSTOM else None, arguments, names)
            if adopted is not None:
                return adopted
        if metric:
            entry: Entry = MetricEntry(value, **names)
        elif reduced == CUSTOM:
            entry = CustomEntry(reduce_fx, **names)
            reduced = getattr(reduce_fx, "__qualname__", CUSTOM)
        elif isinstance(value, Tensor) and (graph or value.device.type != "cpu"):
            entry = TensorEntry(self._store, reduced, graph, **names)
        else:
            if isinstance(value, Tensor) and not value.is_floating_point():
                _warned.warn(
                    f"You called `self.log({name!r}, ...)` in your `{hook}` but the value needs to be floating to be "
                    f"reduced. Converting it to {torch.get_default_dtype()}. You can silence this warning by converting "
                    "the value to floating point yourself."
                )
            dtype = (
                value.dtype if isinstance(value, Tensor) and value.is_floating_point() else torch.get_default_dtype()
            )
            entry = NumberEntry(self._store, reduced, dtype is torch.float64, **names)
        if shared:
            assert self._sync is not None
            assert isinstance(entry, SharedEntry)
            entry.synced = self._sync.describe(entry, hook, reduced, group)
        self._entries[key] = entry
        self._arguments[key, id(self._entries)] = arguments
        return entry

    # ---- who sees what -----------------------------------------------------------------------------------------------

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """What callbacks may look at."""
        self._look()
        return self._callback

    @property
    def logged_metrics(self) -> dict[str, Tensor]:
        """What loggers get."""
        self._look()
        return self._logged

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """What the bar shows."""
        self._look()
        if self.hurried:
            return self._newest.look(self._bar)
        return Copy(self._bar).numbers() if any(map(is_late, self._bar.values())) else _items(self._bar)

    def _look(self) -> None:
        """Brings the three views up to date."""
        if not self._store.take_changed() and not self._changed:
            return
        self._changed = False
        device = self.trainer.strategy.root_device
        training = self._entries is self._training
        for entry in self._visible():
            if self._epoch_view:
                value, name = (entry.shown(step=False), entry.epoch_name) if entry.epoch else (None, "")
                seen = True
            else:
                value, name = (entry.shown(step=True), entry.step_name) if entry.step else (None, "")
                seen = training
            if value is None:
                continue
            tensor = entry.tensor(value, device)
            if seen:
                self._callback[name] = tensor
                if entry.both:
                    self._callback[entry.base_name] = tensor
            if entry.logger:
                self._logged[name] = tensor
            if entry.prog_bar:
                self._bar[name] = tensor

    def _visible(self) -> Iterable[Entry]:
        """In an evaluation's step only what belongs to the loader in hand; in the sanity check no loader's own values."""
        everything = self._epoch_view and self._stage is not RunningStage.SANITY_CHECKING
        if everything or self._entries is self._training:
            return self._entries.values()
        return [e for e in self._entries.values() if e.loader == self._store.loader]

    # ---- rows --------------------------------------------------------------------------------------------------------

    def _row(self, by_step: bool) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for entry in self._visible():
            if not entry.logger or not (entry.step if by_step else entry.epoch):
                continue
            value = entry.shown(step=by_step)
            if value is not None:
                row[entry.step_name if by_step else entry.epoch_name] = value
        return row

    @property
    def should_update_logs(self) -> bool:
        """Will the step in hand send a row?"""
        return self.trainer._schedule.log_due

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Sends a row to every logger; those that can wait get it a little later, see `RowWriter`.

        Args:
            metrics: numbers by name.
            step: the x value; None: a metric called "step", or the place on the trainer's ``log_axis``.
        """
        loggers = self.trainer.loggers if self._receivers is None else self._receivers
        if not loggers or not metrics:
            return
        row = LateRow({name: value if is_late(value) else _number(value) for name, value in metrics.items()})
        if step is None:
            own = row.pop("step", None)
            if own is not None:
                step = int(own)
            else:
                row.setdefault("epoch", self.trainer._axis.epoch())
                step = self.trainer._axis.position
        now = self.rows.send(loggers, row, step)
        if now:
            row.arrive()
        for logger in now:
            logger.log_metrics(metrics=dict(row), step=step)
            logger.save()

    @contextmanager
    def sending_to(self, loggers: list[Any]) -> Iterator[None]:
        """Only these get the rows that are sent within this block."""
        self._receivers = loggers
        try:
            yield
        finally:
            self._receivers = None

    def send_step_rows(self) -> None:
        """The values of a training step."""
        if self._sync is not None:
            self._synchronise_row(note=True)
        if self.trainer.loggers:
            self.log_metrics(self._row(by_step=True))

    def _synchronise_row(self, note: bool) -> None:
        assert self._sync is not None
        self._sync.row(self._entries.values(), self._store.loader, note)
        self._changed = True

    def send_eval_step_rows(self) -> None:
        """The values of an evaluation step, on an x axis of their own unless ``log_axis`` is shared."""
        if not self.trainer.loggers:
            return
        key = (self._stage, self._current_loader)
        x = self._eval_rows.get(key, 0)
        self._eval_rows[key] = x + 1
        if self._sync is not None:
            self._synchronise_row(note=False)
        row = self._row(by_step=True)
        if row:
            self.log_metrics(row, step=None if self.trainer._axis.shared else x)

    def send_epoch_rows(self) -> None:
        """The values of an epoch. In training, metric objects start anew after it."""
        self._look()
        self.log_metrics(self._row(by_step=False))
        if self._entries is self._training:
            self._end_metrics()
            self.on_epoch_start()

    def _end_metrics(self) -> None:
        for entry in self._entries.values():
            if isinstance(entry, MetricEntry):
                entry.end_epoch()

    def eval_results(self) -> list[dict[str, float]]:
        """A dict of epoch values per loader; values without a loader are in every dict. Metric objects start anew."""
        self._look()
        shown = [(e, e.shown(step=False)) for e in self._entries.values() if e.epoch and e.logger]
        # one copy for all values on a device
        row = LateRow({str(i): value if is_late(value) else _number(value) for i, (_, value) in enumerate(shown)})
        row.arrive()
        results: list[dict[str, float]] = [{} for _ in range(self._loaders)]
        for (entry, _), value in zip(shown, row.values(), strict=True):
            for index, result in enumerate(results):
                if value is not None and (entry.loader is None or entry.loader == index):
                    result[entry.epoch_name] = value
        self._end_metrics()
        return results


def _items(values: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in values.items()}


def _number(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise errors.value_error(
                "log_metrics", "numbers", errors.Words(f"a tensor of shape {tuple(value.shape)}"), "Reduce it first"
            )
        return value.item()
    return value


def _is_metric(value: Any) -> bool:
    torchmetrics = sys.modules.get("torchmetrics")
    return torchmetrics is not None and isinstance(value, torchmetrics.Metric)


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, (Tensor, float, int)) or _is_metric(value):
        return
    try:
        if not isinstance(value, (str, bytes)):
            float(value)
            return
    except (TypeError, ValueError):
        pass
    raise errors.value_error(
        f"self.log({name!r}, value)",
        "a number, a tensor with one element, or a torchmetrics object",
        value,
        f"`self.log({name}, {value})` was called, but `{type(value).__name__}` values cannot be logged: use `log_dict` for "
        "a flat dict of numbers",
    )


def _check_attribute(module: LightningModule, name: str, metric: Any, attribute: str | None) -> None:
    """A metric object has to be an attribute of the module, so that checkpoints and devices reach it."""
    if attribute is not None:
        return
    if module._metric_attributes is None:
        module._metric_attributes = {id(m): n for n, m in module.named_modules() if _is_metric(m)}
        if not module._metric_attributes:
            raise errors.misconfiguration(
                f"self.log({name!r}, value)",
                "a torchmetrics object that is an attribute of the module: Could not find the `LightningModule` attribute "
                "for the `torchmetrics.Metric` logged",
                metric,
                "You can fix this by setting an attribute for the metric in your `LightningModule`",
            )
    if id(metric) not in module._metric_attributes:
        raise errors.misconfiguration(
            f"self.log({name!r}, value)",
            "a torchmetrics object that is an attribute of the module: Could not find the `LightningModule` attribute "
            "for the `torchmetrics.Metric` logged",
            metric,
            f"You can fix this by calling `self.log({name}, ..., metric_attribute=name)` where `name` is one of "
            f"{sorted(module._metric_attributes.values())}",
        )
