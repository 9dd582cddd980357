"""Values logged in several processes: those of one process that has all samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.distributed import value_scenarios as scenarios
from tests.distributed.processes import run

pytestmark = [pytest.mark.distributed, pytest.mark.filterwarnings("ignore")]
MODULE = "tests.distributed.value_scenarios"

Results = list[dict[str, Any]]


WELL = (
    "training",
    "validation",
    "metric_objects",
    "collectives",
    "groups",
    "rank_zero_only",
    "between_rows",
    "functions",
)
#: two processes are enough to disagree
WRONG = (
    "other_keys",
    "other_reduction",
    "exception_on_one_rank",
    "after_an_error",
    "no_keys_on_one_rank",
    "no_keys_in_epochs",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Results]:
    return {
        world: run(MODULE, [*WELL, *(WRONG if world == 2 else ())], world, tmp_path_factory.mktemp("values"))
        for world in (2, 3)
    }


@pytest.fixture(params=[2, 3], ids=["2 processes", "3 processes"])
def results(request: pytest.FixtureRequest, runs: dict[int, Results]) -> Results:
    return runs[request.param]


@pytest.fixture
def errors(runs: dict[int, Results]) -> Results:
    return runs[2]


def step_values(reduction: str, kind: str, batches: list[torch.Tensor]) -> float:
    """The value of a step whose samples lie in these batches, one of each process."""
    values = [torch.as_tensor(scenarios.value(batch, kind)).detach().double() for batch in batches]
    sizes = [len(batch) for batch in batches]
    if reduction == "mean":
        merged = sum(v * n for v, n in zip(values, sizes, strict=True)) / sum(sizes)
    else:
        merged = {"sum": sum, "min": min, "max": max}[reduction](values)
    return (merged if kind == "float64" else merged.float()).item()


def test_epoch_values_are_those_of_one_process(results: Results) -> None:
    alone = scenarios.train(list(range(len(results))))
    for result in results:
        shared = result["training"]["callback"]
        for reduction in scenarios.REDUCTIONS:
            for kind in scenarios.KINDS:
                for name in (f"train_{reduction}_{kind}_epoch", f"train_{reduction}_{kind}_both_epoch"):
                    assert shared[name] == alone["callback"][name], name
    last = [result["training"]["rows"][-1][1] for result in results]
    assert all(row == last[0] for row in last)
    assert {k: v for k, v in last[0].items() if k.startswith("train")} == {
        k: v for k, v in alone["rows"][-1][1].items() if k.startswith("train")
    }


def test_every_process_sees_the_same(results: Results) -> None:
    for result in results:
        assert result["training"]["callback"] == results[0]["training"]["callback"]
        assert result["training"]["logged"] == results[0]["training"]["logged"]
        assert result["validation"]["results"] == results[0]["validation"]["results"]
        assert result["validation"]["callback"] == results[0]["validation"]["callback"]


def test_step_values_are_weighted_and_miss_nobody(results: Results) -> None:
    world = len(results)
    everyone = [scenarios.batches(rank) for rank in range(world)]
    for rank, result in enumerate(results):
        rows = [row for _, row in result["training"]["rows"] if "train_mean_float32_step" in row]
        assert len(rows) == 2 * len(everyone[rank])
        for index, row in enumerate(rows[: len(everyone[rank])]):
            there = [batches[index] for batches in everyone if index < len(batches)]
            for reduction in scenarios.REDUCTIONS:
                for kind in scenarios.KINDS:
                    expected = step_values(reduction, kind, there)
                    assert row[f"train_{reduction}_{kind}_step"] == expected
                    assert row[f"train_{reduction}_{kind}_both_step"] == expected


def test_step_values_are_merged_when_a_row_is_due(results: Results) -> None:
    last = len(results) - 1
    for rank, result in enumerate(results):
        own = [0.0 + rank, 10.0 + rank, 20.0 + rank]
        assert result["between_rows"] == [*own, *[20.0 + last] * 3, 50.0 + last, 50.0 + last]


def test_hooks_of_epochs_share_their_values(results: Results) -> None:
    world = len(results)
    ranks = range(1, world + 1)
    for result in results:
        shared = {name: value for name, (value, _) in result["training"]["callback"].items()}
        assert shared["start"] == sum(ranks)
        assert shared["end"] == pytest.approx(sum(r * r for r in ranks) / sum(ranks), rel=1e-6)
        assert shared["end_max"] == world
        assert result["validation"]["results"][0]["val_end"] == 1.0


def test_validation_values_are_those_of_one_process(results: Results) -> None:
    alone = scenarios.validate(list(range(len(results))))
    for result in results:
        assert result["validation"]["results"] == alone["results"]


def test_rows_of_validation_steps(results: Results) -> None:
    everyone = [scenarios.batches(rank) for rank in range(len(results))]
    for rank, result in enumerate(results):
        name = "val_mean_float32_both_step/dataloader_idx_{}"
        rows = [row for _, row in result["validation"]["rows"]]
        for index, loaders in enumerate((everyone, [b[:1] * (r + 1) for r, b in enumerate(everyone)])):
            found = [row[name.format(index)] for row in rows if name.format(index) in row]
            expected = [
                step_values("mean", "float32", [batches[i] for batches in loaders if i < len(batches)])
                for i in range(len(loaders[rank]))
            ]
            assert found == expected


def test_metric_objects_merge_by_themselves(results: Results, tmp_path: Path) -> None:
    alone = scenarios.objects(list(range(len(results))), tmp_path)
    names = ("mean", "mean_epoch", "top", "sum", "plain")
    for rank, result in enumerate(results):
        shared = result["metric_objects"]
        for epoch in (0, 1):
            mine, one = (
                [row for _, row in r["rows"] if "mean_epoch" in row and row["epoch"] == epoch][0]
                for r in (shared, alone)
            )
            assert {k: mine[k] for k in names if k in mine} == pytest.approx(
                {k: one[k] for k in names if k in one}, rel=1e-6
            )
        # every process sees the samples of all in an object's list of them
        assert shared["callback"]["count"] == alone["callback"]["count"]
        # emptied after the epoch, and kept in the file of the process that writes it
        assert shared["state"] == {"mean.mean_value": 0.0, "mean.weight": 0.0}
        if rank == 0:
            assert shared["saved"] == ["mean.mean_value", "mean.weight"]


def test_one_collective_for_all_that_is_due(results: Results) -> None:
    """Twelve keys of six kinds of values, twenty batches, a row every five; float64 carries them all."""
    for result in results:
        found = result["collectives"]
        assert found["both"] == {"all_gather": 4 + 1}
        assert found["step"] == {"all_gather": 4 + 1}, "the epoch's end waits for processes with more batches"
        assert found["epoch"] == {"all_gather": 1}
        assert found["none"] == {}
        assert found["many"] == {"all_gather": 2 * (4 + 1)}, "more keys than a block holds: a second one"


def test_functions_see_the_values_of_all(results: Results) -> None:
    alone = scenarios.by_function(list(range(len(results))))["callback"]
    everyone = [scenarios.batches(rank) for rank in range(len(results))]
    for rank, result in enumerate(results):
        found = result["functions"]
        assert {n: found["callback"][n] for n in ("median_epoch", "spread_epoch")} == {
            n: alone[n] for n in ("median_epoch", "spread_epoch")
        }
        rows = [row["spread_step"] for _, row in found["rows"] if "spread_step" in row][: len(everyone[rank])]
        there = [[b[i][0] for b in everyone if i < len(b)] for i in range(len(everyone[rank]))]
        assert rows == [(max(values) - min(values)).item() for values in there]
        assert found["objects"] == 2, "one more exchange an epoch, for all functions"


def test_groups(results: Results) -> None:
    world = len(results)
    for rank, result in enumerate(results):
        shared = {name: value for name, (value, _) in result["groups"].items()}
        inside = rank in (0, world - 1)
        assert shared["ours_step"] == (world - 1 if inside else rank)
        assert shared["ours_epoch"] == 2 * (world - 1 if inside else rank)
        assert shared["all_epoch"] == 2 * sum(range(world))


def test_only_rank_zero_logs(results: Results) -> None:
    assert results[0]["rank_zero_only"]["first_epoch"][0] == 7.0
    for rank, result in enumerate(results):
        assert ("first" in result["rank_zero_only"]) == (rank == 0)
        assert result["rank_zero_only"]["own"][0] == rank


def test_other_keys_are_named_in_every_process(errors: Results) -> None:
    for result in errors:
        message, _ = result["other_keys"]
        assert message.startswith("MisconfigurationException")
        assert "'a (training_step, mean, step)' only on rank 0" in message
        assert "'b (training_step, mean, step)' only on rank 1" in message
        assert "loss" not in message


def test_other_options_are_named(errors: Results) -> None:
    for result in errors:
        message, _ = result["other_reduction"]
        assert "'loss (training_step, sum, step)' only on rank 0" in message


@pytest.mark.parametrize(
    ("scenario", "who", "key"),
    [
        ("no_keys_on_one_rank", 0, "loss (training_step, mean, step)"),
        ("no_keys_in_epochs", 0, "loss (training_step, mean, epoch)"),
    ],
)
def test_who_waits_in_vain_says_so(errors: Results, scenario: str, who: int, key: str) -> None:
    message, seconds = errors[who][scenario]
    assert key in message
    assert f"rank {1 - who} went on" in message
    assert seconds < 20, "patience is half a second here"
    assert errors[1 - who][scenario][0] is None


def test_a_run_after_one_that_gave_up(errors: Results) -> None:
    assert "'extra (on_train_epoch_end, mean, epoch)'" in errors[1]["after_an_error"][0]
    for result in errors:
        assert result["after_an_error"][1] == {"loss": (1.0, "torch.float32"), "extra": (1.0, "torch.float32")}


def test_who_waits_for_a_process_that_failed_says_so(errors: Results) -> None:
    assert "rank 1 left the run by an exception" in errors[0]["exception_on_one_rank"][0]
    assert errors[1]["exception_on_one_rank"][0] == "ValueError: broken batch"
