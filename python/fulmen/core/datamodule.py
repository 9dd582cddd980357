"""`LightningDataModule`: the loaders of a run, and what they need."""

from __future__ import annotations

import inspect
import os
from typing import Any

from torch.utils._pytree import tree_flatten
from torch.utils.data import DataLoader, Dataset, IterableDataset

from fulmen.core.hooks import DataHooks
from fulmen.core.mixins.hparams_mixin import HyperparametersMixin
from fulmen.utilities.model_helpers import _restricted_classmethod, is_overridden

__all__ = ["LightningDataModule"]


class LightningDataModule(DataHooks, HyperparametersMixin):
    """Prepare data once, set it up in every process, give loaders, clean up."""

    name: str | None = None
    CHECKPOINT_HYPER_PARAMS_KEY = "datamodule_hyper_parameters"
    CHECKPOINT_HYPER_PARAMS_NAME = "datamodule_hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE = "datamodule_hparams_type"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trainer: Any = None

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Any = None,
        val_dataset: Any = None,
        test_dataset: Any = None,
        predict_dataset: Any = None,
        batch_size: int = 1,
        num_workers: int = 0,
        **datamodule_kwargs: Any,
    ) -> LightningDataModule:
        """A data module over data sets: only the training loader shuffles."""

        def loader(dataset: Any, shuffle: bool = False) -> Any:
            shuffle = shuffle and not isinstance(dataset, IterableDataset)
            return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, num_workers=num_workers, pin_memory=True)

        def loaders(data: Any, shuffle: bool = False) -> Any:
            if isinstance(data, dict):
                return {k: loader(v, shuffle) for k, v in data.items()}
            if isinstance(data, (list, tuple)) and not isinstance(data, Dataset):
                return [loader(v, shuffle) for v in data]
            return loader(data, shuffle)

        accepted = inspect.signature(cls.__init__).parameters
        anything = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
        for name, value in (("batch_size", batch_size), ("num_workers", num_workers)):
            if anything or name in accepted:
                datamodule_kwargs[name] = value
        made = cls(**datamodule_kwargs) if cls is not LightningDataModule else cls()
        for name, data, shuffle in (
            ("train", train_dataset, True), ("val", val_dataset, False), ("test", test_dataset, False),
            ("predict", predict_dataset, False),
        ):  # fmt: skip
            if data is not None:
                setattr(made, f"{name}_dataloader", lambda d=data, s=shuffle: loaders(d, s))
        return made

    def __str__(self) -> str:
        """The sizes of the data sets of every kind, as far as loaders can be had now."""
        kinds = (("Train", "train"), ("Validation", "val"), ("Test", "test"), ("Predict", "predict"))
        return os.linesep.join(f"{{{label} dataloader: {self._sizes(kind)}}}" for label, kind in kinds)

    def _sizes(self, kind: str) -> str:
        if not is_overridden(f"{kind}_dataloader", self):
            return "None"
        try:
            loaders = getattr(self, f"{kind}_dataloader")()
        except Exception:  # the user's hook may need a setup that has not run
            return "None"
        several = [loader for loader in tree_flatten(loaders)[0] if hasattr(loader, "dataset")]
        sizes = [_size(loader.dataset) for loader in several]
        if len(sizes) == 1:
            return f"size={sizes[0]}"
        return " ; ".join(f"{i}. size={size}" for i, size in enumerate(sizes, 1)) or "None"

    def state_dict(self) -> dict[str, Any]:
        """What checkpoints keep."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave."""

    def on_exception(self, exception: BaseException) -> None:
        """The run ends by this exception."""

    @_restricted_classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Builds the data module from a checkpoint's hyperparameters and state; ``kwargs`` replace arguments."""
        from fulmen.core.saving import load_datamodule

        return load_datamodule(cls, checkpoint_path, map_location, hparams_file, weights_only, kwargs)


def _size(dataset: Any) -> int | str:
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return "NA"
