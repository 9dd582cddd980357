"""Small things that packages import from private places of Lightning, and that have no place of their own in fulmen.

Reached through the table of `fulmen.compat.aliases` only.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Union

import torch
from torch import Tensor

from fulmen import errors
from fulmen.plugins import CheckpointIO, LayerSync
from fulmen.plugins.environments import ClusterEnvironment
from fulmen.precision.precision import Precision

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

package_logger = logging.getLogger("fulmen")

PLUGIN_INPUT = Union[Precision, ClusterEnvironment, CheckpointIO, LayerSync, str]  # noqa: UP007 (inspected)
OUT_DICT = dict[str, Tensor]


class Fabric:
    """Lightning's second trainer, without a loop of its own: constructing one raises `fulmen.errors.NotYet`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise errors.NotYet("Fabric", "Use `fulmen.Trainer` with manual optimization, or a plain torch loop")


@dataclass
class ClosureResult:
    """The loss of one training step and what else it returned."""

    closure_loss: Tensor | None
    loss: Tensor | None = field(init=False, default=None)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loss = None if self.closure_loss is None else self.closure_loss.detach().clone()

    def asdict(self) -> dict[str, Any]:
        """Loss and extras in one dict."""
        return {"loss": self.loss, **self.extra}


def call_lightning_module_hook(
    trainer: Trainer, hook_name: str, *args: Any, pl_module: Any = None, **kwargs: Any
) -> Any:
    """Calls a hook of the module as the loops do."""
    module = pl_module if pl_module is not None else trainer.lightning_module
    return _call(trainer, hook_name, getattr(module, hook_name), *args, **kwargs)


def call_callback_hooks(trainer: Trainer, hook_name: str, *args: Any, **kwargs: Any) -> None:
    """Calls a hook of every callback as the loops do."""
    for callback in trainer.callbacks:
        _call(trainer, hook_name, getattr(callback, hook_name), trainer, trainer.lightning_module, *args, **kwargs)


def call_strategy_hook(trainer: Trainer, hook_name: str, *args: Any, **kwargs: Any) -> Any:
    """Calls a method of the strategy as the loops do."""
    return _call(trainer, hook_name, getattr(trainer.strategy, hook_name), *args, **kwargs)


def _call(trainer: Trainer, name: str, hook: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    before, trainer._hook = trainer._hook, name
    try:
        return hook(*args, **kwargs)
    finally:
        trainer._hook = before


def convert_float_tensor(tensor: Tensor, dst_type: str | torch.dtype) -> Tensor:
    """A floating-point tensor in another type; other tensors as they are."""
    return tensor.to(dst_type) if torch.is_floating_point(tensor) else tensor


def load_from_checkpoint(
    cls: Any,
    checkpoint_path: str | Path | IO[bytes],
    map_location: Any = None,
    hparams_file: str | Path | None = None,
    strict: bool | None = None,
    weights_only: bool | None = None,
    **kwargs: Any,
) -> Any:
    """A module or data module of class `cls` from a checkpoint; see ``LightningModule.load_from_checkpoint``."""
    from fulmen.core.datamodule import LightningDataModule

    options = {} if issubclass(cls, LightningDataModule) else {"strict": strict}
    return cls.load_from_checkpoint(
        checkpoint_path,
        map_location=map_location,
        hparams_file=hparams_file,
        weights_only=weights_only,
        **options,
        **kwargs,
    )


def get_init_args(frame: FrameType) -> tuple[Any | None, dict[str, Any]]:
    """The object that a constructor is building, and the arguments that it was given.

    Args:
        frame: the constructor's frame; it must mention ``super()`` or ``__class__``, by which its class is known.

    Returns:
        (None, {}) for any other frame.
    """
    values = frame.f_locals
    owner = values.get("__class__")
    if owner is None:
        return None, {}
    own, *parameters = inspect.signature(owner.__init__).parameters.values()
    arguments = {p.name: values[p.name] for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    for extra in (p.name for p in parameters if p.kind is p.VAR_KEYWORD):
        arguments.update(values[extra])
    return values[own.name], arguments


def atomic_save(checkpoint: dict[str, Any], filepath: str | Path) -> None:
    """Writes a checkpoint so that an interrupted write leaves nothing under the name."""
    from fulmen.plugins.io import TorchCheckpointIO

    TorchCheckpointIO().save_checkpoint(checkpoint, filepath)


def is_local_path(path: str | Path) -> bool:
    """Whether a path is one of this machine's files, not a URL of another kind."""
    from fulmen.utilities.files import is_remote

    return not is_remote(path)


def is_scripting() -> bool:
    """Whether torch is compiling a module into TorchScript now."""
    return bool(torch.jit.is_scripting())  # type: ignore[attr-defined]  # not in the stubs


def distributed_is_initialized() -> bool:
    """Whether a process group exists."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def is_wrapped(obj: object) -> bool:
    """Whether Fabric wrapped an object: never, here."""
    return False
