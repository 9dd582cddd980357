"""The table that a stand-alone validation or test prints: one line a value, one column a loader."""

from __future__ import annotations

import shutil

from fulmen.utilities.imports import requirement_available

_LOADER = "/dataloader_idx_"


def print_results(results: list[dict[str, float]], stage: str) -> None:
    """Prints what :meth:`Trainer.validate` or :meth:`Trainer.test` return.

    Args:
        results: a dict of values per loader.
        stage: "validate" or "test".
    """
    names = list(dict.fromkeys(_bare(name) for result in results for name in result))
    if not names:
        return
    title = f"{stage.capitalize()} metric"
    heads = ["DataLoader 0"] if len(results) == 1 else [f"DataLoader {i}" for i in range(len(results))]
    cells = [[_shown(result, name) for result in results] for name in names]
    if requirement_available("rich>=10.2.2"):
        _print_rich(title, heads, names, cells)
    else:
        print(plain_table(title, heads, names, cells))


def _bare(name: str) -> str:
    return name.split(_LOADER)[0]


def _shown(result: dict[str, float], name: str) -> str:
    value = next((v for key, v in result.items() if _bare(key) == name), None)
    return "" if value is None else str(value)


def plain_table(title: str, heads: list[str], names: list[str], cells: list[list[str]]) -> str:
    """The table as text, no wider than the terminal needs it."""
    rows = [[title, *heads], *([name, *row] for name, row in zip(names, cells, strict=True))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    rule = "─" * min(max(map(len, lines)), shutil.get_terminal_size().columns)
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def _print_rich(title: str, heads: list[str], names: list[str], cells: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for position, head in enumerate([title, *heads]):
        table.add_column(head, justify="center", style="cyan" if position == 0 else "magenta")
    for name, row in zip(names, cells, strict=True):
        table.add_row(name, *row)
    Console().print(table)
