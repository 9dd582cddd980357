"""The short way of `self.log` reads what `item()` gives, whatever kind of tensor it meets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fulmen._core import MetricStore

OPTIONS = (False, None, None, None, "mean", False, False, None, True, None, False)


def aligned_imaginary() -> Tensor:
    """Imaginary parts of a lazily conjugated tensor: their memory holds the negative."""
    return (torch.arange(32, dtype=torch.float32) * (1 + 2j)).conj().imag


KINDS: dict[str, Callable[[], Tensor]] = {
    "float32": lambda: torch.tensor(0.1),
    "float64": lambda: torch.tensor(0.1, dtype=torch.float64),
    "float16": lambda: torch.tensor(0.1, dtype=torch.float16),
    "bfloat16": lambda: torch.tensor(0.1, dtype=torch.bfloat16),
    "int64": lambda: torch.tensor(-7),
    "uint8": lambda: torch.tensor(200, dtype=torch.uint8),
    "bool": lambda: torch.tensor(True),
    "one element": lambda: torch.tensor([[0.3]]),
    "with a graph": lambda: torch.tensor(0.1, requires_grad=True) * 3,
    "an element of a larger one": lambda: torch.arange(40.0)[17],
    "an element where an allocation could begin": lambda: torch.arange(40.0)[16],
    "of memory that is not torch's": lambda: torch.frombuffer(bytearray(b"\0\1\2\3\4\5\6\7\x08"), dtype=torch.float32, offset=1, count=1),
    "real part, conjugated": lambda: torch.tensor(1 + 2j).conj().real,
    **{f"imaginary part {i}, conjugated": lambda i=i: aligned_imaginary()[i] for i in range(9)},
    "expanded": lambda: torch.tensor(2.5).expand(1, 1),
    "sparse": lambda: torch.tensor([2.5]).to_sparse().sum(),
    "infinite": lambda: torch.tensor(float("-inf")),
    "a zero without memory": lambda: torch._efficientzerotensor((1,)),
}  # fmt: skip


def logged(value: object) -> float | None:
    store = MetricStore()
    slot = store.add("sum", True)
    store.know("training_step", "x", slot, False, OPTIONS)
    prog_bar, logger, on_step, on_epoch, reduce_fx, graph, sync, group, suffix, attribute, alone = OPTIONS
    taken = store.log(
        "training_step", "x", value, prog_bar, logger, on_step, on_epoch, reduce_fx, graph, sync, group, suffix, None,
        attribute, alone,
    )  # fmt: skip
    return store.last(slot) if taken else None


@pytest.mark.parametrize("kind", KINDS)
def test_a_logged_value_is_what_item_gives(kind: str) -> None:
    value = KINDS[kind]()
    assert logged(value) == value.item()


def test_a_value_is_read_at_the_call() -> None:
    value = torch.tensor(1.0)
    store = MetricStore()
    slot = store.add("sum")
    store.know("h", "x", slot, False, OPTIONS)
    for _ in range(3):
        store.log("h", "x", value, *OPTIONS[:9], None, *OPTIONS[9:])
        value += 1
    assert store.compute(slot) == 6.0


def test_nan_stays_nan() -> None:
    assert str(logged(torch.tensor(float("nan")))) == "nan"


@pytest.mark.parametrize(
    "value",
    [torch.zeros(2), torch.zeros(0), torch.zeros((), device="meta"), torch.nn.Parameter(torch.zeros(())), "text", None],
    ids=["two", "none", "meta", "parameter", "text", "nothing"],
)
def test_whatever_takes_a_closer_look_is_left_to_the_long_way(value: object) -> None:
    assert logged(value) is None


def test_under_a_transformation_it_is_left_to_the_long_way() -> None:
    seen = []

    def look(x: Tensor) -> Tensor:
        seen.append(logged(x))
        return x

    torch.func.vmap(look)(torch.arange(3.0))
    torch.func.grad(lambda x: look(x) * 2)(torch.tensor(1.0))
    assert seen[0] is None
    assert seen[1] in (None, 1.0)
