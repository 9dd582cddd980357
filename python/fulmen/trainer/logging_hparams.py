"""Hyperparameters on their way to the loggers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fulmen import errors

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer


def log_hyperparams(trainer: Trainer) -> None:
    """Sends the initial hyperparameters of module and data module, merged, and the graph.

    Raises:
        RuntimeError: both have a key with different values.
    """
    if not trainer.loggers or not trainer.enable_autolog_hparams:
        return
    module, datamodule = trainer.lightning_module, trainer.datamodule
    logs_module = module._log_hyperparams
    logs_data = datamodule is not None and datamodule._log_hyperparams
    merged = None
    if logs_module and logs_data:
        assert datamodule is not None
        ours, theirs = dict(module.hparams_initial), dict(datamodule.hparams_initial)
        differing = [
            k for k in ours.keys() & theirs.keys() if k not in ("_class_path",) and not _same(ours[k], theirs[k])
        ]
        if differing:
            raise errors.runtime_error(
                f"Error while merging hparams: the keys {sorted(differing, key=str)} are present in both the LightningModule's and "
                "LightningDataModule's hparams but have different values",
                "Rename one, or call `save_hyperparameters(logger=False)` in one of them",
            )
        merged = {**ours, **theirs}
    elif logs_module:
        merged = dict(module.hparams_initial)
    elif logs_data:
        assert datamodule is not None
        merged = dict(datamodule.hparams_initial)
    for logger in trainer.loggers:
        if merged is not None:
            logger.log_hyperparams({k: v for k, v in merged.items() if k not in ("_class_path", "_instantiator")})
        logger.log_graph(module)
        logger.save()


def _same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    return type(a) is type(b) and bool(a == b)
