"""`LRFinder`: what a sweep over learning rates has found."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from fulmen import errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)


class LRFinder:
    """Loss over learning rate, and the rate that it suggests.

    Args:
        mode: "exponential" or "linear".
        lr_min: the first rate.
        lr_max: the last rate of a whole sweep.
        num_training: how many rates a whole sweep has.

    Attributes:
        results: ``{"lr": [...], "loss": [...]}``, one entry for each optimizer step; the losses are smoothed (exponential
            mean with factor 0.98).
    """

    def __init__(self, mode: str, lr_min: float, lr_max: float, num_training: int) -> None:
        self.mode = mode
        self.lr_min = lr_min
        self.lr_max = lr_max
        self.num_training = num_training
        self.results: dict[str, Any] = {"lr": [], "loss": []}
        self._total_batch_idx = 0
        self._optimal_idx: int | None = None

    def rate(self, step: int) -> float:
        """The learning rate of an optimizer step, counted from 0."""
        share = (step + 1) / self.num_training if step else 0.0
        if self.mode == "linear":
            return self.lr_min + share * (self.lr_max - self.lr_min)
        return self.lr_min * (self.lr_max / self.lr_min) ** share if step else self.lr_min

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1) -> float | None:
        """The rate at which the loss falls fastest, as the slope of loss over rate says.

        Args:
            skip_begin: leave out so many points at the beginning, where the loss has not begun to fall.
            skip_end: and so many at the end, where it may go through the roof.

        Returns:
            The rate; None, with a line in the log, where there are less than two finite losses.
        """
        end = len(self.results["loss"]) - skip_end
        losses = torch.tensor(self.results["loss"][skip_begin:end])
        rates = torch.tensor(self.results["lr"][skip_begin:end])
        places = torch.nonzero(torch.isfinite(losses)).flatten()
        if len(places) < 2:
            log.error(
                f"Failed to compute suggestion for learning rate because there are not enough points: {len(places)} of "
                f"{len(self.results['loss'])} are left. Increase `num_training`, use more data or a higher `max_epochs`, or "
                "pass a smaller `skip_begin`."
            )
            self._optimal_idx = None
            return None
        (slopes,) = torch.gradient(losses[places], spacing=[rates[places]])
        self._optimal_idx = int(places[slopes.argmin()]) + skip_begin
        return float(self.results["lr"][self._optimal_idx])

    def plot(self, suggest: bool = False, show: bool = False, ax: Axes | None = None) -> Figure | None:
        """Draws loss over learning rate.

        Args:
            suggest: also mark the suggested rate.
            show: open a window with it.
            ax: draw here; None: in a figure of its own.

        Returns:
            The figure.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        try:
            import matplotlib.pyplot as plt
        except ModuleNotFoundError:
            raise errors.missing_package("matplotlib", "`plot` of what `lr_find` gives") from None

        figure: Any
        if ax is None:
            figure, ax = plt.subplots()
        else:
            figure = ax.get_figure()
        ax.plot(self.results["lr"], self.results["loss"])
        ax.set_xlabel("Learning rate")
        ax.set_ylabel("Loss")
        if self.mode == "exponential":
            ax.set_xscale("log")
        if suggest and self.suggestion() is not None:
            place = self._optimal_idx
            ax.plot(self.results["lr"][place], self.results["loss"][place], "o", color="red", markersize=10)
        if show:
            plt.show()
        return figure  # type: ignore[no-any-return]  # matplotlib has no types here
