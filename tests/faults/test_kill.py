"""A training that is killed at any moment leaves only files that load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="forks and kills")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sixty_kills(tmp_path: Path) -> None:
    # a process of its own: it forks, and has no other threads
    script = Path(__file__).with_name("kill.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, "60"],
        capture_output=True, text=True, timeout=880, env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'kills': 60" in done.stdout
