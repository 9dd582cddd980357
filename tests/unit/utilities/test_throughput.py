"""Throughput's rates, and what devices could do."""

from unittest import mock

import pytest
import torch

from fulmen.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from fulmen.utilities.available_flops import get_available_flops
from fulmen.utilities.throughput import Throughput, compute_dtype


def test_rates_look_back_over_the_window():
    throughput = Throughput(window_size=3, available_flops=100, separator="|")
    for step in range(1, 6):
        throughput.update(time=2.0 * step, batches=step, samples=4 * step, lengths=40 * step, flops=10)
        totals = {"time": 2.0 * step, "batches": step, "samples": 4 * step, "lengths": 40 * step}
        rates = {
            "device|batches_per_sec": 0.5, "device|samples_per_sec": 2.0, "device|items_per_sec": 20.0,
            "device|flops_per_sec": 5.0, "device|mfu": 0.05,
        }  # fmt: skip
        assert throughput.compute() == (totals if step < 3 else {**totals, **rates})
    throughput.reset()
    throughput.update(time=0.5, batches=1, samples=1)
    assert throughput.compute() == {"time": 0.5, "batches": 1, "samples": 1}


def test_several_processes_get_their_sum_too():
    throughput = Throughput(window_size=2, world_size=3)
    for step in (1, 2):
        throughput.update(time=step, batches=step, samples=2 * step, flops=7)
    found = throughput.compute()
    assert (found["device/samples_per_sec"], found["samples_per_sec"]) == (2, 6)
    assert (found["device/flops_per_sec"], found["flops_per_sec"]) == (7, 21)


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        ({"time": 1, "batches": 3, "samples": 6, "lengths": 9}, ValueError, "value to increase"),
        ({"time": 4, "batches": 3, "samples": 2, "lengths": 9}, ValueError, "greater or equal than batches"),
        ({"time": 4, "batches": 3, "samples": 6, "lengths": 5}, ValueError, "greater or equal than samples"),
    ],
)
def test_contradictions_are_refused(values, kind, text):
    throughput = Throughput(window_size=2)
    throughput.update(time=1, batches=1, samples=2, lengths=2)
    with pytest.raises(kind, match=text):
        throughput.update(**values)


def test_lengths_at_every_update_or_none():
    throughput = Throughput()
    throughput.update(time=1, batches=1, samples=1)
    with pytest.raises(RuntimeError, match="same number of samples"):
        throughput.update(time=2, batches=2, samples=2, lengths=2)


@pytest.mark.parametrize("options", [{"window_size": 1}, {"world_size": 0}])
def test_sizes_are_checked(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Throughput(**options)


def test_type_of_the_products():
    found = [
        compute_dtype(p)
        for p in (Precision(), DoublePrecision(), HalfPrecision("16-true"), MixedPrecision("bf16-mixed", "cpu"))
    ]
    assert found == [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA A100-SXM4-40GB", "Tesla V100-SXM2-16GB",
        "Tesla V100-PCIE-32GB", "Tesla T4", "NVIDIA A10G", "NVIDIA A40", "NVIDIA RTX A6000", "NVIDIA L4", "NVIDIA L40S",
        "NVIDIA GeForce RTX 4080 SUPER", "NVIDIA GeForce RTX 3090 Ti", "NVIDIA GeForce RTX 2080 Ti", "NVIDIA TITAN RTX",
    ],
)  # fmt: skip
@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8])
@pytest.mark.filterwarnings("ignore")
def test_peaks_are_lightnings(name, dtype, precision):
    from lightning.fabric.utilities.throughput import get_available_flops as theirs

    older = any(word in name for word in ("V100", "T4", "2080", "TITAN"))
    with (
        mock.patch("torch.cuda.get_device_name", return_value=name),
        mock.patch("torch.cuda.get_device_capability", return_value=(7, 5) if older else (8, 0)),
        mock.patch("torch.get_float32_matmul_precision", return_value=precision),
    ):
        assert get_available_flops(torch.device("cuda"), dtype) == theirs(torch.device("cuda"), dtype)


def test_unknown_devices():
    assert get_available_flops(torch.device("cpu"), torch.float32) is None
    with mock.patch("torch.cuda.get_device_name", return_value="Abacus"), pytest.warns(UserWarning, match="Abacus"):
        assert get_available_flops(torch.device("cuda"), "float16") is None
