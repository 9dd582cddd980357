"""The ledger's sums and views as plain data, and how a resumed run takes them up.

An entry that comes from a file does not know yet with which arguments it is logged. The first call that meets it says so,
and adopts its sums if it is a call of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fulmen.trainer.logging_custom import CustomEntry
from fulmen.trainer.logging_entry import Entry, MetricEntry, NumberEntry, TensorEntry
from fulmen.trainer.states import RunningStage

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule
    from fulmen.trainer.logging import Ledger

Key = tuple[Any, ...]


class Held(NamedTuple):
    """How a ledger stands at a moment. Its tensors are not changed by what follows, so that nothing is copied.

    Attributes:
        entries: of the training: key, entry, what it has.
        views: what callbacks, loggers and the bar see.
        eval_rows: rows of evaluation steps sent so far.
    """

    entries: list[tuple[Key, Entry, dict[str, Any]]]
    views: tuple[dict[str, Tensor], ...]
    eval_rows: dict[tuple[RunningStage, int], int]

    def without_sums(self) -> Held:
        """The views alone."""
        return self._replace(entries=[])


def hold(ledger: Ledger) -> Held:
    """How it stands now."""
    ledger._look()
    return Held(
        [(key, entry, entry.state()) for key, entry in ledger._training.items()],
        (dict(ledger._callback), dict(ledger._logged), dict(ledger._bar)),
        dict(ledger._eval_rows),
    )


def plain(ledger: Ledger, held: Held) -> dict[str, Any]:
    """That as tensors and plain data."""
    names: dict[int, str] = {}
    if any(isinstance(entry, MetricEntry) for _, entry, _ in held.entries):
        names = {id(m): name for name, m in ledger.trainer.lightning_module.named_modules()}
    entries = []
    for key, entry, state in held.entries:
        saved = {"key": list(key), "names": entry.names, **state}
        if isinstance(entry, MetricEntry):
            saved["metric"] = names.get(id(entry.metric))
        entries.append(saved)
    return {
        "entries": entries,
        "views": _plain_views(held.views),
        "eval_rows": [[stage.value, loader, rows] for (stage, loader), rows in held.eval_rows.items()],
    }


def restore(ledger: Ledger, state: dict[str, Any], module: LightningModule, within_epoch: bool) -> None:
    """Takes back what `plain` gave, and the sums only where the epoch goes on."""
    device = ledger.trainer.strategy.root_device
    ledger._eval_rows = {(RunningStage(stage), loader): rows for stage, loader, rows in state["eval_rows"]}
    if within_epoch:
        ledger._training.clear()
        for saved in state["entries"]:
            entry = _entry_of(ledger, saved, module)
            if entry is not None:
                key = tuple(saved["key"])
                ledger._training[key] = entry
                ledger._arguments[key, id(ledger._training)] = ()
                ledger._restored.add(key)
        ledger._store.take_changed()
    ledger._callback, ledger._logged, ledger._bar = (
        {name: torch.tensor(value, dtype=getattr(torch, kind), device=device) for name, (value, kind) in view.items()}
        for view in state["views"]
    )
    ledger._changed = False


def adopt(
    ledger: Ledger,
    key: Key,
    value_is_metric: bool,
    reduce: Callable[[Tensor], Any] | None,
    arguments: tuple[Any, ...],
    names: dict[str, Any],
) -> Entry | None:
    """The entry that came from a file, if a call is of its kind; it is known now with which arguments it is logged.

    Args:
        ledger: within an epoch that was taken up.
        key: of the call.
        value_is_metric: whether it logs a torchmetrics object.
        reduce: the user's function that reduces its values, if there is one.
        arguments: those of the call.
        names: what follows from them.
    """
    ledger._restored.discard(key)
    entry = ledger._entries.get(key)
    if entry is None:
        return None
    custom = isinstance(entry, CustomEntry)
    if entry.names != names or isinstance(entry, MetricEntry) != value_is_metric or custom != (reduce is not None):
        del ledger._entries[key]
        return None
    if isinstance(entry, CustomEntry):
        entry.reduce = reduce
    ledger._arguments[key, id(ledger._entries)] = arguments
    return entry


def _entry_of(ledger: Ledger, saved: dict[str, Any], module: LightningModule) -> Entry | None:
    """One entry with its sums; None if it is of a metric object that this module does not have."""
    device = ledger.trainer.strategy.root_device
    if "slot" in saved:
        entry: Entry = NumberEntry(ledger._store, saved["reduction"], saved["double"], **saved["names"])
    elif "values" in saved:
        entry = CustomEntry(None, **saved["names"])
        saved = {**saved, "values": [value.to(device, copy=True) for value in saved["values"]]}
    elif "tensors" in saved:
        entry = TensorEntry(ledger._store, saved["reduction"], saved["graph"], **saved["names"])
        saved = {**saved, "tensors": [None if t is None else t.to(device, copy=True) for t in saved["tensors"]]}
    else:
        metric = dict(module.named_modules()).get(saved["metric"] or " ")
        if metric is None:
            return None
        entry = MetricEntry(metric, **saved["names"])
        saved = {**saved, "last": None if saved["last"] is None else saved["last"].to(device)}
    entry.restore(saved)
    return entry


def _plain_views(views: Iterable[dict[str, Tensor]]) -> list[dict[str, list[Any]]]:
    return [
        {name: [value.item(), str(value.dtype).removeprefix("torch.")] for name, value in view.items()}
        for view in views
    ]
