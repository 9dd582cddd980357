from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import fulmen
from fulmen.callbacks.model_summary import ModelSummary as ModelSummaryCallback
from fulmen.callbacks.rich_model_summary import RichModelSummary
from fulmen.utilities.model_summary import (
    DeepSpeedSummary,
    LayerSummary,
    ModelSummary,
    get_formatted_model_size,
    get_human_readable_count,
    parse_batch_shape,
    summarize,
)


class Net(fulmen.LightningModule):
    def __init__(self, example: Any = None) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.second = nn.Linear(4, 2)
        self.unused = nn.Linear(1, 1)
        self.own = nn.Parameter(torch.zeros(5), requires_grad=False)
        self.example_input_array = example

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


TABLE = """\
  | Name         | Type       | Params | Mode  | FLOPs | In sizes | Out sizes
-----------------------------------------------------------------------------------
0 | first        | Sequential | 16     | train | 48    | [2, 3]   | [2, 4]   
1 | second       | Linear     | 10     | eval  | 32    | [2, 4]   | [2, 2]   
2 | unused       | Linear     | 2      | train | 0     | ?        | ?        
  | other params | n/a        | 5      | n/a   | n/a   | n/a      | n/a      
-----------------------------------------------------------------------------------
28        Trainable params
5         Non-trainable params
33        Total params
0.000     Total estimated model params size (MB)
4         Modules in train mode
1         Modules in eval mode
80        Total Flops"""  # noqa: W291 (the table ends its lines so)


def test_table() -> None:
    net = Net(torch.zeros(2, 3))
    net.second.eval()
    lines = [line.rstrip() for line in str(summarize(net)).splitlines()]
    assert lines == [line.rstrip() for line in TABLE.splitlines()]
    assert repr(summarize(net)) == str(summarize(net))


def test_without_example_there_are_no_sizes_and_no_flops() -> None:
    summary = summarize(Net())
    assert [header for header, _ in summary._get_summary_data()] == [" ", "Name", "Type", "Params", "Mode", "FLOPs"]
    assert summary.in_sizes == ["?"] * 3
    assert (summary.total_flops, summary.flop_counts) == (0, {"first": {}, "second": {}, "unused": {}})


@pytest.mark.parametrize(
    ("depth", "names"),
    [
        (0, []),
        (1, ["first", "second", "unused"]),
        (2, ["first", "first.0", "first.1", "second", "unused"]),
        (-1, ["first", "first.0", "first.1", "second", "unused"]),
    ],
)
def test_depth(depth: int, names: list[str]) -> None:
    summary = summarize(Net(torch.zeros(2, 3)), max_depth=depth)
    assert summary.layer_names == names
    assert summary.total_parameters == 33
    assert summary.trainable_parameters == 28


@pytest.mark.parametrize("depth", [-2, 1.5, "all", None])
def test_depth_that_makes_no_sense(depth: Any) -> None:
    with pytest.raises(ValueError, match="`max_depth` can be -1, 0 or > 0, got"):
        summarize(Net(), max_depth=depth)


@pytest.mark.parametrize(
    "example", [torch.zeros(2, 3), (torch.zeros(2, 3),), [torch.zeros(2, 3)], {"x": torch.zeros(2, 3)}]
)
def test_forms_of_the_example(example: Any) -> None:
    summary = summarize(Net(example))
    assert summary.in_sizes == [[2, 3], [2, 4], "?"]
    assert summary.total_flops == 80


def test_the_module_is_left_as_it_was() -> None:
    net = Net(torch.zeros(2, 3))
    net.second.eval()
    before = [module.training for module in net.modules()]
    grad = torch.is_grad_enabled()
    summarize(net, max_depth=-1)
    assert [module.training for module in net.modules()] == before
    assert torch.is_grad_enabled() == grad
    assert not any(module._forward_hooks for module in net.modules())


def test_modes_are_restored_if_the_example_does_not_fit() -> None:
    net = Net(torch.zeros(2, 7))
    with pytest.raises(RuntimeError):
        summarize(net)
    assert net.training


def test_lazy_layers_warn_once_and_count_nothing() -> None:
    from fulmen.utilities.model_summary.layer_summary import warning_cache

    warning_cache.clear()
    net = Net()
    net.second = nn.LazyLinear(2)
    with pytest.warns(UserWarning, match="number of parameters detected may be inaccurate"):
        assert summarize(net).total_parameters == 16 + 2 + 5
    assert summarize(net).param_nums == [16, 0, 2]


@pytest.mark.parametrize(("precision", "bits"), [("32-true", 32), ("bf16-true", 16), ("64-true", 64)])
def test_size(precision: str, bits: int) -> None:
    net = Net()
    net._trainer = SimpleNamespace(precision=precision)
    assert summarize(net).model_size == pytest.approx(33 * bits / 8 * 1e-6)


