"""Log to an MLflow tracking server, or to its files."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Literal

from fulmen import errors
from fulmen.loggers.logger import Logger, rank_zero_experiment
from fulmen.loggers.uploads import Upload, Uploads
from fulmen.loggers.utilities import _add_prefix, _convert_params, _flatten_dict, require_client
from fulmen.utilities.imports import requirement_available
from fulmen.utilities.rank_zero import rank_zero_only, rank_zero_warn

if TYPE_CHECKING:
    from fulmen.callbacks.checkpoint import Checkpoint

log = logging.getLogger(__name__)

_FILES = "file:"
_LONGEST_PARAM = 250
_PARAMS_PER_CALL = 100
#: What a server takes at most in one call.
_METRICS_PER_CALL = 1000
_RUN_NAME_TAG = "mlflow.runName"
_NOT_ALLOWED = re.compile("[^a-zA-Z0-9_/. -]+")
_STATUS = {"success": "FINISHED", "finished": "FINISHED", "failed": "FAILED"}


class MLFlowLogger(Logger):
    """Log to MLflow (``pip install mlflow`` or ``mlflow-skinny``).

    The run starts when something is logged first.

    Args:
        experiment_name: the experiment, which is made if there is none.
        run_name: name of the run.
        tracking_uri: address of the server; None: the variable ``MLFLOW_TRACKING_URI`` of the environment, else files
            in ``save_dir``.
        tags: tags of the run.
        save_dir: folder of the files, without an address.
        log_model: send checkpoints: ``"all"``: each when it is written; True: those left at the end; False: none.
        prefix: put before every metric's name, with a dash.
        artifact_location: where a new experiment keeps its artifacts.
        run_id: a run to go on with.
        synchronous: wait for the server at every call; None: the client's default. Needs mlflow 2.8.

    Raises:
        ModuleNotFoundError: mlflow is not installed, or older than ``synchronous`` needs.
    """

    LOGGER_JOIN_CHAR = "-"
    threaded = True

    def __init__(
        self,
        experiment_name: str = "lightning_logs",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: dict[str, Any] | None = None,
        save_dir: str | None = "./mlruns",
        log_model: Literal[True, False, "all"] = False,
        prefix: str = "",
        artifact_location: str | None = None,
        run_id: str | None = None,
        synchronous: bool | None = None,
    ) -> None:
        require_client("mlflow", "MLFlowLogger")
        if synchronous is not None and not __getattr__("_MLFLOW_SYNCHRONOUS_AVAILABLE"):
            raise errors.missing_package("mlflow", "MLFlowLogger(synchronous)", "mlflow>=2.8.0")
        super().__init__()
        self.tags = tags
        self._experiment_name = experiment_name
        self._run_name = run_name
        self._tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{_FILES}{save_dir}"
        self._prefix = prefix
        self._artifact_location = artifact_location
        self._run_id = run_id
        self._experiment_id: str | None = None
        self._log_batch_kwargs = {} if synchronous is None else {"synchronous": synchronous}
        self._initialized = False
        self._uploads = Uploads(log_model, self._send)
        if self._tracking_uri.startswith(_FILES):
            # mlflow 3 opens its files only for those who say that they want to go on with them, as `save_dir` does
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

        from mlflow.tracking import MlflowClient

        self._mlflow_client = MlflowClient(self._tracking_uri)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The client, its run started when it is asked for first; a `DummyExperiment` on other ranks than 0."""
        if not self._initialized:
            self._start()
            self._initialized = True
        return self._mlflow_client

    def _start(self) -> None:
        import mlflow

        # artifacts go through the global address
        mlflow.set_tracking_uri(self._tracking_uri)
        client = self._mlflow_client
        if self._run_id is not None:
            self._experiment_id = client.get_run(self._run_id).info.experiment_id
            return
        if self._experiment_id is None:
            self._experiment_id = self._find_or_make_experiment()
        if self._run_name is not None:
            self.tags = self.tags or {}
            if _RUN_NAME_TAG in self.tags:
                log.warning(f"The tag {_RUN_NAME_TAG} gives way to run_name={self._run_name!r}.")
            self.tags[_RUN_NAME_TAG] = self._run_name
        run = client.create_run(experiment_id=self._experiment_id, tags=_get_resolve_tags()(self.tags))
        self._run_id = run.info.run_id

    def _find_or_make_experiment(self) -> str | None:
        client, name = self._mlflow_client, self._experiment_name
        found = client.get_experiment_by_name(name)
        experiment_id: str | None
        if found is not None and found.lifecycle_stage != "deleted":
            experiment_id = found.experiment_id
        else:
            log.warning(f"Experiment with name {name} not found. Creating it.")
            experiment_id = client.create_experiment(name=name, artifact_location=self._artifact_location)
        return experiment_id

    @property
    def run_id(self) -> str | None:
        """The run's id; starts the run."""
        _ = self.experiment
        return self._run_id

    @property
    def experiment_id(self) -> str | None:
        """The experiment's id; starts the run."""
        _ = self.experiment
        return self._experiment_id

    @property
    def name(self) -> str | None:
        """The experiment's id; starts the run."""
        return self.experiment_id

    @property
    def version(self) -> str | None:
        """The run's id; starts the run."""
        return self.run_id

    @property
    def save_dir(self) -> str | None:
        """Folder of the files, or None with a server."""
        return self._tracking_uri.removeprefix(_FILES) if self._tracking_uri.startswith(_FILES) else None

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log hyperparameters, flattened, as text of at most 250 characters."""
        from mlflow.entities import Param

        flat = _flatten_dict(_convert_params(params))
        entities = [Param(key=name, value=str(value)[:_LONGEST_PARAM]) for name, value in flat.items()]
        for start in range(0, len(entities), _PARAMS_PER_CALL):
            self._log_batch(params=entities[start : start + _PARAMS_PER_CALL])

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Log values.

        Args:
            metrics: name to number; text is dropped, and so are characters of names that MLflow does not allow.
            step: position on the x axis; None: 0.
        """
        self._log_batch(metrics=list(self._entities(metrics, step, time())))

    def _log_rows(self, rows: Sequence[tuple[dict[str, Any], int | None, float]]) -> None:
        entities = [entity for metrics, step, when in rows for entity in self._entities(metrics, step, when)]
        for start in range(0, len(entities), _METRICS_PER_CALL):
            self._log_batch(metrics=entities[start : start + _METRICS_PER_CALL])

    def _entities(self, metrics: dict[str, Any], step: int | None, when: float) -> Iterator[Any]:
        from mlflow.entities import Metric

        for name, value in _add_prefix(metrics, self._prefix, self.LOGGER_JOIN_CHAR).items():
            if isinstance(value, str):
                log.warning(f"Discarding metric with string value {name}={value}.")
                continue
            yield Metric(key=_allowed(name), value=value, timestamp=int(when * 1000), step=step or 0)

    def _log_batch(self, **what: Any) -> None:
        self.experiment.log_batch(run_id=self.run_id, **what, **self._log_batch_kwargs)

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        """Send new checkpoints now or at the end, see ``log_model``."""
        self._uploads.saved(checkpoint_callback)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Send the checkpoints that are left, and end the run, if one was started in this process."""
        if not self._initialized:
            return
        self._uploads.finish()
        client = self.experiment
        if client.get_run(self.run_id):
            client.set_terminated(self.run_id, _STATUS.get(status, status))

    def _send(self, callback: Any, upload: Upload) -> None:
        import yaml

        metadata = {"score": upload.score, "original_filename": upload.filename, "Checkpoint": upload.settings}
        folder = Path(upload.path).stem
        client, run = self.experiment, self._run_id
        client.log_artifact(run, upload.path, folder)
        with tempfile.TemporaryDirectory() as temporary:
            Path(temporary, "metadata.yaml").write_text(yaml.dump(metadata, default_flow_style=False))
            Path(temporary, "aliases.txt").write_text(str(upload.aliases))
            client.log_artifacts(run, temporary, folder)


def _allowed(name: str) -> str:
    allowed = _NOT_ALLOWED.sub("", name)
    if allowed != name:
        rank_zero_warn(
            "MLFlow only allows letters, digits, '_', '/', '.', '-' and ' ', no other special characters in metric name. "
            f"Replacing {name} with {allowed}.",
            category=RuntimeWarning,
        )
    return allowed


def _get_resolve_tags() -> Any:
    """The client's function that adds its own tags (user, source, commit) to those given."""
    from mlflow.tracking.context.registry import resolve_tags

    return resolve_tags


def __getattr__(name: str) -> Any:
    if name == "_MLFLOW_SYNCHRONOUS_AVAILABLE":
        return any(requirement_available(f"{package}>=2.8.0") for package in ("mlflow", "mlflow-skinny"))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
