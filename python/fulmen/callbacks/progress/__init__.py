"""Progress bars."""

from __future__ import annotations

import sys

from fulmen.callbacks.progress.progress_bar import ProgressBar
from fulmen.callbacks.progress.rich_progress import RichProgressBar
from fulmen.callbacks.progress.tqdm_progress import TQDMProgressBar

__all__ = ["ProgressBar", "RichProgressBar", "TQDMProgressBar", "default_progress_bar"]


def default_progress_bar() -> ProgressBar:
    """The bar of a trainer that was given none: rich's where rich is installed, tqdm's otherwise.

    In a notebook rich draws nothing without ipywidgets: there it is tqdm's.
    """
    from fulmen.callbacks.progress.pace import is_notebook
    from fulmen.utilities.imports import package_available, requirement_available

    if is_notebook(sys.stdout) and not package_available("ipywidgets"):
        return TQDMProgressBar()
    return RichProgressBar() if requirement_available("rich>=10.2.2") else TQDMProgressBar()
