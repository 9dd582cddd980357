"""Which checkpoints are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fulmen.utilities.exceptions import MisconfigurationException

if TYPE_CHECKING:
    import fulmen as L


class TopK:
    """Part of `ModelCheckpoint`: the k best files by a monitored value; ties keep the older file."""

    monitor: str | None
    save_top_k: int

    def _init_mode(self, mode: str) -> None:
        if mode not in ("min", "max"):
            raise MisconfigurationException(f"`mode` can be 'min' or 'max', got {mode!r}. Say which values are better.")
        self.mode = mode
        self.kth_value = torch.tensor(float("inf") if mode == "min" else -float("inf"))
        self.best_k_models: dict[str, Tensor] = {}
        self.kth_best_model_path = ""
        self.best_model_score: Tensor | None = None
        self.best_model_path = ""
        self.current_score: Tensor | None = None

    def _better(self, a: Tensor, b: Tensor) -> bool:
        return bool(torch.lt(a, b) if self.mode == "min" else torch.gt(a, b))

    def _is_none(self, score: Tensor) -> bool:
        """Is this what stands for a missing value: the worst there can be?"""
        return bool(torch.isposinf(score) if self.mode == "min" else torch.isneginf(score))

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        """Does this value belong to the k best? The same answer on all ranks."""
        if current is None:
            return False
        if self.save_top_k == -1 or len(self.best_k_models) < self.save_top_k:
            return True
        worst = self.best_k_models[self.kth_best_model_path]
        # among files without a value the newest stays
        answer = self._better(current, worst) or bool(torch.isnan(current) and self._is_none(worst))
        return trainer.strategy.reduce_boolean_decision(answer)

    def _save_monitored(self, trainer: L.Trainer, candidates: dict[str, Tensor]) -> None:
        assert self.monitor
        current = candidates.get(self.monitor)
        if self.check_monitor_top_k(trainer, current):
            assert current is not None
            self._update_best_and_save(current, trainer, candidates)
        else:
            epoch, step = candidates["epoch"], candidates["step"]
            self._say(f"Epoch {epoch:d}, global step {step:d}: {self.monitor!r} was not in top {self.save_top_k}")  # type: ignore[attr-defined]  # of the class that this is a part of

    def _update_best_and_save(self, current: Tensor, trainer: L.Trainer, candidates: dict[str, Tensor]) -> None:
        k = len(self.best_k_models) + 1 if self.save_top_k == -1 else self.save_top_k
        removed = None
        if len(self.best_k_models) == k and k > 0:
            removed = self.kth_best_model_path
            self.best_k_models.pop(removed)
        # NaN has no order: it counts as the worst value
        if torch.isnan(current):
            current = torch.tensor(float("inf" if self.mode == "min" else "-inf"), device=current.device)
        path = self._path_for(candidates, trainer, removed)  # type: ignore[attr-defined]  # of the class that this is a part of
        self.current_score = current
        self.best_k_models[path] = current
        worst, best = (max, min) if self.mode == "min" else (min, max)
        if len(self.best_k_models) == k:
            self.kth_best_model_path = worst(self.best_k_models, key=self.best_k_models.get)  # type: ignore[arg-type]  # the keys are its own: never None
            self.kth_value = self.best_k_models[self.kth_best_model_path]
        self.best_model_path = best(self.best_k_models, key=self.best_k_models.get)  # type: ignore[arg-type]  # the keys are its own: never None
        self.best_model_score = self.best_k_models[self.best_model_path]
        self._say(  # type: ignore[attr-defined]  # of the class that this is a part of
            f"Epoch {candidates['epoch']:d}, global step {candidates['step']:d}: {self.monitor!r} reached {current:0.5f} "
            f"(best {self.best_model_score:0.5f}), saving model to {path!r} as top {k}"
        )
        self._save_and_replace(trainer, path, removed)  # type: ignore[attr-defined]  # of the class that this is a part of
