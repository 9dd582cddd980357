"""Attributes of modules: dictionaries with dots, and where the tuner finds what it changes."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from types import FrameType
from typing import Any

from fulmen.utilities.rank_zero import rank_zero_warn


def is_picklable(obj: object) -> bool:
    """Whether an object can be pickled, found out by doing it."""
    try:
        pickle.dumps(obj)
    except (pickle.PickleError, AttributeError, RuntimeError, TypeError):
        return False
    return True


def clean_namespace(hparams: MutableMapping[str, Any]) -> None:
    """Remove the entries that cannot be pickled, in place, with a warning for each."""
    for name in [name for name, value in hparams.items() if not is_picklable(value)]:
        rank_zero_warn(
            f"Attribute '{name}' removed from hparams because it cannot be pickled. You can suppress this warning by"
            f" setting `self.save_hyperparameters(ignore=['{name}'])`."
        )
        del hparams[name]


class AttributeDict(dict[str, Any]):
    """A dictionary whose text keys are attributes as well: ``d.lr`` is ``d["lr"]``.

    Raises:
        AttributeError: reading an attribute that is not there.
        KeyError: deleting one that is not there.
    """

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError as error:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{key}'") from error

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __delattr__(self, key: str) -> None:
        del self[key]

    def __repr__(self) -> str:
        # one entry a line, keys padded to a column
        width = max((len(str(key)) for key in self), default=0) + 3
        return "\n".join(f'{f""""{key}":""":<{width}} {self[key]}' for key in sorted(self))


def _holders(model: Any, attribute: str) -> Iterator[Any]:
    """Everything that has the attribute: the module, its hparams, then the data module and its hparams."""
    owners = [model]
    datamodule = getattr(model._trainer, "datamodule", None)
    if datamodule is not None:
        owners.append(datamodule)
    for owner in owners:
        if hasattr(owner, attribute):
            yield owner
        if hasattr(owner, "hparams") and attribute in owner.hparams:
            yield owner.hparams


def _all_holders(model: Any, attribute: str) -> list[Any]:
    holders = list(_holders(model, attribute))
    if not holders:
        raise AttributeError(
            f"{attribute} is neither stored in the model namespace nor the `hparams` namespace/dict, nor the datamodule"
            f". Define `self.{attribute}`, or pass the name of the attribute that you use instead."
        )
    return holders


def lightning_hasattr(model: Any, attribute: str) -> bool:
    """Whether a module, its hparams, the data module or its hparams have an attribute."""
    return next(_holders(model, attribute), None) is not None


def lightning_getattr(model: Any, attribute: str) -> Any:
    """Read an attribute from the data module's hparams, the data module, the module's hparams or the module.

    Args:
        model: the LightningModule.
        attribute: name; the first place of the above that has it counts.

    Raises:
        AttributeError: no place has it.
    """
    holder = _all_holders(model, attribute)[-1]
    return holder[attribute] if isinstance(holder, dict) else getattr(holder, attribute)


def lightning_setattr(model: Any, attribute: str, value: Any) -> None:
    """Set an attribute in every place that has it: module, its hparams, data module, its hparams.

    Args:
        model: the LightningModule.
        attribute: name.
        value: new value.

    Raises:
        AttributeError: no place has it.
    """
    for holder in _all_holders(model, attribute):
        if isinstance(holder, dict):
            holder[attribute] = value
        else:
            setattr(holder, attribute, value)


def save_hyperparameters(
    obj: Any,
    *args: Any,
    ignore: Sequence[str] | str | None = None,
    frame: FrameType | None = None,
    given_hparams: dict[str, Any] | None = None,
) -> None:
    """The method ``save_hyperparameters`` of modules and data modules, as a function.

    Args:
        obj: the module or data module.
        args: names of arguments to keep, or one object that holds them; nothing: all.
        ignore: names to leave out.
        frame: frame of the ``__init__`` whose arguments are meant; None: the caller's.
        given_hparams: the arguments themselves, instead of looking into a frame.
    """
    from fulmen.core.mixins.hparams_mixin import HyperparametersMixin

    frame = frame or sys._getframe(1)
    logger = getattr(obj, "_log_hyperparams", False)
    if given_hparams is None:
        HyperparametersMixin.save_hyperparameters(obj, *args, ignore=ignore, frame=frame, logger=logger)
        return
    left_out = {ignore} if isinstance(ignore, str) else set(ignore or ())
    names = [name for name in args or given_hparams if name not in left_out]
    chosen = {name: given_hparams[name] for name in names}
    HyperparametersMixin.save_hyperparameters(obj, chosen, ignore=ignore, frame=frame, logger=logger)
    obj._hparams_name = "kwargs" if chosen else None
