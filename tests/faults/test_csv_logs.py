"""A process that logs is killed at any moment: its metrics.csv can be read, and holds what was saved."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fulmen.report.metrics_file import read_metrics

LOGGING = """
import sys
from fulmen.loggers import CSVLogger
logger = CSVLogger(sys.argv[1], name=None, version="run")
every, step = int(sys.argv[2]), 0
while True:
    # now and then a name that was not there before
    logger.log_metrics({f"m{step // every}": step, "same": step * 0.5, "epoch": 0}, step)
    logger.save()
    print(step, flush=True)
    step += 1
"""


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 7, 10**9], ids=["new name in every row", "every 7 rows", "never"])
def test_killed_while_logging(tmp_path: Path, every: int) -> None:
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        child = subprocess.Popen(
            [sys.executable, "-c", LOGGING, str(folder), str(every)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(random.Random(attempt).uniform(0, 0.4))
        child.send_signal(signal.SIGKILL)
        saved = 1 + max((int(line) for line in child.stdout.read().splitlines() if line), default=0)
        child.wait()
        metrics = read_metrics(folder / "run" / "metrics.csv")
        same = metrics.series["same"]
        # whole rows from the first on, each with its own values
        assert same.steps == list(range(len(same.steps)))
        assert same.values == [step * 0.5 for step in same.steps]
        for name, series in metrics.series.items():
            if name != "same":
                assert series.values == series.steps and set(series.steps) <= set(same.steps)
        # after 64 rewrites for new names rows wait: a sixteenth of them at most
        assert metrics.rows >= (saved * 15 // 16 - 1 if len(metrics.series) > 60 else saved), (saved, metrics.rows)
