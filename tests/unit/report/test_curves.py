from __future__ import annotations

import json
import math
import random

from fulmen.report.curves import MOST_POINTS, page_data, thin
from fulmen.report.run_folder import read_run


def test_short_curves_are_kept_whole() -> None:
    assert thin([1.0] * 100, 100) == list(range(100))


def test_long_curves_keep_ends_and_extremes() -> None:
    values = [random.Random(at).random() for at in range(100_000)]
    values[54_321], values[65_432], values[70_000] = 9.0, -9.0, math.nan
    kept = thin(values, MOST_POINTS)
    assert len(kept) <= MOST_POINTS and kept == sorted(set(kept))
    assert {0, 54_321, 65_432, 99_999} <= set(kept)
    # no stretch of the curve is left out
    assert max(b - a for a, b in zip(kept, kept[1:])) < 4 * 100_000 / MOST_POINTS


def test_a_stretch_without_finite_values_stays_a_gap() -> None:
    values = [1.0] * 5000 + [math.nan] * 5000 + [2.0] * 5000
    kept = thin(values, 300)
    assert any(math.isnan(values[at]) for at in kept)


def test_the_page_gets_plain_numbers(make_run) -> None:
    table = "epoch,step,loss\n0,1,0.123456789\n0,0,nan\n1,3,-inf\n1,2,1e-30\n"
    data = page_data([read_run(make_run(table=table), "a")])
    assert data == {
        "runs": [{"label": "a", "series": {"loss": {
            "x": [0, 1, 2, 3], "e": [0.5, 1, 1.5, 2], "y": [None, 0.123457, 1e-30, None],
        }}}],
        "groups": [{"title": "loss", "part": "curves", "names": ["loss"], "byBatch": False}],
    }  # fmt: skip
    json.dumps(data, allow_nan=False)
