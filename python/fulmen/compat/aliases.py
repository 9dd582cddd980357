"""Where Lightning's names are in fulmen: one table.

A path is written without its root, so that every spelling of it is one entry: ``pytorch.X`` stands for
``lightning.pytorch.X`` and ``pytorch_lightning.X``, ``fabric.X`` for ``lightning.fabric.X`` and ``lightning_fabric.X``,
and ``""`` for ``lightning`` itself.

By default a module is the one of the same path in fulmen (``pytorch.callbacks.timer`` → ``fulmen.callbacks.timer``),
with the names that it has. `MODULES` and `NAMES` hold what differs. To add a name: one line in `NAMES`.
"""

from __future__ import annotations

from typing import Final

from fulmen.compat.version import LIGHTNING_VERSION

ROOTS: Final = ("lightning", "pytorch_lightning", "lightning_fabric")

_VERSION: Final = f"={LIGHTNING_VERSION}"

MODULES: Final[dict[str, str | None]] = {
    "": "fulmen",
    "pytorch": "fulmen",
    "fabric": None,
    "fabric.loggers.logger": "fulmen.loggers.logger",
    "fabric.plugins.collectives": None,
    "fabric.plugins.collectives.torch_collective": None,
    "fabric.plugins.precision.utils": None,
    "fabric.strategies": "fulmen.strategies",
    "fabric.utilities.apply_func": "fulmen.utilities.move_data",
    "fabric.utilities.cloud_io": "fulmen.utilities.files",
    "fabric.utilities.device_parser": "fulmen.accelerators.gpu_ids",
    "fabric.utilities.distributed": None,
    "fabric.utilities.logger": "fulmen.loggers.utilities",
    "fabric.utilities.registry": "fulmen.accelerators.registry",
    "fabric.utilities.spike": "fulmen.callbacks.spike",
    "fabric.utilities.throughput": "fulmen.utilities.throughput",
    "fabric.wrappers": None,
    "pytorch.core.memory": None,
    "pytorch.loops": "fulmen.trainer.loops",
    "pytorch.loops.evaluation_loop": "fulmen.trainer.loops",
    "pytorch.loops.fit_loop": "fulmen.trainer.loops",
    "pytorch.loops.optimization": None,
    "pytorch.loops.optimization.automatic": None,
    "pytorch.loops.prediction_loop": "fulmen.trainer.loops",
    "pytorch.loops.training_epoch_loop": "fulmen.trainer.loops",
    "pytorch.overrides": None,
    "pytorch.overrides.distributed": None,
    "pytorch.trainer.call": None,
    "pytorch.trainer.connectors": None,
    "pytorch.trainer.connectors.accelerator_connector": None,
    "pytorch.trainer.connectors.checkpoint_connector": None,
    "pytorch.trainer.connectors.data_connector": None,
    "pytorch.trainer.connectors.logger_connector": None,
    "pytorch.trainer.connectors.logger_connector.logger_connector": None,
    "pytorch.trainer.connectors.logger_connector.result": None,
    "pytorch.trainer.connectors.signal_connector": None,
    "pytorch.utilities.cli": "fulmen.cli",
    "pytorch.utilities.cloud_io": "fulmen.utilities.files",
    "pytorch.utilities.distributed": "fulmen.utilities.rank_zero",
}
"""Module path → the module of fulmen that it stands for, where that is not the one of the same path; None: none, it has
only the names of `NAMES`."""

_STAND_INS: Final = "fulmen.compat.stand_ins"

