"""A sample of `resume_matrix.py`; ``make test-resume`` runs all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="forks and kills")
@pytest.mark.parametrize("way", ["max_steps", "epoch_end", "exception", "SIGKILL", "SIGTERM"])
@pytest.mark.timeout(300)
@pytest.mark.slow
def test_resumed_runs_equal_the_straight_one(way: str) -> None:
    script = Path(__file__).with_name("resume_matrix.py")
    command = [sys.executable, "-W", "ignore", script, "--sample", "6", "--only", way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "6 of 6 resumed runs equal" in done.stdout
