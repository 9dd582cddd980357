"""Values that a function of the user's reduces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fulmen as L
from fulmen.utilities.exceptions import MisconfigurationException

VALUES = [3.0, -1.0, 2.0, 8.0, 5.0]


class Logs(L.LightningModule):
    def __init__(self, reduce_fx: Any, make: Callable[[float], Any] = float, **options: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.automatic_optimization = False
        self.reduce_fx, self.make, self.options = reduce_fx, make, options
        self.seen: list[float] = []

    def training_step(self, batch: float, batch_idx: int) -> None:
        value = self.make(batch + 10 * self.current_epoch)
        self.log("x", value, reduce_fx=self.reduce_fx, **self.options)
        if isinstance(value, Tensor):
            value.detach().zero_()

    def on_train_epoch_end(self) -> None:
        self.seen.append(self.trainer.callback_metrics.get("x_epoch", torch.tensor(0.0)).item())

    def validation_step(self, batch: float, batch_idx: int) -> None:
        self.log("val", batch, reduce_fx=self.reduce_fx)

    def configure_optimizers(self) -> None:
        return None


def fit(module: L.LightningModule, **options: Any) -> L.Trainer:
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                        enable_model_summary=False, log_every_n_steps=1, **{"max_epochs": 2, **options})  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(VALUES, batch_size=None))
    return trainer


@pytest.mark.parametrize("make", [float, torch.tensor, lambda v: torch.tensor([v], requires_grad=True) * 1])
@pytest.mark.parametrize("reduce_fx", [torch.median, torch.std, lambda values: float(values[-1] - values[0])])
def test_a_function_gets_the_values_of_the_epoch_in_their_order(make: Any, reduce_fx: Any) -> None:
    module = Logs(reduce_fx, make, on_step=True, on_epoch=True)
    trainer = fit(module)
    expected = [float(reduce_fx(torch.tensor(VALUES) + 10 * epoch)) for epoch in (0, 1)]
    assert module.seen == expected
    assert trainer.callback_metrics["x_epoch"].item() == expected[1]
    assert trainer.callback_metrics["x_step"].item() == VALUES[-1] + 10


def test_of_a_step_only_the_last_value_is_kept() -> None:
    trainer = fit(Logs(torch.median))
    entry = next(iter(trainer._ledger._training.values()))
    assert trainer.callback_metrics["x"].item() == VALUES[-1] + 10
    assert len(entry._values) <= 1


def test_an_evaluation(tmp_path: Any) -> None:
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    result = trainer.validate(Logs(torch.median), torch.utils.data.DataLoader(VALUES, batch_size=None), verbose=False)
    assert result == [{"val": 3.0}]


def test_whole_numbers_become_floats() -> None:
    trainer = fit(Logs(torch.median, lambda v: torch.tensor(int(v)), on_epoch=True), max_epochs=1)
    assert trainer.callback_metrics["x_epoch"].item() == 3.0
    assert trainer.callback_metrics["x_epoch"].dtype is torch.float32


@pytest.mark.parametrize(
    ("reduce_fx", "message"),
    [
        (lambda values: values, "a result of shape .2,. for 2 values"),
        (lambda values: "text", "gives "),
        (lambda: 1, "TypeError"),
        (torch.argmax, "argmax, which gives a result of type torch.int64"),
        (3, "a function that reduces"),
        ("median", "a function that reduces"),
    ],
)
def test_what_does_not_reduce_is_refused_at_the_first_call(reduce_fx: Any, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message) as caught:
        fit(Logs(reduce_fx))
    assert "reduce_fx={min,max,mean,sum}" in str(caught.value)
