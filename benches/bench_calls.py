"""What the calls of the hot path into the core cost, with the limited API and without it.

    python benches/bench_calls.py

Builds the core a second time for this Python alone (needs cargo), loads both builds into one process and times the seven
calls that a training step makes into the schedule, and one update of a logged value, in interleaved rounds; prints medians
in nanoseconds beside an empty Python call.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROUNDS, CALLS = 15, 50_000


def build_specific(folder: Path) -> Path:
    """The core as a library for the running Python only."""
    for name in ("Cargo.toml", "Cargo.lock", "src_rust"):
        source, target = ROOT / name, folder / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    manifest = folder / "Cargo.toml"
    text = manifest.read_text()
    specific = text.replace(', features = ["abi3-py310"]', "")
    assert specific != text, "the workspace no longer asks for the limited API"
    manifest.write_text(specific)
    environment = {**os.environ, "PYO3_PYTHON": sys.executable, "CARGO_TARGET_DIR": str(folder / "target")}
    subprocess.run(["cargo", "build", "--release", "-q", "-p", "fulmen-py"], cwd=folder, env=environment, check=True)
    return folder / "target" / "release" / "lib_core.so"


def load(path: Path) -> Any:
    """A build of the core, beside any other."""
    spec = importlib.util.spec_from_file_location("_core", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def calls(core: Any) -> Callable[[], tuple[float, float]]:
    """Nanoseconds of a step's calls into the schedule, and of an update of a value."""
    schedule = core.Schedule(max_epochs=-1)
    schedule.set_data(None, False)
    schedule.begin_epoch()
    schedule.epoch_started()
    store = core.MetricStore()
    slot = store.add("mean", False)
    begin, zeroed, stepped = schedule.begin_batch, schedule.zeroed, schedule.stepped
    processed, tick, update = schedule.processed, schedule.tick, store.update

    def measure() -> tuple[float, float]:
        start = time.perf_counter()
        for _ in range(CALLS):
            begin(False, None)
            schedule.batch_idx  # noqa: B018 (reading it is the call)
            schedule.accumulate  # noqa: B018 (the same)
            zeroed()
            stepped()
            processed()
            tick(None)
        middle = time.perf_counter()
        for _ in range(CALLS):
            update(slot, 1.5, 2.0)
        return (middle - start) / CALLS * 1e9, (time.perf_counter() - middle) / CALLS * 1e9

    return measure


def empty() -> float:
    """Nanoseconds of a call that does nothing."""

    def nothing() -> None: ...

    start = time.perf_counter()
    for _ in range(CALLS):
        nothing()
    return (time.perf_counter() - start) / CALLS * 1e9


def main() -> None:
    """Build, measure, print."""
    from fulmen import _core

    with tempfile.TemporaryDirectory() as folder:
        kinds = {"limited API": calls(_core), "this Python only": calls(load(build_specific(Path(folder))))}
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        idle = []
        for _ in range(ROUNDS):
            idle.append(empty())
            for name, measure in kinds.items():
                rounds[name].append(measure())
    print(f"medians of {ROUNDS} interleaved rounds, nanoseconds; an empty Python call: {statistics.median(idle):.0f}")
    for name, figures in rounds.items():
        step, update = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"{name:<18} seven calls of a step {step:6.0f}   an update of a value {update:6.0f}")


if __name__ == "__main__":
    main()
