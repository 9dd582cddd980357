"""The states of the torchmetrics objects of a module, as plain data: what they have taken in since their last reset."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from fulmen.utilities.rank_zero import rank_zero_warn


def objects(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The metric objects with their names; none without torchmetrics."""
    torchmetrics = sys.modules.get("torchmetrics")
    if torchmetrics is None:
        return
    for name, part in module.named_modules():
        if isinstance(part, torchmetrics.Metric):
            yield name, part
        elif isinstance(part, torchmetrics.MetricCollection):
            # of metrics that share a state only the first one has it up to date
            part.values(copy_state=False)


def states(module: nn.Module, copy: bool = False) -> dict[str, Any]:
    """How many values each object took in, and its state, for those that took in any.

    Args:
        module: whose objects.
        copy: tensors of its own, as an object changes its tensors in place.
    """
    found = {}
    for name, metric in objects(module):
        if metric._update_count:
            values = {key: getattr(metric, key) for key in metric._defaults}
            found[name] = {
                "updates": metric._update_count,
                "states": {key: _copied(value) for key, value in values.items()} if copy else values,
            }
    return found


def restore(module: nn.Module, saved: dict[str, Any]) -> None:
    """Takes back what `states` gave; objects that are not in it stay as they are."""
    own = dict(objects(module))
    for name, values in saved.items():
        metric = own.get(name)
        if metric is None or set(values["states"]) != set(metric._defaults):
            rank_zero_warn(
                f"The checkpoint has the state of a metric {name!r} within an epoch, which this module does not have. "
                "It is left out."
            )
            continue
        metric._update_count, metric._computed = values["updates"], None
        for key, value in values["states"].items():
            setattr(metric, key, _moved(value, metric.device))


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value.clone() if isinstance(value, Tensor) else value


def _moved(value: Any, device: Any) -> Any:
    if isinstance(value, list):
        return [_moved(item, device) for item in value]
    return value.to(device, copy=True) if isinstance(value, Tensor) else value
