"""`LambdaCallback`: hooks from functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fulmen.callbacks.callback import Callback

__all__ = ["LambdaCallback"]

Hook = Callable[..., Any] | None


class LambdaCallback(Callback):
    """A callback put together from functions; each argument is the hook of that name.

    Example::

        Trainer(callbacks=[LambdaCallback(setup=lambda *args: print("setup"))])
    """

    def __init__(
        self,
        setup: Hook = None,
        teardown: Hook = None,
        on_fit_start: Hook = None,
        on_fit_end: Hook = None,
        on_sanity_check_start: Hook = None,
        on_sanity_check_end: Hook = None,
        on_train_batch_start: Hook = None,
        on_train_batch_end: Hook = None,
        on_train_epoch_start: Hook = None,
        on_train_epoch_end: Hook = None,
        on_validation_epoch_start: Hook = None,
        on_validation_epoch_end: Hook = None,
        on_test_epoch_start: Hook = None,
        on_test_epoch_end: Hook = None,
        on_validation_batch_start: Hook = None,
        on_validation_batch_end: Hook = None,
        on_test_batch_start: Hook = None,
        on_test_batch_end: Hook = None,
        on_train_start: Hook = None,
        on_train_end: Hook = None,
        on_validation_start: Hook = None,
        on_validation_end: Hook = None,
        on_test_start: Hook = None,
        on_test_end: Hook = None,
        on_exception: Hook = None,
        on_save_checkpoint: Hook = None,
        on_load_checkpoint: Hook = None,
        on_before_backward: Hook = None,
        on_after_backward: Hook = None,
        on_before_optimizer_step: Hook = None,
        on_before_zero_grad: Hook = None,
        on_predict_start: Hook = None,
        on_predict_end: Hook = None,
        on_predict_batch_start: Hook = None,
        on_predict_batch_end: Hook = None,
        on_predict_epoch_start: Hook = None,
        on_predict_epoch_end: Hook = None,
    ) -> None:
        given = {name: hook for name, hook in locals().items() if name not in ("self", "__class__")}
        for name, hook in given.items():
            if hook is not None:
                setattr(self, name, hook)