NAMES: Final[dict[str, dict[str, str]]] = {
    "": {"__version__": _VERSION, "Fabric": f"{_STAND_INS}:Fabric"},
    "pytorch": {"__version__": _VERSION, "_logger": f"{_STAND_INS}:package_logger"},
    "fabric": {
        "__version__": _VERSION,
        "Fabric": f"{_STAND_INS}:Fabric",
        "seed_everything": "fulmen.utilities.seed:seed_everything",
        "is_wrapped": f"{_STAND_INS}:is_wrapped",
    },
    "fabric.plugins": {
        "Precision": "fulmen.precision.precision:Precision",
        "ClusterEnvironment": "fulmen.plugins.environments:ClusterEnvironment",
    },
    "fabric.plugins.collectives.torch_collective": {
        "default_pg_timeout": "torch.distributed.constants:default_pg_timeout",
    },
    "fabric.plugins.precision.utils": {"_convert_fp_tensor": f"{_STAND_INS}:convert_float_tensor"},
    "fabric.utilities": {
        "AttributeDict": "fulmen.utilities.parsing:AttributeDict",
        "rank_zero_only": "fulmen.utilities.rank_zero:rank_zero_only",
        "rank_zero_deprecation": "fulmen.utilities.rank_zero:rank_zero_deprecation",
        "rank_zero_info": "fulmen.utilities.rank_zero:rank_zero_info",
        "rank_zero_warn": "fulmen.utilities.rank_zero:rank_zero_warn",
    },
    "fabric.utilities.cloud_io": {
        "_atomic_save": f"{_STAND_INS}:atomic_save",
        "_is_dir": "fulmen.utilities.files:is_dir",
        "_is_local_file_protocol": f"{_STAND_INS}:is_local_path",
        "_is_object_storage": "fulmen.utilities.files:is_object_storage",
        "_load": "fulmen.utilities.files:load_file",
    },
    "fabric.utilities.data": {"AttributeDict": "fulmen.utilities.parsing:AttributeDict"},
    "fabric.utilities.distributed": {"_distributed_is_initialized": f"{_STAND_INS}:distributed_is_initialized"},
    "fabric.utilities.seed": {
        "_collect_rng_states": "fulmen.utilities.seed:_collect_rng_states",
        "_set_rng_states": "fulmen.utilities.seed:_set_rng_states",
    },
    "fabric.wrappers": {"is_wrapped": f"{_STAND_INS}:is_wrapped"},
    "pytorch.callbacks": {
        "ProgressBarBase": "fulmen.callbacks.progress.progress_bar:ProgressBar",
    },
    "pytorch.callbacks.model_checkpoint": {"_is_local_file_protocol": f"{_STAND_INS}:is_local_path"},
    "pytorch.core.memory": {"ModelSummary": "fulmen.utilities.model_summary:ModelSummary"},
    "pytorch.core.module": {"_jit_is_scripting": f"{_STAND_INS}:is_scripting"},
    "pytorch.core.saving": {
        "_load_from_checkpoint": f"{_STAND_INS}:load_from_checkpoint",
        "get_filesystem": "fulmen.utilities.files:get_filesystem",
        "pl_load": "fulmen.utilities.files:load_file",
    },
    "pytorch.loggers": {"LightningLoggerBase": "fulmen.loggers.logger:Logger"},
    "pytorch.loops": {
        "_EvaluationLoop": "fulmen.trainer.loops:EvaluationLoop",
        "_FitLoop": "fulmen.trainer.loops:FitLoop",
        "_PredictionLoop": "fulmen.trainer.loops:PredictionLoop",
        "_TrainingEpochLoop": "fulmen.trainer.loops:TrainingEpochLoop",
    },
    "pytorch.loops.evaluation_loop": {"_EvaluationLoop": "fulmen.trainer.loops:EvaluationLoop"},
    "pytorch.loops.fit_loop": {"_FitLoop": "fulmen.trainer.loops:FitLoop"},
    "pytorch.loops.optimization.automatic": {"ClosureResult": f"{_STAND_INS}:ClosureResult"},
    "pytorch.loops.prediction_loop": {"_PredictionLoop": "fulmen.trainer.loops:PredictionLoop"},
    "pytorch.loops.training_epoch_loop": {"_TrainingEpochLoop": "fulmen.trainer.loops:TrainingEpochLoop"},
    "pytorch.plugins": {"_PLUGIN_INPUT": f"{_STAND_INS}:PLUGIN_INPUT"},
    "pytorch.plugins.precision": {"PrecisionPlugin": "fulmen.precision.precision:Precision"},
    "pytorch.plugins.precision.precision": {"PrecisionPlugin": "fulmen.precision.precision:Precision"},
    "pytorch.trainer.call": {
        "_call_callback_hooks": f"{_STAND_INS}:call_callback_hooks",
        "_call_lightning_module_hook": f"{_STAND_INS}:call_lightning_module_hook",
        "_call_strategy_hook": f"{_STAND_INS}:call_strategy_hook",
    },
    "pytorch.trainer.connectors.accelerator_connector": {"_AcceleratorConnector": "fulmen.trainer.devices:Devices"},
    "pytorch.trainer.connectors.checkpoint_connector": {
        "_CheckpointConnector": "fulmen.trainer.checkpoint:Checkpoints"
    },
    "pytorch.trainer.connectors.data_connector": {"_DataConnector": "fulmen.trainer.data:Sources"},
    "pytorch.trainer.connectors.logger_connector": {"_LoggerConnector": "fulmen.trainer.logging:Ledger"},
    "pytorch.trainer.connectors.logger_connector.logger_connector": {
        "_LoggerConnector": "fulmen.trainer.logging:Ledger",
    },
    "pytorch.trainer.connectors.logger_connector.result": {
        "_OUT_DICT": f"{_STAND_INS}:OUT_DICT",
        "_ResultCollection": "fulmen.trainer.logging:Ledger",
        "_ResultMetric": "fulmen.trainer.logging_entry:Entry",
    },
    "pytorch.trainer.connectors.signal_connector": {"_SignalConnector": "fulmen.trainer.signals:Signals"},
    "pytorch.utilities.apply_func": {
        "apply_to_collection": "fulmen.utilities.nested:apply_to_collection",
        "move_data_to_device": "fulmen.utilities.move_data:move_data_to_device",
    },
    "pytorch.utilities.parsing": {"get_init_args": f"{_STAND_INS}:get_init_args"},
    "pytorch.utilities.cloud_io": {"load": "fulmen.utilities.files:load_file"},
}
"""Module path → name → "module:attribute" where it lives in fulmen ("=text": a constant). They go before the names that
the module has itself."""


def locate(root: str, rest: str) -> tuple[bool, str | None, dict[str, str]]:
    """What a module name under one of Lightning's roots stands for.

    Args:
        root: one of `ROOTS`.
        rest: the path below it, with dots; "" for the root itself.

    Returns:
        Whether the table knows that it exists; the module of fulmen, if any, whose names it has; further names.
    """
    path = canonical(root, rest)
    if path is None:
        return False, None, {}
    names = NAMES.get(path, {})
    if path in MODULES:
        return True, MODULES[path], names
    if not path.startswith(("pytorch.", "fabric.")):
        return False, None, {}
    return False, f"fulmen.{path.partition('.')[2]}", names


def canonical(root: str, rest: str) -> str | None:
    """The path as the table spells it."""
    if root == "pytorch_lightning":
        return f"pytorch.{rest}" if rest else "pytorch"
    if root == "lightning_fabric":
        return f"fabric.{rest}" if rest else "fabric"
    return rest
