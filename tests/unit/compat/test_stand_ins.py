"""Stand-ins for private names."""

import inspect

import pytest
import torch

from fulmen.compat import stand_ins
from fulmen.errors import NotYet


def test_fabric_says_not_yet():
    with pytest.raises(NotYet, match="Fabric"):
        stand_ins.Fabric(accelerator="cpu")


def test_closure_result_detaches():
    loss = torch.tensor(2.0, requires_grad=True)
    result = stand_ins.ClosureResult(loss, extra={"a": 1})
    assert result.asdict()["a"] == 1 and not result.asdict()["loss"].requires_grad
    assert result.closure_loss is loss


def test_hooks_are_called_under_their_name():
    class Owner:
        lightning_module = None
        _hook = "outside"

        def __init__(self):
            self.lightning_module = self.strategy = self
            self.callbacks = [self]
            self.seen = []

        def on_x(self, *args, **kwargs):
            self.seen.append((self._hook, len(args), kwargs))
            return 5

    owner = Owner()
    assert stand_ins.call_lightning_module_hook(owner, "on_x", 1, a=2) == 5
    assert stand_ins.call_strategy_hook(owner, "on_x") == 5
    stand_ins.call_callback_hooks(owner, "on_x", 1)
    assert owner.seen == [("on_x", 1, {"a": 2}), ("on_x", 0, {}), ("on_x", 3, {})] and owner._hook == "outside"


def test_small_ones(tmp_path):
    assert stand_ins.convert_float_tensor(torch.ones(1), torch.float64).dtype is torch.float64
    assert stand_ins.convert_float_tensor(torch.ones(1, dtype=torch.int64), torch.float64).dtype is torch.int64
    assert stand_ins.is_local_path(tmp_path) and not stand_ins.is_local_path("s3://bucket/x")
    assert not stand_ins.is_scripting() and not stand_ins.distributed_is_initialized()
    stand_ins.atomic_save({"a": torch.ones(2)}, tmp_path / "a.ckpt")
    assert torch.equal(torch.load(tmp_path / "a.ckpt")["a"], torch.ones(2))


def test_arguments_of_a_constructor():
    class Base:
        def __init__(self, a, *rest, b=2, **more):
            self.found = stand_ins.get_init_args(inspect.currentframe())
            __class__  # noqa: B018 (mentioned, so that the frame knows its class)

    made = Base(1, 5, b=3, c=4)
    assert made.found == (made, {"a": 1, "b": 3, "c": 4})
    assert stand_ins.get_init_args(inspect.currentframe()) == (None, {})