def test_size_in_a_precision_that_has_none() -> None:
    net = Net()
    net._trainer = SimpleNamespace(precision="16-mixed")
    with pytest.warns(UserWarning, match="Precision 16-mixed is not supported by the model summary"):
        assert summarize(net).model_size == pytest.approx(33 * 4e-6)


def test_layer_summary() -> None:
    layer = nn.Conv2d(3, 8, 3)
    summary = LayerSummary(layer)
    assert (summary.layer_type, summary.num_parameters, summary.in_size, summary.training) == ("Conv2d", 224, "?", True)
    layer(torch.zeros(1, 3, 5, 5))
    layer(torch.zeros(7, 3, 5, 5))
    assert (summary.in_size, summary.out_size) == ([1, 3, 5, 5], [1, 8, 3, 3])
    unused = LayerSummary(layer)
    del unused
    assert not layer._forward_hooks


def test_parse_batch_shape() -> None:
    assert parse_batch_shape(torch.zeros(2, 3)) == [2, 3]
    assert parse_batch_shape([torch.zeros(2), (torch.zeros(1), "x")]) == [[2], [[1], "?"]]
    assert parse_batch_shape({"a": torch.zeros(1)}) == "?"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0  "), (1, "1  "), (123, "123  "), (999, "999  "), (1000, "1.0 K"), (1234, "1.2 K"), (2e6, "2.0 M"),
        (131584, "131 K"), (999_999, "999 K"), (99_999, "100.0 K"), (3e9, "3.0 B"), (4e14, "400 T"), (5e15, "5,000 T"),
    ],
)  # fmt: skip
def test_human_readable_count(number: float, text: str) -> None:
    assert get_human_readable_count(number) == text


def test_formatted_model_size() -> None:
    assert get_formatted_model_size(5500.0) == "5,500.000"


def make_trainer(zero: bool = True, **strategy: Any) -> Any:
    return SimpleNamespace(is_global_zero=zero, strategy=SimpleNamespace(**strategy))


def test_callback_logs_the_table(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ModelSummaryCallback().on_fit_start(make_trainer(), Net(torch.zeros(2, 3)))
    assert "0 | first        | Sequential | 16" in caplog.text
    assert "Total Flops" in caplog.text


@pytest.mark.parametrize(("depth", "zero"), [(0, True), (1, False)])
def test_callback_without_table(caplog: pytest.LogCaptureFixture, depth: int, zero: bool) -> None:
    with caplog.at_level(logging.INFO):
        ModelSummaryCallback(max_depth=depth).on_fit_start(make_trainer(zero), Net())
    assert caplog.text == ""


def test_subclasses_get_everything() -> None:
    seen: dict[str, Any] = {}

    class Mine(ModelSummaryCallback):
        @staticmethod
        def summarize(*args: Any, **kwargs: Any) -> None:
            seen.update(kwargs, args=args)

    Mine(max_depth=-1, extra=1).on_fit_start(make_trainer(), Net(torch.zeros(2, 3)))
    data, *totals = seen.pop("args")
    assert dict(data)["Name"] == ["first", "first.0", "first.1", "second", "unused"]
    assert totals == [33, 28, pytest.approx(33 * 4e-6), {"train": 5, "eval": 0}]
    assert seen == {"total_flops": 80, "extra": 1}


def test_deepspeed() -> None:
    net = Net()
    for parameter in net.parameters():
        parameter.ds_numel = 10 * parameter.numel()
        parameter.partition_numel = lambda p=parameter: 5 * p.numel()
    summary = DeepSpeedSummary(net)
    assert (summary.total_parameters, summary.trainable_parameters) == (330, 280)
    assert summary.parameters_per_layer == [80, 50, 10]
    columns = dict(summary._get_summary_data())
    assert list(columns)[3:5] == ["Params", "Params per Device"]
    assert columns["Params per Device"][-1] == "n/a"
    callback = ModelSummaryCallback()
    assert type(callback._summary(make_trainer(zero_stage_3=True), net)) is DeepSpeedSummary
    assert type(callback._summary(make_trainer(), net)) is ModelSummary


def test_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    rich = pytest.importorskip("rich", reason="needs rich: pip install rich")
    from io import StringIO

    from rich.console import Console

    output = StringIO()
    monkeypatch.setattr(rich, "get_console", lambda: Console(file=output, width=120))
    RichModelSummary().on_fit_start(make_trainer(), Net(torch.zeros(2, 3)))
    text = output.getvalue()
    rows = [[cell.strip() for cell in line.split("│")] for line in text.splitlines()]
    assert ["", "0", "first", "Sequential", "16", "train", "48", "[2, 3]", "[2, 4]", ""] in rows
    for line in ("Trainable params: 28", "Total params: 33", "Modules in train mode: 5", "Total FLOPs: 80"):
        assert line in text


def test_rich_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from fulmen.callbacks import rich_model_summary

    monkeypatch.setattr(rich_model_summary, "requirement_available", lambda requirement: False)
    with pytest.raises(ModuleNotFoundError, match="RichModelSummary needs .* pip install rich"):
        RichModelSummary()
