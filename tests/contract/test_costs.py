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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_step() -> None:
    module = bench("bench_step")
    table = {name: row["extra"] for name, row in module.measure(1000, 3).items()}
    for name, promise in module.PROMISES.items():
        assert table[name] < 4 * promise, table
    if "Lightning, bare" in table:
        assert table["bare"] < table["Lightning, bare"] / 4, table
        assert table["default settings"] < table["Lightning, default settings"] / 4, table
