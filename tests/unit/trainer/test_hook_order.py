"""The order of hooks that is written down is the one of recorded runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import fulmen as L
from fulmen.demos.boring_classes import BoringModel
from fulmen.trainer.hook_order import CLOSURE_STEP, DIRECT_STEP, MANUAL_STEP, OCCASIONAL, Block, fit_order

#: The forms of a step, and hooks whose overriding would change the form.
FORMS = {
    "direct": (DIRECT_STEP, {"optimizer_step", "optimizer_zero_grad", "backward"}),
    "closure": (CLOSURE_STEP, set()),
    "manual": (MANUAL_STEP, {"optimizer_step", "optimizer_zero_grad", "backward", "lr_scheduler_step"}),
}
TIMES = {"each epoch": 2, "each batch": 2, "each validation batch": 1}


def names(block: Block) -> Iterator[str]:
    for part in block.parts:
        yield from names(part) if isinstance(part, Block) else (part,)


def expanded(block: Block) -> Iterator[str]:
    """The calls of a run with so many epochs and batches."""
    for _ in range(TIMES.get(block.title, 1)):
        for part in block.parts:
            yield from expanded(part) if isinstance(part, Block) else (part,)


def recording(base: type, chosen: set[str], calls: list[tuple[str, str]]) -> type:
    """A class that writes down which of its hooks are called, and does what it did."""

    def wrapped(name: str) -> Any:
        def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append((base.__name__, name))
            return getattr(super(made, self), name)(*args, **kwargs)

        return hook

    made: Any = type(f"Recording{base.__name__}", (base,), {name: wrapped(name) for name in sorted(chosen)})
    return made


@pytest.mark.parametrize("form", list(FORMS))
def test_it_is_the_order_of_a_recorded_run(tmp_path: Path, form: str) -> None:
    step, untouched = FORMS[form]

    class Net(BoringModel):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = form != "manual"

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    order = fit_order(step)
    everything = set(names(order))
    calls: list[tuple[str, str]] = []
    module = recording(Net, {n for n in everything - untouched if hasattr(L.LightningModule, n)}, calls)()
    callback = recording(L.Callback, {n for n in everything if hasattr(L.Callback, n)}, calls)()
    trainer = L.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=2,
        enable_progress_bar=False, enable_model_summary=False, limit_train_batches=2, limit_val_batches=1,
        num_sanity_val_steps=1, callbacks=[callback],
    )  # fmt: skip
    trainer.fit(module)
    # callbacks and module are called under one name, callbacks first
    seen = [
        name for index, (_, name) in enumerate(calls) if not index or calls[index - 1][1] != name or
        calls[index - 1][0] == calls[index][0]
    ]  # fmt: skip
    assert seen == [name for name in expanded(order) if name not in untouched]
    for name in {name for owner, name in calls if owner == "Callback"}:
        owners = [owner for owner, called in calls if called == name]
        if "Net" in owners:
            assert owners == ["Callback", "Net"] * (len(owners) // 2), name


def test_no_hook_of_callbacks_is_left_out() -> None:
    hooks = {name for name in vars(L.Callback) if name.startswith("on_") or name in ("setup", "teardown")}
    other = {name for name in hooks if "_test_" in name or "_predict_" in name}
    assert hooks - other == (set(names(fit_order())) | set(OCCASIONAL.parts)) & hooks
