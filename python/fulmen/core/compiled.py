"""Modules that went through ``torch.compile``: their steps are compiled too, and can be made plain again."""

from __future__ import annotations

import sys
from typing import Any

from fulmen import errors
from fulmen.core.module import LightningModule

STEPS = ("forward", "training_step", "validation_step", "test_step", "predict_step")


def is_compiled(model: Any) -> bool:
    """Is this what ``torch.compile(module)`` gave? Does not import the compiler to find out."""
    frame = sys.modules.get("torch._dynamo.eval_frame")
    return frame is not None and isinstance(model, frame.OptimizedModule)


def from_compiled(model: Any) -> LightningModule:
    """The module inside, with every step compiled by the same settings.

    Args:
        model: what ``torch.compile(module)`` gave.

    Returns:
        The module itself, changed in place; :func:`to_uncompiled` undoes it.

    Raises:
        ValueError: something else came.
    """
    if not is_compiled(model) or not isinstance(model._orig_mod, LightningModule):
        raise errors.value_error(
            "from_compiled(model)",
            "`model` is required to be a `OptimizedModule` around a LightningModule",
            model,
            "Call `torch.compile(module)` first",
        )
    module = model._orig_mod
    context = model.dynamo_ctx
    if module._compiler_ctx is None:
        originals = {f"original_{name}": getattr(module, name) for name in STEPS}
        module._compiler_ctx = {"compiler": "dynamo", "dynamo_ctx": context, **originals}
        for name in STEPS:
            setattr(module, name, context(getattr(module, name)))
    return module


def to_uncompiled(model: Any) -> LightningModule:
    """The plain module of a compiled one.

    Raises:
        ValueError: it was not compiled by way of this file.
        TypeError: it is no module at all.
    """
    if is_compiled(model):
        original = model._orig_mod
        if not isinstance(original, LightningModule):
            raise errors.type_error(
                "model", "a compiled LightningModule: Unexpected error, the wrapped model should be one", original,
                "Compile a LightningModule",
            )  # fmt: skip
    elif isinstance(model, LightningModule):
        if model._compiler_ctx is None:
            raise errors.value_error(
                "to_uncompiled(model)",
                "a compiled module: `model` is required to be a compiled LightningModule",
                model,
                "Found a non-compiled LightningModule instead: use it as it is",
            )
        original = model
    else:
        raise errors.value_error(
            "to_uncompiled(model)", "`model` must either be an instance of OptimizedModule or LightningModule", model,
            "Pass one of them",
        )  # fmt: skip
    context: dict[str, Any] = original._compiler_ctx or {}
    original._compiler_ctx = None
    for name in STEPS if context else ():
        setattr(original, name, context[f"original_{name}"])
    return original


def unwrap(model: Any) -> Any:
    """What a trainer runs when a user passes this: the module, with its compiled steps where it has some."""
    return from_compiled(model) if is_compiled(model) and isinstance(model._orig_mod, LightningModule) else model
