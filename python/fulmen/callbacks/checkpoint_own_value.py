"""Is the monitored value that of the step which is saved?

A validation's value stays in ``callback_metrics`` while training goes on, and says nothing about the weights of later steps. A
file that is due by steps or time between two validations therefore has no value: it is kept behind all files that have one, and
the newest of its kind replaces the older ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fulmen.utilities.rank_zero import WarningCache

if TYPE_CHECKING:
    import fulmen as L

_warned = WarningCache()


class OwnValue:
    """Part of `ModelCheckpoint`."""

    monitor: str | None
    _validated_at: int | None = None
    _of_validation: frozenset[str] = frozenset()

    def _note_validation(self, trainer: L.Trainer) -> None:
        """Remembers which values a validation gave, and after which step."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._validated_at = trainer.global_step
        self._of_validation = frozenset().union(*map(_names, trainer._ledger._evaluation.values()))

    def _is_stale(self, trainer: L.Trainer) -> bool:
        """Is there a monitored value to come, or is the one that there is of an earlier step?"""
        name = self.monitor
        if name is None:
            return False
        logged = [entry for entry in trainer._ledger._training.values() if name in _names(entry)]
        if logged:
            return not any(entry.step and name in (entry.step_name, entry.base_name) for entry in logged)
        if name in self._of_validation:
            return self._validated_at != trainer.global_step
        # what nobody has logged yet, a validation may give; what somebody else put there is taken as it is
        known = name in ("epoch", "step") or name in trainer.callback_metrics
        return not known and trainer.enable_validation and self._validated_at is None

    def _without_value(self, candidates: dict[str, Tensor]) -> None:
        assert self.monitor is not None
        candidates[self.monitor] = torch.tensor(torch.nan)
        _warned.warn(
            f"`ModelCheckpoint(monitor={self.monitor!r})` saves at steps that have no such value of their own. These files are "
            "kept behind all that have one. Save after validations to have a value in every file."
        )


def _names(entry: Any) -> set[str]:
    return {entry.base_name, entry.step_name, entry.epoch_name}
