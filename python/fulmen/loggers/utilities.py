"""Hyperparameters, metric names, versions and checkpoint files as loggers want them."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fulmen import errors
from fulmen.utilities.imports import package_available

if TYPE_CHECKING:
    from fulmen.callbacks.checkpoint import Checkpoint

_PRIMITIVES = (bool, int, float, str, Tensor)


def require_client(package: str, logger: str, pip: str | None = None) -> None:
    """Make sure that the package of a service can be imported, without importing it.

    Args:
        package: its name.
        logger: who needs it.
        pip: what to install, if that has another name.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if package not in sys.modules and not package_available(package):
        raise errors.missing_package(package, logger, pip)


def _convert_params(params: dict[str, Any] | Namespace | None) -> dict[str, Any]:
    """Hyperparameters as a dictionary: that of a namespace, an empty one for None."""
    if params is None:
        return {}
    return vars(params) if isinstance(params, Namespace) else params


def _flatten_dict(params: Mapping[Any, Any], delimiter: str = "/", parent_key: str = "") -> dict[str, Any]:
    """Nested mappings, namespaces, dataclasses and lists of mappings as one level: ``{"a": {"b": 1}} → {"a/b": 1}``.

    Args:
        params: what to flatten.
        delimiter: what stands between the keys of two levels.
        parent_key: key of ``params`` itself.
    """
    return dict(_leaves(params, delimiter, parent_key))


def _leaves(params: Mapping[Any, Any], delimiter: str, parent: str) -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        path = f"{parent}{delimiter}{key}" if parent else str(key)
        if is_dataclass(value) and not isinstance(value, type):
            value = asdict(value)
        elif isinstance(value, Namespace):
            value = vars(value)
        if isinstance(value, list) and all(isinstance(item, MutableMapping) for item in value):
            for position, item in enumerate(value):
                # positions are joined by a slash whatever the delimiter is
                yield from _leaves(item, delimiter, f"{path}/{position}")
        elif isinstance(value, MutableMapping):
            yield from _leaves(value, delimiter, path)
        else:
            yield path, value


def _sanitize_params(params: dict[str, Any]) -> dict[str, Any]:
    """Turn numpy scalars into Python's, and all that is no bool, number, text or tensor into its text.

    Args:
        params: one level of hyperparameters; changed in place, and returned.
    """
    for key, value in params.items():
        if _is_real_numpy_scalar(value):
            value = value.item()
        params[key] = value if type(value) in _PRIMITIVES else str(value)
    return params


def _is_real_numpy_scalar(value: Any) -> bool:
    if not type(value).__module__.startswith("numpy"):
        return False
    import numpy as np

    return isinstance(value, np.bool_ | np.integer | np.floating)


def _sanitize_callable_params(params: dict[str, Any]) -> dict[str, Any]:
    """Replace classes by their names, and functions by what a call without arguments returns, or by their names."""
    return {key: _without_callable(value) for key, value in params.items()}


def _without_callable(value: Any) -> Any:
    if isinstance(value, type):
        return value.__name__
    if not callable(value):
        return value
    try:
        result = value()
        return value.__name__ if callable(result) else result
    except Exception:
        # any failure only means that the call tells nothing
        return getattr(value, "__name__", None)


def _convert_json_serializable(params: dict[str, Any]) -> dict[str, Any]:
    """Replace what JSON cannot hold by its text."""
    return {key: value if _fits_json(value) else str(value) for key, value in params.items()}


def _fits_json(value: Any) -> bool:
    if value is None or isinstance(value, bool | int | float | str | list | dict):
        return True
    try:
        json.dumps(value)
    except (TypeError, OverflowError):
        return False
    return True


def _add_prefix(metrics: Mapping[str, Any], prefix: str, separator: str) -> Mapping[str, Any]:
    """Put ``prefix`` and ``separator`` before every name; an empty prefix changes nothing."""
    return {f"{prefix}{separator}{name}": value for name, value in metrics.items()} if prefix else metrics


def _version(loggers: list[Any], separator: str = "_") -> int | str | None:
    """The version of one logger, or the different versions of several as one text."""
    if len(loggers) == 1:
        version: int | str | None = loggers[0].version
        return version
    return separator.join(dict.fromkeys(str(logger.version) for logger in loggers))


def _scan_checkpoints(
    checkpoint_callback: Checkpoint, logged_model_time: dict[str, float]
) -> list[tuple[float, str, Any, str]]:
    """The checkpoint files of a callback that are new since they were logged.

    Args:
        checkpoint_callback: the callback.
        logged_model_time: modification time of each file when it was logged last.

    Returns:
        (modification time, path, score, "latest" | "best" | "best_k") per file, oldest first.
    """
    found: dict[str, tuple[Any, str]] = {}
    for path_name, score_name, tag in (
        ("last_model_path", "current_score", "latest"),
        ("best_model_path", "best_model_score", "best"),
    ):
        if hasattr(checkpoint_callback, path_name) and hasattr(checkpoint_callback, score_name):
            found[getattr(checkpoint_callback, path_name)] = (getattr(checkpoint_callback, score_name), tag)
    for path, score in getattr(checkpoint_callback, "best_k_models", {}).items():
        found[path] = (score, "best_k")
    files = sorted((Path(p).stat().st_mtime, p, s, tag) for p, (s, tag) in found.items() if Path(p).is_file())
    return [file for file in files if logged_model_time.get(file[1], float("-inf")) < file[0]]
