"""How long ``import fulmen`` takes after ``import torch``: median of seven fresh processes; Lightning beside it.

python benches/bench_import.py [--check]
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys

#: milliseconds over ``import torch``
PROMISE = 50.0
CODE = """
import time, torch
start = time.perf_counter()
import {name}
print((time.perf_counter() - start) * 1e3)
"""


def once(name: str) -> float:
    """Milliseconds that importing ``name`` takes in a fresh process that has torch already."""
    command = [sys.executable, "-W", "ignore", "-c", CODE.format(name=name)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(rounds: int = 7) -> dict[str, float]:
    """Medians by package, the packages taking turns."""
    names = [name for name in ("fulmen", "lightning.pytorch") if importlib.util.find_spec(name.partition(".")[0])]
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            times[name].append(once(name))
    return {name: statistics.median(taken) for name, taken in times.items()}


def main() -> int:
    """Measure, print, compare with the promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 where the promise does not hold")
    arguments = parser.parse_args()
    table = measure()
    for name, taken in table.items():
        print(f"import {name:<20} {taken:8.1f} ms over import torch")
    return 1 if arguments.check and table["fulmen"] > PROMISE else 0


if __name__ == "__main__":
    sys.exit(main())
