"""Comparison material that lies beside a developer's checkout; a user's checkout has none, and passes by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run_script(folder: str, script: str, *words: str, cwd: Path) -> str:
    """The output of ``shared/<folder>/<script>`` run with ``words``; skips the test where there is none."""
    base = Path(os.environ.get("FULMEN_SHARED", ROOT.parent / "shared")) / folder
    if not (base / script).exists():
        pytest.skip(f"needs {folder}/{script} in a folder 'shared' beside the checkout (or FULMEN_SHARED)")
    command = [sys.executable, str(base / script), *(w.replace("{here}", str(base)) for w in words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1200)
    return done.stdout + done.stderr
