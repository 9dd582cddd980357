"""Log to Neptune."""

from __future__ import annotations

import os
import uuid
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fulmen import errors
from fulmen.loggers.logger import Logger, rank_zero_experiment
from fulmen.loggers.utilities import _add_prefix, _convert_params, require_client
from fulmen.utilities.rank_zero import rank_zero_only

if TYPE_CHECKING:
    from torch import nn

#: The service knows this field, and shows such runs as it does those of Lightning.
_INTEGRATION = "source_code/integrations/pytorch-lightning"


class NeptuneLogger(Logger):
    """Log to Neptune (``pip install neptune``), with the arguments that Lightning's logger had up to 2.5.

    The hosted service was shut down; what remains is the client's offline mode (``mode="offline"``), whose files lie in
    ``.neptune``, and servers of one's own. The run starts when something is logged first.

    Args:
        api_key: the token; None: the variable ``NEPTUNE_API_TOKEN`` of the environment.
        project: ``workspace/project``; None: the variable ``NEPTUNE_PROJECT`` of the environment.
        name: name that is displayed for the run.
        run: a run of ``neptune.init_run`` (or a handler of one) to use; excludes the arguments before, and ``kwargs``.
        log_model_checkpoints: send the files of checkpoint callbacks, and remove those that these removed.
        prefix: namespace of everything that is logged; empty: none.
        kwargs: further arguments of ``neptune.init_run``, such as ``mode``, ``tags``, ``with_id``.

    Raises:
        ModuleNotFoundError: neptune is not installed.
        ValueError: ``run`` together with arguments that would start another one.
    """

    LOGGER_JOIN_CHAR = "/"
    PARAMETERS_KEY = "hyperparams"
    ARTIFACTS_KEY = "artifacts"

    def __init__(
        self,
        *,
        api_key: str | None = None,
        project: str | None = None,
        name: str | None = None,
        run: Any = None,
        log_model_checkpoints: bool | None = True,
        prefix: str = "training",
        **kwargs: Any,
    ) -> None:
        require_client("neptune", "NeptuneLogger")
        arguments = {"api_token": api_key, "project": project, "name": name, **kwargs}
        given = {key: value for key, value in arguments.items() if value is not None}
        if run is not None and given:
            names = ", ".join(sorted(given)).replace("api_token", "api_key")
            raise errors.value_error(
                "NeptuneLogger(run)",
                f"None together with {names}",
                errors.Words("a run"),
                "Give them to neptune.init_run",
            )
        super().__init__()
        self._arguments = given
        self._run = run
        self._name = name
        self._version: str | None = None
        self._prefix = prefix
        self._log_model_checkpoints = log_model_checkpoints
        self._sent: dict[str, float] = {}
        self._offline = run is None and (given.get("mode") or os.environ.get("NEPTUNE_MODE")) == "offline"
        if self._offline:
            # without a server nobody else gives the run an id
            self._version = uuid.uuid4().hex

    def __getstate__(self) -> dict[str, Any]:
        # the connection stays here; another process goes on with the same run, by its id, if a server knows it
        state = {**self.__dict__, "_run": None}
        if self._run is not None and not self._offline:
            state["_arguments"] = {**self._arguments, "with_id": self.version}
        return state

    @property
    def name(self) -> str | None:
        """The run's name."""
        return self._name

    @property
    def version(self) -> str | None:
        """The run's short id; starts the run. In offline mode an id that the logger makes, and logs as ``version``."""
        if self._version is None and rank_zero_only.rank == 0:
            run = self.experiment
            # a handler speaks of one namespace of its run
            root = run.get_root_object() if hasattr(run, "get_root_object") else run
            try:
                self._version = root["sys/id"].fetch()
            except (KeyError, AttributeError):
                # a run without a server that was started elsewhere
                self._version = "offline"
        return self._version

    @property
    def save_dir(self) -> str:
        """Folder of the client's files."""
        return os.path.join(os.getcwd(), ".neptune")

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The client's run, started when it is asked for first; a `DummyExperiment` on other ranks than 0."""
        if self._run is None:
            import neptune

            self._run = neptune.init_run(**self._arguments)
            self._run[_INTEGRATION] = _fulmen_version()
            if self._offline:
                self._run[self._path("version")] = self._version
        return self._run

    @property
    def run(self) -> Any:
        """The same as `experiment`."""
        return self.experiment

    def _path(self, *parts: str) -> str:
        return self.LOGGER_JOIN_CHAR.join(part for part in (self._prefix, *parts) if part)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log hyperparameters into the namespace ``hyperparams``; what the client cannot hold, as text."""
        from neptune.utils import stringify_unsupported

        self.experiment[self._path(self.PARAMETERS_KEY)] = stringify_unsupported(_convert_params(params))

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Append values to their series.

        Args:
            metrics: name to number or one-element tensor.
            step: not sent, since the client takes ascending steps only, and a trainer's rows are not; the metric
                ``epoch`` is there.
        """
        run = self.experiment
        for name, value in _add_prefix(metrics, self._prefix, self.LOGGER_JOIN_CHAR).items():
            run[name].append(value.item() if isinstance(value, Tensor) else value)

    @rank_zero_only
    def log_model_summary(self, model: nn.Module, max_depth: int = -1) -> None:
        """Log a module's summary as a text file, ``model/summary``.

        Args:
            model: the module.
            max_depth: depth of nested modules; -1: all, 0: none.
        """
        from neptune.types import File

        from fulmen.utilities.model_summary import ModelSummary

        text = str(ModelSummary(model, max_depth=max_depth))  # type: ignore[arg-type]  # any module will do
        self.experiment[self._path("model", "summary")] = File.from_content(content=text, extension="txt")

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Send new checkpoints, remove those that are gone, and say which is the best."""
        if not self._log_model_checkpoints:
            return
        kept = [checkpoint_callback.last_model_path, *getattr(checkpoint_callback, "best_k_models", {})]
        files = {_stem(path, checkpoint_callback): path for path in kept if path and os.path.isfile(path)}
        run = self.experiment
        for name, path in files.items():
            time = os.stat(path).st_mtime
            if self._sent.get(name) != time:
                run[self._path("model", "checkpoints", name)].upload(path)
                self._sent[name] = time
        for name in [name for name in self._sent if name not in files]:
            del self._sent[name]
            del run[self._path("model", "checkpoints", name)]
        if checkpoint_callback.best_model_path:
            run[self._path("model", "best_model_path")] = checkpoint_callback.best_model_path
        score = checkpoint_callback.best_model_score
        if score is not None:
            run[self._path("model", "best_model_score")] = float(score)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Log the status. The run goes on, for more to be logged; ``experiment.stop()`` ends it."""
        if self._run is not None:
            self._run[self._path("status")] = status


def _stem(path: str, callback: Any) -> str:
    """A checkpoint's place below the callback's folder, without its ending."""
    folder = Path(callback.dirpath) if callback.dirpath else Path(path).parent
    whole = Path(path)
    below = whole.relative_to(folder) if folder in whole.parents else Path(whole.name)
    return below.as_posix().removesuffix(".ckpt")


def _fulmen_version() -> str:
    from fulmen._core import __version__ as version

    return version
