"""`RichModelSummary`: the table of the module in rich's style."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fulmen import errors
from fulmen.callbacks.model_summary import ModelSummary
from fulmen.utilities.imports import requirement_available

if TYPE_CHECKING:
    from fulmen.utilities.model_summary.table import Columns

_RIGHT = {"justify": "right"}
_STYLES: dict[str, dict[str, Any]] = {
    " ": {"style": "dim"},
    "Name": {"justify": "left", "no_wrap": True},
    "Params": _RIGHT,
    "Params per Device": _RIGHT,
    "FLOPs": _RIGHT,
    "In sizes": {**_RIGHT, "style": "white"},
    "Out sizes": {**_RIGHT, "style": "white"},
}


class RichModelSummary(ModelSummary):
    """Print a table of the module's layers on rich's console when training starts, on rank 0.

    A trainer with a `RichProgressBar` has one by itself.

    Args:
        max_depth: levels of nesting to show; -1: all; 0: no table.
        summarize_kwargs: ``header_style``: rich's style of the header.

    Raises:
        ModuleNotFoundError: rich is not installed.
    """

    def __init__(self, max_depth: int = 1, **summarize_kwargs: Any) -> None:
        if not requirement_available("rich>=10.2.2"):
            raise errors.missing_package("rich", "RichModelSummary")
        super().__init__(max_depth, **summarize_kwargs)

    @staticmethod
    def summarize(
        summary_data: Columns,
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: Mapping[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        """Print the table, then the totals. Arguments as for `ModelSummary.summarize`."""
        from rich import get_console
        from rich.table import Table

        from fulmen.utilities.model_summary.table import totals

        table = Table(header_style=summarize_kwargs.get("header_style", "bold magenta"))
        for header, _ in summary_data:
            table.add_column(header, **_STYLES.get(header, {}))
        for row in zip(*(cells for _, cells in summary_data), strict=True):
            table.add_row(*row)

        below = Table.grid(expand=True)
        below.add_column()
        for value, name in totals(
            total_parameters, trainable_parameters, model_size, total_training_modes, total_flops
        ):
            below.add_row(f"[bold]{name.replace('Flops', 'FLOPs')}[/]: {value}")

        console = get_console()
        console.print(table)
        console.print(below)


def __getattr__(name: str) -> Any:
    if name == "_RICH_AVAILABLE":
        return requirement_available("rich>=10.2.2")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
