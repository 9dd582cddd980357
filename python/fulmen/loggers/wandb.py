"""Log to Weights & Biases."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import TYPE_CHECKING, Any, Literal

from fulmen import errors
from fulmen.loggers.logger import Logger, rank_zero_experiment
from fulmen.loggers.uploads import Upload, Uploads
from fulmen.loggers.utilities import (
    _add_prefix,
    _convert_json_serializable,
    _convert_params,
    _sanitize_callable_params,
    require_client,
)
from fulmen.utilities.rank_zero import rank_zero_only, rank_zero_warn
from fulmen.utilities.types import _PATH

if TYPE_CHECKING:
    from torch import nn

    from fulmen.callbacks.checkpoint import Checkpoint

_STEP = "trainer/global_step"


class WandbLogger(Logger):
    """Log to Weights & Biases (``pip install wandb``).

    The run starts when something is logged first. A run that is in progress already is used.

    Args:
        name: name that is displayed for the run.
        save_dir: folder for the client's files.
        version: id of the run, to go on with one.
        offline: keep everything local; ``wandb sync`` sends it later.
        dir: the same as ``save_dir``, which wins.
        id: the same as ``version``, which wins.
        anonymous: allow logging without an account.
        project: the project; None: the variable ``WANDB_PROJECT`` of the environment, else ``"lightning_logs"``.
        log_model: send checkpoints: ``"all"``: each when it is written; True: those left at the end; False: none.
        experiment: a run of ``wandb.init`` to use.
        prefix: put before every metric's name, with a dash.
        checkpoint_name: name of the artifact for checkpoints; None: ``model-`` and the run's id.
        add_file_policy: ``"mutable"``: the client copies a checkpoint before it sends it; ``"immutable"``: it relies on
            the file staying as it is.
        kwargs: further arguments of ``wandb.init``, such as ``entity``, ``group``, ``tags``.

    Raises:
        ModuleNotFoundError: wandb is not installed.
        MisconfigurationException: ``log_model`` together with ``offline``.
    """

    LOGGER_JOIN_CHAR = "-"

    def __init__(
        self,
        name: str | None = None,
        save_dir: _PATH = ".",
        version: str | None = None,
        offline: bool = False,
        dir: _PATH | None = None,
        id: str | None = None,
        anonymous: bool | None = None,
        project: str | None = None,
        log_model: Literal["all"] | bool = False,
        experiment: Any = None,
        prefix: str = "",
        checkpoint_name: str | None = None,
        add_file_policy: Literal["mutable", "immutable"] = "mutable",
        **kwargs: Any,
    ) -> None:
        require_client("wandb", "WandbLogger")
        if offline and log_model:
            raise errors.misconfiguration(
                "WandbLogger(log_model)",
                "False with offline=True, since checkpoints cannot be uploaded in offline mode",
                log_model,
                "Set `offline=False` to log the model",
            )
        super().__init__()
        self.add_file_policy = add_file_policy
        folder = save_dir or dir
        self._wandb_init: dict[str, Any] = {
            "name": name,
            "project": project or os.environ.get("WANDB_PROJECT", "lightning_logs"),
            "dir": None if folder is None else os.fspath(folder),
            "id": version or id,
            "resume": "allow",
            "anonymous": "allow" if anonymous else None,
            **kwargs,
        }
        self._id: str | None = self._wandb_init["id"]
        self._offline = offline
        self._prefix = prefix
        self._experiment = experiment
        self._attach_id: str | None = None
        self._checkpoint_name = checkpoint_name
        self._uploads = Uploads(log_model, self._send)

    def __getstate__(self) -> dict[str, Any]:
        # whoever unpickles this in another process goes on with this process's run: it has to exist
        import wandb

        wandb.require("service")
        run = self.experiment
        return {
            **self.__dict__,
            "_experiment": None,
            "_id": getattr(run, "id", None),
            "_attach_id": getattr(run, "_attach_id", None),
        }

    @property
    def name(self) -> str | None:
        """The project. The run's own name is ``experiment.name``."""
        project: str | None = self._wandb_init["project"]
        return project

    @property
    def version(self) -> str | None:
        """The run's id, or the one given, as long as there is no run."""
        return self._experiment.id if self._experiment else self._id

    @property
    def save_dir(self) -> str | None:
        """Folder of the client's files."""
        folder: str | None = self._wandb_init["dir"]
        return folder

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The client's run, started when it is asked for first; a `DummyExperiment` on other ranks than 0."""
        if self._experiment is None:
            self._experiment = self._start()
        return self._experiment

    def _start(self) -> Any:
        import wandb

        if self._offline:
            os.environ["WANDB_MODE"] = "dryrun"
        if wandb.run is not None:
            rank_zero_warn(
                "There is a wandb run already in progress, which this `WandbLogger` uses. Call `wandb.finish()` first to "
                "start another one."
            )
            return wandb.run
        if self._attach_id is not None and hasattr(wandb, "_attach"):
            return wandb._attach(self._attach_id)
        run = wandb.init(**self._wandb_init)
        if getattr(run, "define_metric", None) is not None:
            # the x axis of all plots
            if self._wandb_init.get("sync_tensorboard"):
                run.define_metric("*", step_metric="global_step")
            else:
                run.define_metric(_STEP)
                run.define_metric("*", step_metric=_STEP, step_sync=True)
        return run

    def watch(
        self, model: nn.Module, log: str | None = "gradients", log_freq: int = 100, log_graph: bool = True
    ) -> None:
        """Log gradients or parameters of a module while it trains. Arguments as for ``wandb.Run.watch``."""
        self.experiment.watch(model, log=log, log_freq=log_freq, log_graph=log_graph)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Add hyperparameters to the run's config; what JSON cannot hold, as text."""
        plain = _convert_json_serializable(_sanitize_callable_params(_convert_params(params)))
        self.experiment.config.update(plain, allow_val_change=True)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Log values.

        Args:
            metrics: name to value, or to an object of the client (``wandb.Image``).
            step: position on the x axis.
        """
        row = dict(_add_prefix(metrics, self._prefix, self.LOGGER_JOIN_CHAR))
        if step is not None and not self._wandb_init.get("sync_tensorboard"):
            row[_STEP] = step
        self.experiment.log(row)

    @rank_zero_only
    def log_table(
        self,
        key: str,
        columns: list[str] | None = None,
        data: list[list[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log a table of any objects, given as ``columns`` and ``data`` or as a ``dataframe``."""
        import wandb

        self.log_metrics({key: wandb.Table(columns=columns, data=data, dataframe=dataframe)}, step)

    @rank_zero_only
    def log_text(
        self,
        key: str,
        columns: list[str] | None = None,
        data: list[list[str]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log texts as a table, given as ``columns`` and ``data`` or as a ``dataframe``."""
        self.log_table(key, columns, data, dataframe, step)

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Log images.

        Args:
            key: name.
            images: tensors, arrays, PIL images or paths.
            step: position on the x axis.
            kwargs: lists with an entry for each image: ``caption``, ``masks``, ``boxes``.

        Raises:
            TypeError: ``images`` is no list.
            ValueError: one of ``kwargs`` has another length.
        """
        self._log_media("Image", "images", key, images, step, kwargs)

    @rank_zero_only
    def log_audio(self, key: str, audios: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Log audio: arrays or paths; lists in ``kwargs``: ``caption``, ``sample_rate``. Raises as `log_image` does."""
        self._log_media("Audio", "audios", key, audios, step, kwargs)

    @rank_zero_only
    def log_video(self, key: str, videos: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Log videos: arrays or paths; lists in ``kwargs``: ``caption``, ``fps``. Raises as `log_image` does."""
        self._log_media("Video", "videos", key, videos, step, kwargs)

    def _log_media(
        self, kind: str, argument: str, key: str, items: list[Any], step: int | None, options: dict[str, list[Any]]
    ) -> None:
        import wandb

        if not isinstance(items, list):
            raise TypeError(f'Expected a list as "{argument}", found {type(items)}')
        for name, values in options.items():
            if len(values) != len(items):
                raise ValueError(f"Expected {len(items)} items but only found {len(values)} for {name}")
        make = getattr(wandb, kind)
        media = [
            make(item, **{name: values[position] for name, values in options.items()})
            for position, item in enumerate(items)
        ]
        self.log_metrics({key: media}, step)

    @staticmethod
    @rank_zero_only
    def download_artifact(
        artifact: str, save_dir: _PATH | None = None, artifact_type: str | None = None, use_artifact: bool | None = True
    ) -> str:
        """Download an artifact.

        Args:
            artifact: its path at the service.
            save_dir: where to.
            artifact_type: its type.
            use_artifact: note that the run in progress uses it.

        Returns:
            Path of what was downloaded.
        """
        import wandb

        run = wandb.run if use_artifact else None
        found = wandb.Api().artifact(artifact, type=artifact_type) if run is None else run.use_artifact(artifact)
        path: str = found.download(root=None if save_dir is None else os.fspath(save_dir))
        return path

    def use_artifact(self, artifact: str, artifact_type: str | None = None) -> Any:
        """Note that the run uses an artifact, and return it.

        Args:
            artifact: its path at the service.
            artifact_type: its type.
        """
        return self.experiment.use_artifact(artifact, type=artifact_type)

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        """Send new checkpoints now or at the end, see ``log_model``."""
        self._uploads.saved(checkpoint_callback)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """After a success, send the checkpoints that are left. The run goes on, for more to be logged."""
        if status == "success" and self._experiment is not None:
            self._uploads.finish()

    def _send(self, callback: Any, upload: Upload) -> None:
        import wandb

        if not self._checkpoint_name:
            self._checkpoint_name = f"model-{self.experiment.id}"
        metadata = {
            "score": upload.score,
            "original_filename": upload.filename,
            # a proxy of the callback has its own type, but the class of the callback
            callback.__class__.__name__: upload.settings,
        }
        artifact = wandb.Artifact(name=self._checkpoint_name, type="model", metadata=metadata)
        artifact.add_file(upload.path, name="model.ckpt", policy=self.add_file_policy)
        self.experiment.log_artifact(artifact, aliases=upload.aliases)
