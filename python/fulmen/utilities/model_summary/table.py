"""The summary as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

PARAMETER_NUM_UNITS = [" ", "K", "M", "B", "T"]

Columns = Sequence[tuple[str, Sequence[str]]]
"""Header and cells of each column."""

_TOTALS_WIDTH = 10


def get_human_readable_count(number: int | float) -> str:
    """A count in units: ``"123  "``, ``"1.2 K"``, ``"132 K"``, ``"2.0 M"``, ``"3.0 B"``, ``"5,000 T"``.

    Args:
        number: the count, not negative.
    """
    assert number >= 0
    thousands = max((len(str(int(number))) - 1) // 3, 0)
    unit = min(thousands, len(PARAMETER_NUM_UNITS) - 1)
    scaled = number * 10.0 ** (-3 * unit)
    decimals = 0 if unit == 0 or scaled >= 100 else 1
    # whole numbers are cut, those with a decimal are rounded
    return f"{scaled if decimals else int(scaled):,.{decimals}f} {PARAMETER_NUM_UNITS[unit]}"


def get_formatted_model_size(total_model_size: float) -> str:
    """Megabytes with three decimals: ``"5,500.000"``."""
    return f"{total_model_size:,.3f}"


def totals(
    total_parameters: int,
    trainable_parameters: int,
    model_size: float,
    total_training_modes: Mapping[str, int],
    total_flops: int,
) -> list[tuple[str, str]]:
    """The lines below the table: value and what it is.

    Args:
        total_parameters: number of parameters.
        trainable_parameters: number of those with a gradient.
        model_size: size of all parameters in megabytes.
        total_training_modes: number of modules in mode ``"train"`` and ``"eval"``.
        total_flops: floating point operations of one forward pass.
    """
    return [
        (get_human_readable_count(trainable_parameters), "Trainable params"),
        (get_human_readable_count(total_parameters - trainable_parameters), "Non-trainable params"),
        (get_human_readable_count(total_parameters), "Total params"),
        (get_formatted_model_size(model_size), "Total estimated model params size (MB)"),
        (str(total_training_modes["train"]), "Modules in train mode"),
        (str(total_training_modes["eval"]), "Modules in eval mode"),
        (get_human_readable_count(total_flops), "Total Flops"),
    ]


def _format_summary_table(
    total_parameters: int,
    trainable_parameters: int,
    model_size: float,
    total_training_modes: Mapping[str, int],
    total_flops: int,
    *cols: tuple[str, Sequence[str]],
) -> str:
    """The table and the totals below it. Arguments as for `totals`, then the columns."""
    widths = [max(map(len, (header, *cells))) for header, cells in cols]
    # three characters for each gap between columns, and as many twice more: that is how long the rule is
    rule = "-" * (sum(widths) + 3 * (len(cols) + 1))
    rows = [[header for header, _ in cols], *zip(*(cells for _, cells in cols), strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    below = totals(total_parameters, trainable_parameters, model_size, total_training_modes, total_flops)
    return "\n".join(
        [lines[0], rule, *lines[1:], rule, *(f"{value.ljust(_TOTALS_WIDTH)}{name}" for value, name in below)]
    )
