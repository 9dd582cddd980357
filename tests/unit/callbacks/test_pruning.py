"""ModelPruning: arguments, which parameters, what it says. What it does to runs stands beside Lightning in tests/parity."""

import logging

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from fulmen.callbacks import ModelPruning
from fulmen.demos.boring_classes import BoringModel
from fulmen.utilities.exceptions import MisconfigurationException


class EverySecond(prune.BasePruningMethod):
    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t, default_mask):
        mask = default_mask.clone()
        mask.view(-1)[::2] = 0
        return mask


class Rows(EverySecond):
    PRUNING_TYPE = "structured"


@pytest.mark.parametrize(
    ("function", "options", "text"),
    [
        ("l1_unstructured", {"parameter_names": ["gamma"]}, r"gamma isn't in \('weight', 'bias'\)"),
        ("l2_unstructured", {}, "isn't available in PyTorch's built-in functions"),
        ("random_structured", {"use_global_unstructured": False}, "`pruning_dim` should be provided"),
        ("ln_structured", {"pruning_dim": 0}, "`pruning_norm` should be provided"),
        ("random_structured", {"pruning_dim": 0}, "is supported with `use_global_unstructured=True`"),
        (3, {}, r"expected to be a str in \["),
        (EverySecond, {"use_global_unstructured": False}, "currently only supported with"),
        (Rows, {}, "PRUNING_TYPE"),
        ("l1_unstructured", {"amount": "half"}, "an int, a float or Callable"),
        ("l1_unstructured", {"verbose": 3}, r"must be any of \(0, 1, 2\)"),
    ],
)
def test_arguments_are_checked(function, options, text):
    with pytest.raises(MisconfigurationException, match=text):
        ModelPruning(function, **options)


@pytest.mark.parametrize("pairs", [[("layer", "weight")], [(nn.Linear(1, 1), "weight")], "layer", [(nn.Linear(1, 1),)]])
def test_pairs_must_be_of_the_module(pairs):
    with pytest.raises(MisconfigurationException, match="parameters_to_prune"):
        ModelPruning.sanitize_parameters_to_prune(BoringModel(), pairs)


def test_unknown_parameter_is_named():
    module = BoringModel()
    with pytest.raises(MisconfigurationException, match="missing parameters: \\['gamma'\\]"):
        ModelPruning.sanitize_parameters_to_prune(module, [(module.layer, "gamma")])


def test_parameters_that_are_there():
    module = BoringModel()
    module.more = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.ReLU()])
    found = ModelPruning.sanitize_parameters_to_prune(module)
    assert found == [(module.layer, "weight"), (module.more[0], "weight"), (module.layer, "bias")]


def test_own_method_and_permanence(caplog):
    module = BoringModel()
    callback = ModelPruning(EverySecond, [(module.layer, "weight")], verbose=2, use_lottery_ticket_hypothesis=False)
    callback.setup(None, module, "fit")
    with caplog.at_level(logging.INFO):
        callback.apply_pruning(0.5)
    assert caplog.messages == [
        "Applied `EverySecond`. Pruned: 0/64 (0.00%) -> 32/64 (50.00%)",
        "Applied `EverySecond` to `Linear(in_features=32, out_features=2, bias=True).weight` with amount=0.5. "
        "Pruned: 0 (0.00%) -> 32 (50.00%)",
    ]
    expected = module.layer.weight.clone()
    state = callback._make_pruning_permanent_on_state_dict(module)
    assert set(state) == {"layer.weight", "layer.bias"}
    assert torch.equal(state["layer.weight"], expected)
    assert prune.is_pruned(module)
    callback.make_pruning_permanent(module)
    assert not prune.is_pruned(module)
    assert torch.equal(module.layer.weight, expected)


def test_lottery_ticket_resets_what_is_left():
    module = BoringModel()
    first = module.layer.weight.detach().clone()
    callback = ModelPruning("l1_unstructured", [(module.layer, "weight")], amount=10)
    callback.setup(None, module, "fit")
    with torch.no_grad():
        module.layer.weight.add_(1)
    callback._run_pruning(0)
    mask = module.layer.weight_mask
    assert mask.sum() == 54
    assert torch.equal(module.layer.weight_orig, first)
    assert torch.equal(module.layer.weight_orig * mask, first * mask)
