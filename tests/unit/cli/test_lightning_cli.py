"""The names of LightningCLI."""

import subprocess
import sys

import pytest
import torch

import fulmen.cli
from fulmen.errors import NotYet


def test_all_names_are_there():
    for name in fulmen.cli.__all__:
        assert getattr(fulmen.cli, name) is not None
    assert set(fulmen.cli.__all__) <= set(dir(fulmen.cli))
    with pytest.raises(AttributeError, match="Nothing"):
        fulmen.cli.Nothing  # noqa: B018 (reading it is the test)


def test_the_package_itself_is_cheap():
    code = "import sys, fulmen.cli; print('fulmen.cli.lightning_cli' in sys.modules, 'jsonargparse' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


def test_not_there_yet():
    for make in (
        lambda: fulmen.cli.LightningCLI(),
        lambda: fulmen.cli.LightningArgumentParser(),
        lambda: fulmen.cli.SaveConfigCallback(None, None),
    ):
        with pytest.raises(NotYet):
            make()


def test_instantiate_class():
    made = fulmen.cli.instantiate_class(3, {"class_path": "torch.nn.Linear", "init_args": {"out_features": 2}})
    assert isinstance(made, torch.nn.Linear) and made.in_features == 3
    assert fulmen.cli.instantiate_class((3, 4), {"class_path": "torch.nn.Linear"}).out_features == 4


def test_plateau_knows_its_metric():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert fulmen.cli.ReduceLROnPlateau(optimizer, "loss", patience=1).monitor == "loss"
