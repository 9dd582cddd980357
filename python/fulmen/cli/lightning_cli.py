"""`LightningCLI`: a command line made from a module's and a trainer's arguments. Not built yet: the names are here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Optional, Union

import torch
from torch.optim import Optimizer

from fulmen import errors
from fulmen.callbacks.callback import Callback
from fulmen.core.datamodule import LightningDataModule
from fulmen.core.module import LightningModule
from fulmen.trainer.trainer import Trainer
from fulmen.utilities.types import LRSchedulerTypeTuple, LRSchedulerTypeUnion

# evaluated by tools that look at signatures, which know these forms in every Python version
ArgsType = Optional[Union[list[str], dict[str, Any]]]  # noqa: UP007, UP045 (a value that scripts import and inspect)
OptimizerCallable = Callable[[Any], Optimizer]

_DESCRIPTION = "Lightning Trainer command line tool"
_Options = dict[str, Any]
_INSTEAD = "Build module and `fulmen.Trainer` in the script, and parse its arguments with `argparse`"


class ReduceLROnPlateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
    """torch's scheduler, knowing the metric that it looks at.

    Args:
        optimizer: the optimizer.
        monitor: name of the logged metric.
        args: torch's arguments.
        kwargs: torch's arguments.
    """

    def __init__(self, optimizer: Optimizer, monitor: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(optimizer, *args, **kwargs)
        self.monitor = monitor


LRSchedulerCallable = Callable[[Optimizer], torch.optim.lr_scheduler.LRScheduler | ReduceLROnPlateau]


class LightningArgumentParser:
    """Not built yet: constructing one raises `fulmen.errors.NotYet`.

    Args:
        args: jsonargparse's arguments.
        description: text above the help.
        env_prefix: prefix of environment variables.
        default_env: whether to look at them.
        kwargs: jsonargparse's arguments.
    """

    callback_keys: list[str]

    def __init__(
        self,
        *args: Any,
        description: str = _DESCRIPTION,
        env_prefix: str = "PL",
        default_env: bool = False,
        **kwargs: Any,
    ) -> None:
        raise errors.NotYet("LightningArgumentParser", _INSTEAD)


class SaveConfigCallback(Callback):
    """Not built yet: constructing one raises `fulmen.errors.NotYet`.

    Args:
        parser: the parser that read the configuration.
        config: the configuration.
        config_filename: name of the file.
        overwrite: whether a file may be there already.
        multifile: whether the configuration came in several files.
        save_to_log_dir: whether to write the file into the logger's folder.
    """

    already_saved: bool

    def __init__(
        self,
        parser: LightningArgumentParser,
        config: Any,
        config_filename: str = "config.yaml",
        overwrite: bool = False,
        multifile: bool = False,
        save_to_log_dir: bool = True,
    ) -> None:
        raise errors.NotYet("SaveConfigCallback", "Log the configuration with `save_hyperparameters`")


class LightningCLI:
    """Not built yet: constructing one raises `fulmen.errors.NotYet`.

    Args:
        model_class: the module's class.
        datamodule_class: the data module's class.
        save_config_callback: callback that writes the configuration.
        save_config_kwargs: its arguments.
        trainer_class: the trainer's class.
        trainer_defaults: defaults of the trainer's arguments.
        seed_everything_default: default of the seed.
        parser_kwargs: arguments of the parser.
        parser_class: the parser's class.
        subclass_mode_model: whether `model_class` is a base class.
        subclass_mode_data: whether `datamodule_class` is a base class.
        args: arguments instead of ``sys.argv``.
        run: whether to run the subcommand.
        auto_configure_optimizers: whether optimizers may come from the command line.
        load_from_checkpoint_support: whether checkpoints of the module know their configuration.
    """

    def __init__(
        self,
        model_class: type[LightningModule] | Callable[..., LightningModule] | None = None,
        datamodule_class: type[LightningDataModule] | Callable[..., LightningDataModule] | None = None,
        save_config_callback: type[SaveConfigCallback] | None = SaveConfigCallback,
        save_config_kwargs: _Options | None = None,
        trainer_class: type[Trainer] | Callable[..., Trainer] = Trainer,
        trainer_defaults: _Options | None = None,
        seed_everything_default: int | bool = True,
        parser_kwargs: _Options | dict[str, _Options] | None = None,
        parser_class: type[LightningArgumentParser] = LightningArgumentParser,
        subclass_mode_model: bool = False,
        subclass_mode_data: bool = False,
        args: list[str] | _Options | None = None,
        run: bool = True,
        auto_configure_optimizers: bool = True,
        load_from_checkpoint_support: bool = True,
    ) -> None:
        raise errors.NotYet("LightningCLI", _INSTEAD)


def instantiate_class(args: Any, init: dict[str, Any]) -> Any:
    """Makes an object of the class that a configuration names.

    Args:
        args: the first arguments, one or a tuple.
        init: ``{"class_path": "package.module.Class", "init_args": {...}}``.

    Raises:
        ModuleNotFoundError, AttributeError: there is no such class.
    """
    first = args if isinstance(args, tuple) else (args,)
    module, _, name = init["class_path"].rpartition(".")
    made = getattr(importlib.import_module(module), name)
    return made(*first, **init.get("init_args", {}))


__all__ = ["ArgsType", "LRSchedulerCallable", "LRSchedulerTypeTuple", "LRSchedulerTypeUnion", "LightningArgumentParser"]
__all__ += ["LightningCLI", "OptimizerCallable", "ReduceLROnPlateau", "SaveConfigCallback", "instantiate_class"]
