"""Which curves belong into one chart: training and validation of the same thing, by step and by epoch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from fulmen.report.metrics_file import Series

_STAGE = re.compile(r"^(train(?:ing)?|val(?:id(?:ation)?)?|test)[_/.\-]+(.+)$", re.IGNORECASE)
_LEVEL = re.compile(r"^(.+)_(step|epoch)$")
_LOADER = re.compile(r"^(.+)/dataloader_idx_\d+$")
_RATE = re.compile(r"(^|[/_.\-])(lr|learning_rate)([/_.\-]|$)", re.IGNORECASE)
_DEVICE = re.compile(r"^DeviceStatsMonitor")

CURVES, RATES, DEVICE = "curves", "rates", "device"


@dataclass
class Group:
    """One chart.

    Attributes:
        title: what is drawn: ``loss``.
        part: where the chart belongs: ``"curves"``, ``"rates"`` or ``"device"``.
        names: the metrics in it: ``["train_loss_step", "train_loss_epoch", "val_loss"]``.
        by_batch: the x axis counts evaluation batches, not training steps.
    """

    title: str
    part: str
    names: list[str] = field(default_factory=list)
    by_batch: bool = False


def group_series(many: Iterable[Series]) -> list[Group]:
    """Sort metrics into charts; losses first, then in the order in which they come.

    Args:
        many: the metrics of one or more runs; those of a name that was there before add nothing.
    """
    groups: dict[tuple[str, str, bool], Group] = {}
    for series in many:
        part = DEVICE if _DEVICE.match(series.name) else RATES if _is_rate(series.name) else CURVES
        title = _subject(series.name) if part == CURVES else _kind_of_rate(series.name)
        by_batch = part == CURVES and series.counts_batches
        group = groups.setdefault((part, title, by_batch), Group(title, part, by_batch=by_batch))
        if series.name not in group.names:
            group.names.append(series.name)
    for group in groups.values():
        group.names.sort(key=lambda name: (_stage_order(name), base_name(name), not name.endswith("_step")))
        if group.by_batch:
            group.title = f"{group.title}, by evaluation batch"
    return sorted(groups.values(), key=lambda group: (group.by_batch, "loss" not in group.title.lower()))


def base_name(name: str) -> str:
    """``train_loss`` for ``train_loss_step`` and ``train_loss_epoch``."""
    return _LEVEL.sub(r"\1", name)


def _is_rate(name: str) -> bool:
    return bool(_RATE.search(name))


def _subject(name: str) -> str:
    """``train_loss_step``, ``val/loss`` and ``loss_epoch`` are all about ``loss``."""
    name = base_name(_LOADER.sub(r"\1", name))
    stage = _STAGE.match(name)
    return stage.group(2) if stage else name


def _kind_of_rate(name: str) -> str:
    if name.startswith("lr-") and name.endswith(("-momentum", "-weight_decay")):
        return name.rpartition("-")[2].replace("_", " ")
    if _DEVICE.match(name):
        return name.rpartition("/")[2]
    return "learning rate"


def _stage_order(name: str) -> int:
    stage = _STAGE.match(name)
    return {"tr": 0, "va": 1, "te": 2}[stage.group(1)[:2].lower()] if stage else 0
