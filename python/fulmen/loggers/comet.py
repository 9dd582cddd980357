"""Log to Comet."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from fulmen.loggers.logger import Logger, rank_zero_experiment
from fulmen.loggers.utilities import _convert_params, require_client
from fulmen.utilities.rank_zero import rank_zero_only, rank_zero_warn

if TYPE_CHECKING:
    from torch import nn

#: The service knows this name, and shows such experiments as it does those of Lightning.
FRAMEWORK_NAME = "pytorch-lightning"


class CometLogger(Logger):
    """Log to Comet (``pip install comet-ml``).

    The experiment starts with the logger, on rank 0.

    Args:
        api_key: the key; None: the client's configuration.
        workspace: the workspace; None: the default one.
        project: the project.
        experiment_key: key of an experiment to go on with.
        mode: ``"get"``: there has to be such an experiment; ``"create"``: make a new one; ``"get_or_create"``.
        online: False: log into an archive in ``offline_directory``, which ``comet upload`` sends later; no key is needed.
        prefix: put before every metric's name, by the client.
        kwargs: arguments of ``comet_ml.ExperimentConfig``, such as ``name``, ``tags``, ``offline_directory``; also the
            names of earlier versions: ``experiment_name``, ``project_name``, ``save_dir``, ``offline``.

    Raises:
        ModuleNotFoundError: comet_ml is not installed.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        workspace: str | None = None,
        project: str | None = None,
        experiment_key: str | None = None,
        mode: Literal["get_or_create", "get", "create"] | None = None,
        online: bool | None = None,
        prefix: str | None = None,
        **kwargs: Any,
    ) -> None:
        require_client("comet_ml", "CometLogger", pip="comet-ml")
        super().__init__()
        _rename(kwargs, "experiment_name", kwargs, "name")
        _rename(kwargs, "save_dir", kwargs, "offline_directory")
        arguments = {"project": project, "online": online}
        _rename(kwargs, "project_name", arguments, "project")
        if "offline" in kwargs:
            kwargs["offline"] = not kwargs["offline"]
        _rename(kwargs, "offline", arguments, "online")
        self._start_arguments = {
            "api_key": api_key,
            "workspace": workspace,
            **arguments,
            "experiment_key": experiment_key,
            "mode": mode,
        }
        self._kwargs = kwargs
        self._prefix = prefix
        self._project_name: Any = arguments["project"]
        self._experiment: Any = None

        # has to be set before the client is imported
        os.environ["COMET_DISABLE_AUTO_LOGGING"] = "1"
        import comet_ml

        self._comet_config = comet_ml.ExperimentConfig(**kwargs)
        if rank_zero_only.rank == 0:
            self._experiment = self._start()

    def _start(self) -> Any:
        import comet_ml

        experiment = comet_ml.start(**self._start_arguments, experiment_config=self._comet_config)
        if experiment is None:
            raise comet_ml.exceptions.ExperimentNotFound("Comet gave no experiment: check key, workspace and mode.")
        self._start_arguments["experiment_key"] = experiment.get_key()
        self._project_name = experiment.project_name
        experiment.log_other("Created from", FRAMEWORK_NAME)
        return experiment

    def __getstate__(self) -> dict[str, Any]:
        # the connection stays here; another process goes on with the same experiment, by its key
        return {**self.__dict__, "_experiment": None}

    @property
    def name(self) -> str | None:
        """The project."""
        name: str | None = self._project_name
        return name

    @property
    def version(self) -> str | None:
        """The experiment's key, or None if there is no experiment in this process."""
        return None if self._experiment is None else self._experiment.get_key()

    @property
    def save_dir(self) -> str | None:
        """Folder of the files of an experiment that is not online."""
        folder: str | None = self._comet_config.offline_directory
        return folder

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The client's experiment; a `DummyExperiment` on other ranks than 0."""
        if self._experiment is None:
            # in a process that was started by another one
            self._experiment = self._start()
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log hyperparameters; nested ones are flattened by the client."""
        log_parameters = getattr(self.experiment, "__internal_api__log_parameters__")  # noqa: B009 (no name mangling)
        log_parameters(
            parameters=_convert_params(params), framework=FRAMEWORK_NAME, flatten_nested=True, source="manual"
        )

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Log values.

        Args:
            metrics: name to value; ``epoch`` goes where the client has epochs.
            step: position on the x axis.
        """
        row = {name: value.detach().cpu() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        epoch = row.pop("epoch", None)
        log_metrics = getattr(self.experiment, "__internal_api__log_metrics__")  # noqa: B009 (no name mangling)
        log_metrics(row, step=step, epoch=epoch, prefix=self._prefix, framework=FRAMEWORK_NAME)

    @rank_zero_only
    def log_graph(self, model: nn.Module, input_array: Tensor | None = None) -> None:
        """Log the module's structure."""
        if self._experiment is not None:
            set_graph = getattr(self._experiment, "__internal_api__set_model_graph__")  # noqa: B009 (no name mangling)
            set_graph(graph=model, framework=FRAMEWORK_NAME)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Send what is buffered. The experiment goes on, for more to be logged; ``experiment.end()`` ends it.

        An experiment that is not online writes its archive when it ends, at the latest when the process does.
        """
        if self._experiment is not None:
            self._experiment.flush()


def _rename(source: dict[str, Any], old: str, target: dict[str, Any], new: str) -> None:
    """Move an argument of an earlier version to where it belongs now, unless that is given as well."""
    if old not in source:
        return
    value = source.pop(old)
    if target.get(new) is None:
        rank_zero_warn(f"CometLogger({old}=...) is deprecated, use `{new}`.", category=DeprecationWarning)
        target[new] = value
    else:
        rank_zero_warn(f"CometLogger got both `{new}` and the deprecated `{old}`, which is ignored.")
