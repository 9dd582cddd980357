"""Dictionaries with dots, and attributes found in several places."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import pytest

import fulmen as L
from fulmen.utilities.parsing import (
    AttributeDict,
    clean_namespace,
    is_picklable,
    lightning_getattr,
    lightning_hasattr,
    lightning_setattr,
    save_hyperparameters,
)


def test_attribute_dict():
    d = AttributeDict(lr=0.1)
    d.size = 3
    d["my-key"] = [1]
    assert (d.lr, d["size"]) == (0.1, 3)
    del d.lr
    assert d == {"size": 3, "my-key": [1]}
    with pytest.raises(AttributeError, match="'AttributeDict' object has no attribute 'lr'"):
        d.lr  # noqa: B018 (reading it is the test)
    with pytest.raises(KeyError):
        del d.lr
    assert repr(d) == '"my-key": [1]\n"size":   3'
    assert repr(AttributeDict()) == ""
    assert copy.deepcopy(d) == d
    assert type(pickle.loads(pickle.dumps(d))) is AttributeDict


def test_is_picklable():
    assert is_picklable([1, "a"])
    assert not is_picklable(lambda: 1)
    assert not is_picklable(x for x in ())


def test_clean_namespace():
    given = {"a": 1, "f": lambda: 1}
    with pytest.warns(UserWarning, match="Attribute 'f' removed from hparams"):
        clean_namespace(given)
    assert given == {"a": 1}


def _model(datamodule=None, trainer=True, **attributes):
    return SimpleNamespace(_trainer=SimpleNamespace(datamodule=datamodule) if trainer else None, **attributes)


def test_the_last_place_counts_for_reading_and_all_for_writing():
    hparams = AttributeDict(lr=2)
    data_hparams = {"lr": 4}
    datamodule = SimpleNamespace(lr=3, hparams=data_hparams)
    model = _model(datamodule, lr=1, hparams=hparams)
    assert lightning_getattr(model, "lr") == 4
    data_hparams.clear()
    assert lightning_getattr(model, "lr") == 3
    assert lightning_getattr(_model(trainer=False, lr=1, hparams=hparams), "lr") == 2
    lightning_setattr(model, "lr", 9)
    assert (model.lr, hparams.lr, datamodule.lr, data_hparams) == (9, 9, 9, {})


def test_missing_attributes():
    model = _model(hparams={})
    assert not lightning_hasattr(model, "lr")
    with pytest.raises(AttributeError, match="lr is neither stored in the model namespace"):
        lightning_getattr(model, "lr")
    with pytest.raises(AttributeError, match="lr is neither"):
        lightning_setattr(model, "lr", 1)
    model.lr = None
    assert lightning_hasattr(model, "lr")


def test_save_hyperparameters_as_a_function():
    class Net(L.LightningModule):
        def __init__(self, a, b=2, **rest):
            super().__init__()
            save_hyperparameters(self, ignore="b")

    assert dict(Net(1, c=3).hparams) == {"a": 1, "c": 3}


def test_save_hyperparameters_that_are_given():
    net = L.LightningModule()
    given = {"a": 1, "b": 2, "c": 3}
    save_hyperparameters(net, "a", "b", ignore=["b"], given_hparams=given)
    assert dict(net.hparams) == {"a": 1}
    assert net._hparams_name == "kwargs"
    save_hyperparameters(net, given_hparams=given)
    assert dict(net.hparams) == given
