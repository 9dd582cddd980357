"""Gradients' norms, tied parameters, operations counted, signatures, flags."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch
from torch import nn

from fulmen.utilities import find_shared_parameters, grad_norm, imports, measure_flops, set_shared_parameters
from fulmen.utilities.consolidate_checkpoint import _format_checkpoint, main
from fulmen.utilities.deepspeed import ds_checkpoint_dir
from fulmen.utilities.exceptions import MisconfigurationException, SIGTERMException, _augment_message
from fulmen.utilities.signature_utils import is_param_in_hook_signature


@pytest.mark.parametrize(("kind", "a", "total"), [(2, 5.0, 13.0), ("inf", 4.0, 12.0), (1.0, 7.0, 19.0)])
def test_grad_norm(kind, a, total):
    module = nn.Module()
    module.a, module.b, module.c = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    module.a.grad, module.b.grad = torch.tensor([3.0, -4.0]), torch.tensor([0.0, 12.0])
    p = float(kind)
    norms = {name: float(norm) for name, norm in grad_norm(module, kind, ":").items()}
    assert norms == pytest.approx({f"grad_{p}_norm:a": a, f"grad_{p}_norm:b": 12.0, f"grad_{p}_norm_total": total})


def test_grad_norm_without_gradients_and_with_nonsense():
    assert grad_norm(nn.Linear(1, 1), 2) == {}
    with pytest.raises(ValueError, match="0.0"):
        grad_norm(nn.Linear(1, 1), 0)


def test_tied_parameters():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2, bias=False))
    assert find_shared_parameters(model) == []
    model[1][0].weight = model[2].weight = model[0].weight
    tied = find_shared_parameters(model)
    assert tied == [["0.weight", "1.0.weight", "2.weight"]]
    model[2].weight = nn.Parameter(torch.ones(2, 2))
    assert set_shared_parameters(model, tied) is model
    assert model[2].weight is model[0].weight


def test_measure_flops():
    with torch.device("meta"):
        model, x = nn.Linear(32, 2, bias=False), torch.randn(3, 32)
    forward = measure_flops(model, lambda: model(x))
    assert forward == 2 * 3 * 32 * 2
    assert measure_flops(model, lambda: model(x), lambda y: y.sum()) == 2 * forward


class Hooks:
    def plain(self, batch, batch_idx): ...

    def star(self, *args): ...

    @functools.wraps(plain)
    def wrapped(self, *args): ...


def test_is_param_in_hook_signature():
    hooks = Hooks()
    assert is_param_in_hook_signature(hooks.plain, "batch_idx")
    assert not is_param_in_hook_signature(hooks.plain, "dataloader_idx")
    assert is_param_in_hook_signature(hooks.plain, "x", min_args=2)
    assert is_param_in_hook_signature(hooks.star, "x")
    assert not is_param_in_hook_signature(hooks.star, "x", explicit=True)
    assert not is_param_in_hook_signature(hooks.wrapped, "x")


def test_flags(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    assert imports.torch_version() == (2, 9, 1)
    assert imports._TORCH_GREATER_EQUAL_2_8
    assert imports._TORCH_GREATER_EQUAL_2_9_1
    assert not imports._TORCH_GREATER_EQUAL_2_10
    assert imports._TORCH_EQUAL_2_9
    assert not imports._TORCH_EQUAL_2_8
    assert imports._NUMPY_AVAILABLE
    assert not imports.requirement_available("no-such-package-anywhere")
    assert not imports.requirement_available("torch>=1000")
    assert not imports.package_available("no_such.package")
    with pytest.raises(AttributeError):
        imports._NO_SUCH_FLAG  # noqa: B018 (reading it is the test)


def test_exceptions():
    assert not issubclass(MisconfigurationException, ValueError)
    assert issubclass(SIGTERMException, SystemExit)
    error = RuntimeError("one two\nthree", 4)
    _augment_message(error, ".*two.*", "better")
    assert error.args == ("better", 4)
    _augment_message(error, "other", "worse")
    assert error.args == ("better", 4)


def test_ds_checkpoint_dir(tmp_path):
    with pytest.raises(ValueError, match="latest"):
        ds_checkpoint_dir(tmp_path)
    (tmp_path / "latest").write_text("step3\n")
    with pytest.raises(FileNotFoundError, match="step3"):
        ds_checkpoint_dir(tmp_path)
    (tmp_path / "step3").mkdir()
    assert ds_checkpoint_dir(tmp_path) == ds_checkpoint_dir(tmp_path, "step3") == str(tmp_path / "step3")


def test_format_checkpoint():
    optimizers = {f"optimizer_{i}": i for i in (10, 2, *range(2), *range(3, 10))}
    result = _format_checkpoint({"model": {"w": 1}, "epoch": 3, **optimizers})
    assert result == {"state_dict": {"w": 1}, "epoch": 3, "optimizer_states": list(range(11))}
    assert _format_checkpoint({"model": {}}) == {"state_dict": {}}


def test_consolidate(tmp_path, capsys):
    import torch.distributed.checkpoint as dcp

    folder = tmp_path / "sharded"
    with pytest.raises(SystemExit):
        main([str(folder)])
    assert "meta.pt" in capsys.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a single process
        dcp.save({"model": {"w": torch.arange(3)}}, checkpoint_id=folder, no_dist=True)
    torch.save({"epoch": 4}, folder / "meta.pt")
    main([str(folder)])
    result = torch.load(tmp_path / "sharded.consolidated")
    assert result["epoch"] == 4
    assert torch.equal(result["state_dict"]["w"], torch.arange(3))
    with pytest.raises(SystemExit):
        main([str(folder)])
    assert "exists already" in capsys.readouterr().err
