"""What the demo prints when nobody looks at it on a terminal, and what it leaves."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BYTES_PER_THOUSAND_STEPS = 5000
#: runs the script that it is given, and leaves beside its output how long `fit` took, by another clock than its own
MEASURED = """
import json, pathlib, runpy, sys, time
import fulmen
real, sys.argv = fulmen.Trainer.fit, sys.argv[1:]
def fit(trainer, *args, **kwargs):
    start = time.perf_counter()
    real(trainer, *args, **kwargs)
    took = time.perf_counter() - start
    pathlib.Path(sys.argv[2], "fit.json").write_text(json.dumps([took, trainer.timeline.parts]))
fulmen.Trainer.fit = fit
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_the_demo_prints_little_and_plainly(tmp_path: Path) -> None:
    for package in ("sklearn", "matplotlib", "tensorboard"):
        pytest.importorskip(package, reason="needs the extra: pip install 'fulmen[demo]'")
    command = [sys.executable, "-c", MEASURED, str(ROOT / "examples" / "digits.py"), "--out", str(tmp_path / "out"),
               "--max-epochs", "3"]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    )
    printed = done.stdout + done.stderr
    text = printed.decode()
    assert done.returncode == 0, text
    steps = int(re.search(r"trained 3 epochs, (\d+) steps", text)[1])
    assert len(printed) < BYTES_PER_THOUSAND_STEPS * math.ceil(steps / 1000), text
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    for epoch in range(3):
        assert re.search(
            rf"^Epoch {epoch}: 38/38 \(100%\), \S+ elapsed, .*it/s, v_num=0, .*val_loss=", text, re.MULTILINE
        )
    took, parts = json.loads((tmp_path / "out" / "fit.json").read_text())
    assert sum(parts.values()) == pytest.approx(took, rel=0.02), parts
    # everything that it names is there
    for name in ("learning curves", "report"):
        assert Path(re.search(rf"^{name}: (.+)$", text, re.MULTILINE)[1]).stat().st_size > 5000
    page = (tmp_path / "out" / "report.html").read_text()
    assert "best: val_loss = " in page and "test_acc" in page
