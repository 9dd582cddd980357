"""What the trainer costs. Limits are wide, since other work disturbs; the benches print the figures themselves."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

BENCHES = Path(__file__).resolve().parents[2] / "benches"


def bench(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_import() -> None:
    module = bench("bench_import")
    assert module.measure(3)["fulmen"] < module.PROMISE


NAMES = (
    "bare", "default settings", "default, ten logs", "default, ten logs, on_step and on_epoch", "default, fifty callbacks",
    "Lightning, bare", "Lightning, default settings",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_step() -> None:
    module = bench("bench_step")
    kinds = {name: run for name, run in module.variants().items() if name in NAMES}
    rows = module.measure(kinds, module.hand_written(), 1000, 3)
    for name, value in module.figures(rows).items():
        # other work on the machine must not fail a test
        assert value < 4 * module.PROMISES[name] + 2, rows
    table = {name: row["extra"] for name, row in rows.items()}
    if "Lightning, bare" in table:
        assert table["bare"] < table["Lightning, bare"] / 4, table
        assert table["default settings"] < table["Lightning, default settings"] / 4, table
