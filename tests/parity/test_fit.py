"""fulmen against Lightning: the same module, the same bits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

import fulmen
import fulmen.callbacks
import fulmen.loggers

from .harness import observe

lightning = pytest.importorskip("lightning.pytorch", reason="compares with Lightning, which is not installed")

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {"max_epochs": 2}),
    "adam, clipped by norm": ({"optimizer": "adam"}, {"max_epochs": 2, "gradient_clip_val": 0.1}),
    "clipped by value": ({}, {"max_epochs": 2, "gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}),
    "accumulation with a tail": ({}, {"max_epochs": 3, "accumulate_grad_batches": 4}),
    "closure optimizer": ({"optimizer": "lbfgs"}, {"max_epochs": 2}),
    "manual": ({"manual": True}, {"max_epochs": 2}),
    "step scheduler": ({"scheduler": "step"}, {"max_epochs": 2}),
    "epoch scheduler": ({"scheduler": "epoch"}, {"max_epochs": 3}),
    "plateau": ({"scheduler": "plateau"}, {"max_epochs": 4}),
    "max_steps in an epoch": ({"scheduler": "epoch"}, {"max_steps": 8}),
    "validation within epochs": ({}, {"max_epochs": 2, "val_check_interval": 2}),
    "validation across epochs": ({}, {"max_epochs": 3, "val_check_interval": 4, "check_val_every_n_epoch": None}),
    "every second epoch": ({}, {"max_epochs": 3, "check_val_every_n_epoch": 2}),
    "limits": ({}, {"max_epochs": 2, "limit_train_batches": 0.5, "limit_val_batches": 1, "limit_test_batches": 2}),
    "rows now and then": ({}, {"max_epochs": 2, "log_every_n_steps": 4}),
    "overfit": ({}, {"max_epochs": 2, "overfit_batches": 2}),
    "double": ({}, {"max_epochs": 2, "precision": "64-true"}),
    "bfloat16": ({}, {"max_epochs": 2, "precision": "bf16-mixed"}),
    "half": ({}, {"max_epochs": 1, "precision": "bf16-true"}),
    "dry run": ({}, {"fast_dev_run": 2}),
    "no sanity check": ({}, {"max_epochs": 1, "num_sanity_val_steps": 0}),
    "two workers": ({}, {"max_epochs": 2, "data": {"num_workers": 2}}),
    "nothing but the loop": ({}, {"max_epochs": 2, "files": False}),
}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.replace(" ", "-"))
@pytest.mark.filterwarnings("ignore")
def test_same_bits(case: str, tmp_path: Path) -> None:
    module, options = CASES[case]
    if case == "dry run":
        options = {**options, "files": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = observe(
            lightning, lightning.loggers, lightning.callbacks, tmp_path / "lightning", module, **dict(options)
        )
        ours = observe(fulmen, fulmen.loggers, fulmen.callbacks, tmp_path / "fulmen", module, **dict(options))
    for key, value in theirs.items():
        assert ours[key] == value, key
