"""Where loaders come from: arguments of the entry point, the data module, or the module's hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fulmen.core.datamodule import LightningDataModule
from fulmen.core.module import LightningModule
from fulmen.trainer.states import TrainerFn
from fulmen.utilities.model_helpers import is_overridden

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

KINDS = ("train", "val", "test", "predict")


class Sources:
    """Knows for each kind of loader (``train``, ``val``, ``test``, ``predict``) whom to ask for it.

    Args:
        trainer: whose loaders.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._from: dict[str, Any] = {}

    def attach(self, module: LightningModule, datamodule: LightningDataModule | None, **loaders: Any) -> None:
        """Say where the loaders of the run about to start come from.

        Args:
            module: asked through its ``*_dataloader`` hooks, where nothing else is given.
            datamodule: asked through its hooks for all kinds, even those that it does not define.
            loaders: by kind; a loader, a collection of them, or None.

        Raises:
            KeyError: unknown kind.
        """
        unknown = loaders.keys() - set(KINDS)
        if unknown:
            raise KeyError(f"loaders: expected the kinds {KINDS}, received {sorted(unknown)}.")
        if datamodule is not None:
            self._from = dict.fromkeys(KINDS, datamodule)
            self.trainer.datamodule = datamodule
            datamodule.trainer = self.trainer
        else:
            given = {kind: loader for kind, loader in loaders.items() if loader is not None}
            self._from = {**dict.fromkeys(KINDS, module), **given}

    def given(self, kind: str) -> bool:
        """Whether the loaders of a kind were passed as they are, so that no hook is asked for them."""
        return not _is_asked(self._from.get(kind))

    def has(self, kind: str) -> bool:
        """Whether there are loaders of a kind, as far as one can tell without asking for them."""
        source = self._from.get(kind)
        return not _is_asked(source) or is_overridden(_hook(kind), source)

    def get(self, kind: str) -> Any:
        """Ask for the loaders of a kind.

        Returns:
            A loader or a collection of them, as it was given or as the hook returned it.
        """
        source = self._from[kind]
        if not _is_asked(source):
            return source
        with _running_hook(self.trainer, _hook(kind)):
            return getattr(source, _hook(kind))()

    def not_iterable(self, kind: str, loader: Any) -> TypeError:
        """The error for something among the loaders of a kind that cannot be iterated over."""
        source, hook = self._from[kind], _hook(kind)
        if _is_asked(source) and is_overridden(hook, source):
            return TypeError(
                f"An invalid dataloader was returned from `{type(source).__name__}.{hook}()`: expected an iterable or a"
                f" collection of them. Found {loader}."
            )
        fn = self.trainer.state.fn or TrainerFn.FITTING
        argument = f"{kind}_dataloaders" if fn is TrainerFn.FITTING else "dataloaders"
        cure = (
            f" Pass one, or define `{hook}()` in the LightningModule or LightningDataModule." if loader is None else ""
        )
        return TypeError(
            f"An invalid dataloader was passed to `Trainer.{fn.value}({argument}=...)`: expected an iterable or a"
            f" collection of them. Found {loader}.{cure}"
        )


def _hook(kind: str) -> str:
    return f"{kind}_dataloader"


def _is_asked(source: Any) -> bool:
    return source is None or isinstance(source, LightningModule | LightningDataModule)


@contextmanager
def _running_hook(trainer: Trainer, name: str) -> Iterator[None]:
    """Lets the trainer know which hook runs, so that logging inside it is refused by name."""
    before, trainer._hook = trainer._hook, name
    try:
        yield
    finally:
        trainer._hook = before
