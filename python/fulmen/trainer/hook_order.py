"""The order of hooks in a fit, as data. The loops call them; this says in which order that is, for whoever wants to read it.

Recorded runs hold both together: `tests/unit/trainer/test_hook_order.py`. Hooks of one name are called for callbacks first, in
the trainer's order, then for the data module where it has the hook, the module, the strategy.
"""

from __future__ import annotations

from typing import NamedTuple


class Block(NamedTuple):
    """Hooks that belong together.

    Attributes:
        title: when they are called.
        parts: names of hooks, and blocks within this one.
    """

    title: str
    parts: tuple[str | Block, ...]


TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")

BACKWARD = (
    "training_step",
    "on_before_zero_grad",
    "optimizer_zero_grad",
    "on_before_backward",
    "backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
)

DIRECT_STEP = BACKWARD
"""The parts of a step where nobody packs them into a closure."""

CLOSURE_STEP = ("optimizer_step", *BACKWARD)
"""The same where the optimizer, or an ``optimizer_step``, calls the rest."""

MANUAL_STEP = ("training_step",)

EVALUATION = (
    "on_validation_model_eval",
    "on_validation_start",
    "on_validation_epoch_start",
    Block(
        "each validation batch",
        (*TRANSFER, "on_validation_batch_start", "validation_step", "on_validation_batch_end"),
    ),
    "on_validation_epoch_end",
    "on_validation_end",
    "on_validation_model_train",
)


def fit_order(step: tuple[str, ...] = DIRECT_STEP) -> Block:
    """The hooks of a fit.

    Args:
        step: the parts of a training step.
    """
    return Block(
        "fit",
        (
            Block(
                "set up",
                (
                    "configure_callbacks",
                    "prepare_data",
                    "setup",
                    "configure_model",
                    "configure_optimizers",
                    "on_fit_start",
                ),
            ),
            Block("sanity check", ("on_sanity_check_start", "val_dataloader", *EVALUATION, "on_sanity_check_end")),
            Block("start", ("train_dataloader", "on_train_start")),
            Block(
                "each epoch",
                (
                    "on_train_epoch_start",
                    Block(
                        "each batch",
                        (*TRANSFER, "on_train_batch_start", *step, "lr_scheduler_step", "on_train_batch_end"),
                    ),
                    Block("validation, where it is due", ("on_validation_model_zero_grad", *EVALUATION)),
                    "on_train_epoch_end",
                ),
            ),
            Block("end", ("on_train_end", "on_fit_end", "teardown")),
        ),
    )


OCCASIONAL = Block("where it happens", ("on_save_checkpoint", "on_load_checkpoint", "on_exception"))
