"""`BatchSizeFinder`: a place for the batch size search, which a later version brings."""

from __future__ import annotations

from fulmen.callbacks.callback import Callback
from fulmen.errors import NotYet

__all__ = ["BatchSizeFinder"]


class BatchSizeFinder(Callback):
    """Searches the largest batch size that fits.

    Args:
        mode: "power" or "binsearch".
        steps_per_trial: training steps per try.
        init_val: first batch size.
        max_trials: most tries.
        batch_arg_name: name of the attribute that holds the batch size.
        margin: share to take off the largest size found.
        max_val: largest batch size to try.

    Raises:
        NotYet: always, at present.
    """

    SUPPORTED_MODES = ("power", "binsearch")

    def __init__(
        self,
        mode: str = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
    ) -> None:
        raise NotYet("BatchSizeFinder", "Set the batch size by hand.")
