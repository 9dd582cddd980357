"""Recorded runs of Lightning, event by event."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ..shared_material import run_script

#: scenarios that differ, and why (docs/deviations.md)
DIFFERENT = {
    "checkpoint_last": "a file by steps has the monitored value of its own step, or none",
    "resume_mid_epoch": "continues at the next batch",
    "exceptions": "teardown after exceptions, KeyboardInterrupt stays itself",
    "misuse": "hooks of 1.x run",
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_equal_to_the_recording(tmp_path: Path) -> None:
    words = ("--compare", "{here}/lightning-2.6.6.json", "fulmen")
    output = run_script("trace", "trace.py", *words, cwd=tmp_path)
    outcomes = dict(re.findall(r"^(\w+): (equal|differs)", output, re.MULTILINE))
    assert len(outcomes) >= 20, output
    assert {name for name, outcome in outcomes.items() if outcome != "equal"} <= set(DIFFERENT), output
