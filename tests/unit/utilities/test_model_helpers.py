"""Overridden hooks, modes, class methods that refuse instances."""

from __future__ import annotations

from functools import partial
from unittest.mock import Mock

import pytest
import torch
from torch import nn

import fulmen as L
from fulmen.utilities.model_helpers import _ModuleMode, _restricted_classmethod, is_overridden


class Net(L.LightningModule):
    def training_step(self, batch, batch_idx): ...


def test_is_overridden():
    net = Net()
    assert is_overridden("training_step", net)
    assert not is_overridden("validation_step", net)
    assert not is_overridden("training_step", None)
    assert not is_overridden("no_such_hook", net, Net)
    with pytest.raises(ValueError, match="should define the method"):
        is_overridden("forward2", Mock(forward2=lambda: 1), Net)
    with pytest.raises(ValueError, match="Expected a parent"):
        is_overridden("x", object())


def test_wrappers_count_as_what_they_wrap():
    net = Net()
    net.validation_step = partial(net.validation_step)
    assert not is_overridden("validation_step", net)
    net.validation_step = Mock(wraps=net.training_step)
    assert is_overridden("validation_step", net)
    net.validation_step = Mock()
    assert not is_overridden("validation_step", net)
    net.train_dataloader = None
    assert not is_overridden("train_dataloader", net)


def test_other_bases():
    class DM(L.LightningDataModule):
        def val_dataloader(self): ...

    class C(L.Callback):
        def on_fit_start(self, trainer, pl_module): ...

    assert is_overridden("val_dataloader", DM())
    assert not is_overridden("test_dataloader", DM())
    assert is_overridden("on_fit_start", C())
    assert not is_overridden("on_fit_end", C())


def test_objects_of_an_installed_lightning_are_named():
    foreign = type("LightningModule", (), {"__module__": "lightning.pytorch.core.module"})
    with pytest.raises(TypeError, match="single import style"):
        is_overridden("x", foreign())


def test_module_mode():
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
    model[1].eval()
    mode = _ModuleMode()
    mode.capture(model)
    model.eval()
    model.append(nn.Linear(1, 1).eval())
    mode.restore(model)
    assert [m.training for m in model.modules()] == [True, True, False, False]


def test_restricted_classmethod():
    class Loader(nn.Module):
        @_restricted_classmethod
        def load(cls, n: int) -> tuple[type, int]:
            """Doc."""
            return cls, n

    class Child(Loader): ...

    assert Child.load(3) == (Child, 3)
    assert Child.load.__doc__ == "Doc."
    with pytest.raises(TypeError, match="`Child.load` cannot be called on an instance"):
        Child().load(3)
    assert isinstance(torch.jit.script(nn.Identity()), nn.Module)
