"""How much of Lightning's public API there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ..shared_material import run_script


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_public_names(tmp_path: Path) -> None:
    output = run_script("surface", "surface.py", "--target", "fulmen", cwd=tmp_path)
    last = re.search(r"^surface \d+ of \d+ \(([\d.]+) %\)", output, re.MULTILINE)
    assert last and float(last[1]) >= 75, output
    for area in ("core", "trainer", "utilities", "loggers"):
        row = re.search(rf"^{area} .* (\d+)/(\d+)$", output, re.MULTILINE)
        assert row and row[1] == row[2], output
