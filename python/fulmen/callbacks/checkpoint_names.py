"""Names and folders of checkpoint files."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fulmen.plugins.io.moments import background
from fulmen.utilities.files import get_filesystem, is_remote

if TYPE_CHECKING:
    import fulmen as L

_FIELD = re.compile(r"\{([^}:]*)(:[^}]*)?\}")


class CheckpointNames:
    """Part of `ModelCheckpoint`."""

    CHECKPOINT_JOIN_CHAR = "-"
    CHECKPOINT_EQUALS_CHAR = "="
    CHECKPOINT_NAME_LAST = "last"
    FILE_EXTENSION = ".ckpt"
    STARTING_VERSION = 1

    dirpath: str | None
    filename: str | None
    auto_insert_metric_name: bool
    _enable_version_counter: bool

    def format_checkpoint_name(
        self, metrics: dict[str, Tensor], filename: str | None = None, ver: int | None = None, prefix: str | None = None
    ) -> str:
        """The path for these values.

        Args:
            metrics: values by name.
            filename: pattern; None: the callback's own.
            ver: version to append.
            prefix: text before the name.
        """
        pattern = filename or self.filename or "{epoch}" + self.CHECKPOINT_JOIN_CHAR + "{step}"
        name = self._fill(pattern, metrics, prefix, self.auto_insert_metric_name)
        if ver is not None:
            name = self.CHECKPOINT_JOIN_CHAR.join((name, f"v{ver}"))
        name += self.FILE_EXTENSION
        return os.path.join(self.dirpath, name) if self.dirpath else name

    def _fill(self, pattern: str, metrics: dict[str, Any], prefix: str | None, insert_names: bool) -> str:
        def field(match: re.Match[str]) -> str:
            name, form = match[1], match[2] or ""
            value = metrics.get(name, 0)
            if isinstance(value, Tensor):
                value = value.item()
            text = f"{{0{form}}}".format(value)
            return f"{name}{self.CHECKPOINT_EQUALS_CHAR}{text}" if insert_names else text

        filled = _FIELD.sub(field, pattern)
        return filled if prefix is None else self.CHECKPOINT_JOIN_CHAR.join((prefix, filled))

    def file_exists(self, filepath: str, trainer: L.Trainer) -> bool:
        """Is there such a file, or will there be, in the eyes of rank 0?"""
        exists = get_filesystem(filepath).exists(filepath) if is_remote(filepath) else os.path.exists(filepath)
        files = background(trainer)
        if files is not None:
            exists = (exists and not files.removing(filepath)) or files.writing(filepath)
        return trainer.strategy.broadcast(exists)

    def _path_for(self, metrics: dict[str, Tensor], trainer: L.Trainer, replaced: str | None = None) -> str:
        path = self.format_checkpoint_name(metrics)
        if self._enable_version_counter:
            version = self.STARTING_VERSION
            while self.file_exists(path, trainer) and path != replaced:
                path = self.format_checkpoint_name(metrics, ver=version)
                version += 1
        return path

    def _last_path(self, metrics: dict[str, Tensor], trainer: L.Trainer) -> str:
        path = self.format_checkpoint_name(metrics, self.CHECKPOINT_NAME_LAST)
        if self._enable_version_counter:
            version = self.STARTING_VERSION
            while self.file_exists(path, trainer) and path != self.last_model_path:  # type: ignore[attr-defined]  # of the class that this is a part of
                path = self.format_checkpoint_name(metrics, self.CHECKPOINT_NAME_LAST, ver=version)
                version += 1
        return path

    def _find_last_checkpoints(self, trainer: L.Trainer) -> set[str]:
        folder = self._resolve_folder(trainer)
        if is_remote(folder):
            filesystem = get_filesystem(folder)
            found = filesystem.ls(folder, detail=False) if filesystem.isdir(folder) else []
            names = [str(path).rsplit("/", 1)[-1] for path in found]
        else:
            names = os.listdir(folder) if os.path.isdir(folder) else []
        start, end = self.CHECKPOINT_NAME_LAST, self.FILE_EXTENSION
        return {os.path.join(folder, name) for name in names if name.startswith(start) and name.endswith(end)}

    def _resolve_folder(self, trainer: L.Trainer) -> str:
        if self.dirpath is not None:
            return self.dirpath
        if not trainer.loggers:
            return os.path.join(trainer.default_root_dir, "checkpoints")
        logger = trainer.loggers[0]
        root = logger.save_dir if logger.save_dir is not None else trainer.default_root_dir
        version = logger.version
        version = version if isinstance(version, str) else f"version_{version}"
        return os.path.join(str(root), str(logger.name), version, "checkpoints")
