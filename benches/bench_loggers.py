"""What a row of metrics costs the training, by logger.

    python benches/bench_loggers.py [--values N] [--rows N] [--json out.json]

``at once``: `log_metrics` and `save` on the training thread, as for loggers that cannot wait. ``handed over``: what the
training thread pays for a row that waits in `fulmen.trainer.log_writer`. ``written``: what all the waiting rows then cost
the thread that writes them, a row; it competes with the training only for Python's lock, once a second. Lightning's own
loggers are measured beside ours where it is installed. Rounds are interleaved; figures are medians over rounds, in µs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, float]


def _make(kind: str, folder: str, package: Any) -> Any:
    if kind == "MLFlowLogger":
        return package.MLFlowLogger(tracking_uri=f"file:{folder}")
    if kind == "WandbLogger":
        return package.WandbLogger(save_dir=folder, offline=True)
    if kind == "CometLogger":
        return package.CometLogger(online=False, offline_directory=folder, api_key="none")
    return getattr(package, kind)(folder)


def kinds() -> list[str]:
    """Loggers whose library is there."""
    needs = {"CSVLogger": "torch", "TensorBoardLogger": "tensorboard", "MLFlowLogger": "mlflow", "WandbLogger": "wandb"}
    return [kind for kind, package in needs.items() if importlib.util.find_spec(package)]


def at_once(logger: Any, rows: list[Row]) -> float:
    """Seconds."""
    begin = time.perf_counter()
    for step, row in enumerate(rows):
        logger.log_metrics(metrics=row, step=step)
        logger.save()
    return time.perf_counter() - begin


def beside(logger: Any, rows: list[Row]) -> tuple[float, float] | None:
    """Seconds to hand all over, and to write them; None if the logger does not wait."""
    from fulmen.trainer.log_writer import RowWriter, can_wait

    if not can_wait(logger):
        return None
    writer = RowWriter()
    loggers = [logger]
    begin = time.perf_counter()
    for step, row in enumerate(rows):
        writer.send(loggers, row, step)
    handed = time.perf_counter()
    writer.close()
    return handed - begin, time.perf_counter() - handed


def measure(values: int, number: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians in microseconds a row."""
    import fulmen.loggers

    rows = [{f"group/value{i}": step / (i + 1) for i in range(values)} for step in range(number)]
    packages: dict[str, Any] = {"fulmen": fulmen.loggers}
    if importlib.util.find_spec("lightning"):
        import lightning.pytorch.loggers

        packages["Lightning"] = lightning.pytorch.loggers
    found: dict[str, dict[str, list[float]]] = {}
    scale = 1e6 / number
    for _ in range(rounds):
        for kind in kinds():
            table = found.setdefault(kind, {})
            for name, package in packages.items():
                with tempfile.TemporaryDirectory() as folder:
                    logger = _make(kind, folder, package)
                    _ = logger.experiment
                    table.setdefault(f"{name}, at once", []).append(at_once(logger, rows) * scale)
                    logger.finalize("success")
                    _end(kind)
            with tempfile.TemporaryDirectory() as folder:
                logger = _make(kind, folder, fulmen.loggers)
                _ = logger.experiment
                taken = beside(logger, rows)
                logger.finalize("success")
                _end(kind)
            if taken is not None:
                for name, seconds in zip(("handed over", "written"), taken, strict=True):
                    table.setdefault(name, []).append(seconds * scale)
    return {kind: {name: statistics.median(v) for name, v in table.items()} for kind, table in found.items()}


def _end(kind: str) -> None:
    if kind == "WandbLogger":
        import wandb

        wandb.finish()


def quiet(call: Callable[[], Any]) -> Any:
    """Call it while its prints go nowhere."""
    real = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        try:
            return call()
        finally:
            sys.stdout, sys.stderr = real


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=10, help="values in a row")
    parser.add_argument("--rows", type=int, default=300, help="rows in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("WANDB_SILENT", "true")
    table = quiet(lambda: measure(arguments.values, arguments.rows, arguments.rounds))
    columns = ["Lightning, at once", "fulmen, at once", "handed over", "written"]
    print(f"{f'µs a row of {arguments.values} values':<28}" + "".join(f"{name:>20}" for name in columns))
    for kind, row in table.items():
        cells = [f"{row[name]:>20.1f}" if name in row else f"{'-':>20}" for name in columns]
        print(f"{kind:<28}" + "".join(cells))
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
