"""Folders of runs, as a CSVLogger leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TABLE = """epoch,lr-Adam,step,test_acc,train_loss,val_acc
,0.002,0,,,
0,,37,,,0.9
0,,37,,0.8,
,0.001,38,,,
1,,75,,,0.95
1,,75,,0.3,
2,,76,0.94,,
"""


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "version_0", table: str | None = TABLE, **files: Any) -> Path:
        folder = tmp_path / "logs" / name
        folder.mkdir(parents=True)
        if table is not None:
            (folder / "metrics.csv").write_bytes(table.replace("\n", "\r\n").encode())
        for stem, content in files.items():
            ending = "yaml" if stem == "hparams" else "json"
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / f"{stem}.{ending}").write_text(text)
        return folder

    return make
