"""Modules in 64 and 16 bit."""

from __future__ import annotations

import warnings

import pytest
import torch

from fulmen.demos.boring_classes import BoringModel
from fulmen.precision.double import DoublePrecision
from fulmen.precision.half import HalfPrecision


@pytest.mark.parametrize(
    ("precision", "dtype"), [(DoublePrecision(), torch.float64), (HalfPrecision("bf16-true"), torch.bfloat16)]
)
def test_complex_numbers_keep_their_imaginary_part(precision: DoublePrecision, dtype: torch.dtype) -> None:
    net = BoringModel()
    net.register_buffer("wave", torch.complex(torch.ones(3), torch.ones(3)))
    net.register_buffer("count", torch.tensor(3))
    net = precision.convert_module(net)
    assert net.layer.weight.dtype == dtype == net.dtype
    assert net.wave.dtype == torch.complex64
    assert net.wave.imag.tolist() == [1, 1, 1]
    assert net.count.dtype == torch.int64


def test_torchscript_warns_once() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        BoringModel().to_torchscript()
    assert [str(w.message)[:32] for w in seen] == ["`LightningModule.to_torchscript`"]
