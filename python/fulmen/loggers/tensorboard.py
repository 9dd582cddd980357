"""Event files for TensorBoard, and hyperparameters as a YAML file beside them."""

from __future__ import annotations

import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fulmen import errors
from fulmen.loggers import folders
from fulmen.loggers.logger import Logger, rank_zero_experiment
from fulmen.loggers.utilities import _add_prefix, _convert_params, _flatten_dict, _sanitize_params
from fulmen.utilities.imports import package_available
from fulmen.utilities.rank_zero import rank_zero_only, rank_zero_warn
from fulmen.utilities.types import _PATH

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from fulmen.callbacks.checkpoint import Checkpoint
    from fulmen.core.module import LightningModule

#: Events that wait for the event file's own thread.
_ROOM = 1000


class TensorBoardLogger(Logger):
    """Write event files into ``save_dir/name/version/sub_dir``.

    Uses ``torch.utils.tensorboard`` if ``tensorboard`` is installed, ``tensorboardX`` otherwise.

    Args:
        save_dir: folder of all experiments.
        name: name of the experiment, a folder in ``save_dir``; None or empty: versions lie in ``save_dir`` itself.
        version: a number N for the folder ``version_N``, a text for a folder of that name; None: the next free number.
        log_graph: record the module's graph, for which it needs an ``example_input_array``.
        default_hp_metric: log ``hp_metric`` = -1 with hyperparameters that come without metrics, since TensorBoard
            shows no hyperparameters otherwise.
        prefix: put before every metric's name, with a dash.
        sub_dir: folder below the version for the event files. Variables of the environment and ``~`` are replaced.
        kwargs: further arguments of ``SummaryWriter``, such as ``comment``, ``filename_suffix``, ``flush_secs``.

    Raises:
        ModuleNotFoundError: neither ``tensorboard`` nor ``tensorboardX`` is installed.
    """

    LOGGER_JOIN_CHAR = "-"
    threaded = True
    NAME_HPARAMS_FILE = "hparams.yaml"

    def __init__(
        self,
        save_dir: _PATH,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        log_graph: bool = False,
        default_hp_metric: bool = True,
        prefix: str = "",
        sub_dir: _PATH | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        has_tensorboard = package_available("tensorboard")
        if not has_tensorboard and not package_available("tensorboardX"):
            raise errors.missing_package("tensorboard", "TensorBoardLogger")
        if log_graph and not has_tensorboard:
            rank_zero_warn(
                "TensorBoardLogger(log_graph=True) needs `tensorboard`, which is not installed: no graph is logged. "
                "Install it: pip install tensorboard"
            )
        self.hparams: dict[str, Any] = {}
        self._save_dir = os.fspath(save_dir)
        self._name = name or ""
        self._version = version
        self._sub_dir = None if sub_dir is None else os.fspath(sub_dir)
        self._log_graph = log_graph and has_tensorboard
        self._default_hp_metric = default_hp_metric
        self._prefix = prefix
        self._kwargs = kwargs
        self._experiment: SummaryWriter | None = None
        self._hparams_saved = False

    @property
    def name(self) -> str:
        """Name of the experiment, or empty."""
        return self._name

    @property
    def version(self) -> int | str:
        """The version given, or the next free number, fixed when it is asked for first."""
        if self._version is None:
            self._version = folders.next_version(self.root_dir)
        return self._version

    @property
    def save_dir(self) -> str:
        """Folder of all experiments."""
        return self._save_dir

    @property
    def root_dir(self) -> str:
        """Folder of all versions of this experiment."""
        return os.path.join(self._save_dir, self.name)

    @property
    def sub_dir(self) -> str | None:
        """Folder below the version's one that holds the event files."""
        return self._sub_dir

    @property
    def log_dir(self) -> str:
        """Folder of the event files of this version."""
        version = self.version
        parts = [self.root_dir, version if isinstance(version, str) else f"version_{version}"]
        if self._sub_dir is not None:
            parts.append(self._sub_dir)
        return os.path.expanduser(os.path.expandvars(os.path.join(*parts)))

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """The ``SummaryWriter``, made when it is asked for first; a `DummyExperiment` on other ranks than 0."""
        if self._experiment is None:
            if self.root_dir:
                folders.make_folder(self.root_dir)
            # written out, since the command line reads from here which arguments `kwargs` may hold
            if package_available("tensorboard"):
                from torch.utils.tensorboard import SummaryWriter
            else:
                from tensorboardX import SummaryWriter  # type: ignore[no-redef]  # the same class of another package
            # with room for ten events, its default, every tenth call waits for the writer's own thread
            self._experiment = SummaryWriter(log_dir=self.log_dir, **{"max_queue": _ROOM, **self._kwargs})
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Record values.

        Args:
            metrics: name to number, one-element tensor, or a dictionary of those, which become curves of one plot.
            step: position on the x axis.

        Raises:
            ValueError: a value of another type.
        """
        self._record(metrics, step, None)

    def _log_rows(self, rows: Sequence[tuple[dict[str, Any], int | None, float]]) -> None:
        for metrics, step, when in rows:
            self._record(metrics, step, when)

    def _record(self, metrics: dict[str, Any], step: int | None, when: float | None) -> None:
        """Records a row, with the time when it was sent."""
        experiment = self.experiment
        named = _add_prefix(metrics, self._prefix, self.LOGGER_JOIN_CHAR)
        if _is_plain(experiment):
            summary = _one_summary(named)
            if summary is not None:
                experiment._get_file_writer().add_summary(summary, step, when)
                return
        moment = {} if when is None else {"walltime": when}
        for name, value in named.items():
            if isinstance(value, dict):
                experiment.add_scalars(name, value, step, **moment)
                continue
            try:
                experiment.add_scalar(name, value.item() if isinstance(value, Tensor) else value, step, **moment)
            except Exception as error:
                raise ValueError(
                    f"{name}: you tried to log {value} which is currently not supported. "
                    "Expected a number, a one-element tensor or a dict of them."
                ) from error

    @rank_zero_only
    def log_hyperparams(
        self,
        params: dict[str, Any] | Namespace,
        metrics: dict[str, Any] | float | None = None,
        step: int | None = None,
    ) -> None:
        """Record hyperparameters, and remember them for ``hparams.yaml``.

        Args:
            params: name to value, possibly nested.
            metrics: values to show beside them, or one for ``hp_metric``; None: see ``default_hp_metric``.
            step: position of ``metrics`` on the x axis.
        """
        params = _convert_params(params)
        self._remember(params)
        if metrics is None:
            metrics = {"hp_metric": -1} if self._default_hp_metric else {}
        elif not isinstance(metrics, dict):
            metrics = {"hp_metric": metrics}
        if not metrics:
            return
        self.log_metrics(metrics, step)
        flat = {
            # arrays of more than one dimension cannot be shown
            name: str(value) if getattr(value, "ndim", 0) > 1 else value
            for name, value in _sanitize_params(_flatten_dict(params)).items()
        }
        writer = self.experiment._get_file_writer()
        for summary in _summaries(flat, metrics):
            writer.add_summary(summary, step)

    @rank_zero_only
    def log_graph(self, model: LightningModule, input_array: Tensor | None = None) -> None:  # type: ignore[override]  # more arguments than the base has
        """Record the graph of a module, if the logger was made with ``log_graph=True``.

        Args:
            model: the module.
            input_array: tensor or tuple of arguments; None: ``model.example_input_array``.
        """
        if not self._log_graph:
            return
        if input_array is None:
            input_array = model.example_input_array
        if input_array is None:
            rank_zero_warn(
                "Could not log computational graph to TensorBoard: `model.example_input_array` is not set, and no "
                "`input_array` was given."
            )
        elif not isinstance(input_array, Tensor | tuple):
            rank_zero_warn(
                "Could not log computational graph to TensorBoard: `input_array` or `model.example_input_array` is of "
                f"type {type(input_array)}, which cannot be traced. Make it a tuple of the arguments of `forward()`."
            )
        else:
            input_array = model._apply_batch_transfer_handler(model._on_before_batch_transfer(input_array))
            self.experiment.add_graph(model, input_array)

    @rank_zero_only
    def save(self) -> None:
        """Flush the event file, and write ``hparams.yaml`` unless there is one."""
        self.experiment.flush()
        if self._hparams_saved:
            return
        path = os.path.join(self.log_dir, self.NAME_HPARAMS_FILE)
        if folders.is_folder(self.log_dir):
            if not folders.is_file(path):
                from fulmen.core.saving import save_hparams_to_yaml

                save_hparams_to_yaml(path, self.hparams)
            # this is called for every row: do not look at the disk every time
            self._hparams_saved = True

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush and close the event file; after a success also see to ``hparams.yaml``."""
        self._settle()
        if self._experiment is not None:
            self._experiment.flush()
            self._experiment.close()
        if status == "success":
            self.save()

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        """Nothing: checkpoints are files of their own."""

    def _remember(self, params: dict[str, Any]) -> None:
        if type(params).__module__.startswith("omegaconf"):
            from omegaconf import OmegaConf

            self.hparams = OmegaConf.merge(self.hparams, params)
        else:
            self.hparams.update(params)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_experiment": None}


def _is_plain(experiment: Any) -> bool:
    """Whether this is torch's writer, with an `add_scalar` that nobody replaced."""
    torch_writer = sys.modules.get("torch.utils.tensorboard.writer")
    if torch_writer is None or type(experiment) is not torch_writer.SummaryWriter:
        return False
    return (
        "add_scalar" not in experiment.__dict__
        and getattr(type(experiment).add_scalar, "__module__", None) == torch_writer.__name__
    )


def _one_summary(metrics: Mapping[str, Any]) -> Any:
    """A record of all values of a row, each as `SummaryWriter.add_scalar` records it; None if one is no plain number."""
    values = list(metrics.values())
    if not values or not all(type(value) in (float, int, bool) for value in values):
        return None
    from tensorboard.compat.proto.summary_pb2 import Summary

    try:
        return Summary(value=[Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()])
    except (TypeError, ValueError, OverflowError):
        # the long way knows which value it is
        return None


def _summaries(params: dict[str, Any], metrics: dict[str, Any]) -> Any:
    """The records that hold hyperparameters: the experiment, the start and the end of a session."""
    backend = "torch.utils.tensorboard" if package_available("tensorboard") else "tensorboardX"
    return importlib.import_module(f"{backend}.summary").hparams(params, metrics)


def __getattr__(name: str) -> Any:
    if name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        return package_available("tensorboardX" if "X" in name else "tensorboard")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
