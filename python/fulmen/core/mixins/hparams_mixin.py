"""Hyperparameters: the constructor's arguments, kept for checkpoints, loggers and `load_from_checkpoint`."""

from __future__ import annotations

import copy
import types
from argparse import Namespace
from collections.abc import Iterable, MutableMapping
from typing import Any

from fulmen.core.hparams import collect_arguments
from fulmen.utilities.parsing import AttributeDict

__all__ = ["HyperparametersMixin"]


class HyperparametersMixin:
    """Part of `LightningModule` and `LightningDataModule`."""

    __jit_unused_properties__: list[str] = ["hparams", "hparams_initial"]
    _hparams: AttributeDict | MutableMapping[str, Any]
    _hparams_initial: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._log_hyperparams = False

    def save_hyperparameters(
        self,
        *args: Any,
        ignore: Iterable[str] | str | None = None,
        frame: types.FrameType | None = None,
        logger: bool = True,
    ) -> None:
        """Keeps the arguments of the calling ``__init__`` in ``hparams``.

        Args:
            args: names of the arguments to keep, or one dict or Namespace that holds them; nothing: all.
            ignore: names to leave out.
            frame: frame of the ``__init__``; default: the caller's.
            logger: whether loggers get them too.

        Raises:
            KeyError: a name is no argument.
            ValueError: an object is neither a name, a dict nor a Namespace.
        """
        import inspect

        self._log_hyperparams = logger
        if frame is None:
            current = inspect.currentframe()
            assert current is not None
            frame = current.f_back
        assert frame is not None
        found, name = collect_arguments(self, frame, args, ignore)
        self._set_hparams(found, name)
        self.remove_ignored_hparams([ignore] if isinstance(ignore, str) else list(ignore or []))
        self._hparams_initial = copy.deepcopy(self._hparams)

    def remove_ignored_hparams(self, ignore_list: list[str]) -> None:
        """Drops what a base class may have saved under these names."""
        for key in ignore_list:
            self._hparams.pop(key, None)

    def _set_hparams(self, hp: Any, name: str | None = None) -> None:
        hp = self._to_hparams_dict(hp)
        if isinstance(hp, dict) and isinstance(getattr(self, "_hparams", None), dict):
            self._hparams.update(hp)
        else:
            self._hparams = hp
        self._hparams_name = name

    @staticmethod
    def _to_hparams_dict(hp: Any) -> Any:
        if isinstance(hp, Namespace):
            hp = vars(hp)
        if isinstance(hp, dict):
            return AttributeDict(hp)
        return hp

    @property
    def hparams(self) -> AttributeDict | MutableMapping[str, Any]:
        """The hyperparameters; what is changed here shows in checkpoints."""
        if not hasattr(self, "_hparams"):
            self._hparams = AttributeDict()
        return self._hparams

    @property
    def hparams_initial(self) -> AttributeDict:
        """The hyperparameters as they were when saved: a copy."""
        if not hasattr(self, "_hparams_initial"):
            return AttributeDict()
        initial: AttributeDict = copy.deepcopy(self._hparams_initial)
        return initial
