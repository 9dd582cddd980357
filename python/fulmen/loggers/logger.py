"""What every logger has, and the one that forgets everything."""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from statistics import mean
from typing import TYPE_CHECKING, Any, ClassVar

from fulmen.utilities.rank_zero import rank_zero_only

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fulmen.callbacks.checkpoint import Checkpoint
    from fulmen.trainer.log_writer import RowWriter


_METHODS_OF_ROWS = ("log_metrics", "_log_rows", "save", "experiment")


class Logger(ABC):
    """Base class of loggers. A subclass has to define `name`, `version`, `log_metrics` and `log_hyperparams`.

    The trainer makes these calls, all of them on every rank (guard the ones that write with ``@rank_zero_only``):
    `log_hyperparams`, `log_graph` and `save` when a run starts; `log_metrics` and `save` for every row;
    `after_save_checkpoint` for every checkpoint file; `finalize` at the end.

    Loggers of fulmen's own whose library allows it are ``threaded``: the trainer's rows reach them up to a second later,
    many at once, from another thread; `experiment` first takes in those that wait.
    """

    #: Set by a class whose `_log_rows` may run in another thread than the training's.
    threaded: ClassVar[bool] = False
    _threaded_methods: ClassVar[dict[str, Any] | None] = None
    _rows: RowWriter | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("threaded"):
            # whoever replaces one of these wants to be asked for every row
            cls._threaded_methods = {name: getattr(cls, name) for name in _METHODS_OF_ROWS}

    @property
    @abstractmethod
    def name(self) -> str | None:
        """Name of the experiment: a folder in the paths of checkpoints."""

    @property
    @abstractmethod
    def version(self) -> int | str | None:
        """Which run of the experiment this is: a folder in the paths of checkpoints, and `v_num` in the bar."""

    @property
    def save_dir(self) -> str | None:
        """Folder under which the logger writes, or None if it writes no local files."""
        return None

    @property
    def root_dir(self) -> str | None:
        """Folder that holds all versions of the experiment, or None."""
        return None

    @property
    def log_dir(self) -> str | None:
        """Folder of this version, or None."""
        return None

    @property
    def group_separator(self) -> str:
        """What callbacks put between the parts of a metric's name, to group it with others."""
        return "/"

    @abstractmethod
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Record one row.

        Args:
            metrics: name to value.
            step: position on the x axis.
        """

    @abstractmethod
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Record hyperparameters.

        Args:
            params: name to value, possibly nested.
            args: what the particular logger takes besides.
            kwargs: what the particular logger takes besides.
        """

    def log_graph(self, model: nn.Module, input_array: Tensor | None = None) -> None:
        """Record the graph of a module; nothing unless a subclass does it.

        Args:
            model: the module.
            input_array: its input; None: its ``example_input_array``.
        """

    def _log_rows(self, rows: Sequence[tuple[dict[str, Any], int | None, float]]) -> None:
        """Record rows that waited (``threaded``).

        Args:
            rows: name to number, position on the x axis, and seconds since the epoch when it was sent.
        """
        for metrics, step, _ in rows:
            self.log_metrics(metrics, step)

    def _settle(self) -> None:
        """Take in the rows that wait."""
        if self._rows is not None:
            self._rows.settle()

    def _position(self) -> list[int] | None:
        """Where the rows stand, for `_rewind` of a run that goes on; None: this logger cannot go back."""
        return None

    def _rewind(self, position: list[int]) -> bool | None:
        """Go on with the rows of the former run, without those after the position. Whether that was possible."""
        return False

    def save(self) -> None:
        """Write out what is buffered."""

    def finalize(self, status: str) -> None:
        """End the run.

        Args:
            status: ``"success"`` or ``"failed"``.
        """
        self.save()

    def after_save_checkpoint(self, checkpoint_callback: Checkpoint) -> None:
        """A checkpoint file was written.

        Args:
            checkpoint_callback: the callback that wrote it, with its paths and scores.
        """


class DummyExperiment:
    """Stands in for a logger's `experiment` where nothing may be logged: takes every call, index and assignment."""

    def nop(self, *args: Any, **kw: Any) -> None:
        """Nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return self.nop

    def __getitem__(self, idx: Any) -> DummyExperiment:
        return self

    def __setitem__(self, idx: Any, value: Any) -> None:
        """Nothing."""


class DummyLogger(Logger):
    """Forgets everything, and answers to every method. `fast_dev_run` and the tuner put it in the place of loggers."""

    def __init__(self) -> None:
        super().__init__()
        self._experiment = DummyExperiment()

    @property
    def experiment(self) -> DummyExperiment:
        """An object that takes every call."""
        return self._experiment

    @property
    def name(self) -> str:
        """Empty."""
        return ""

    @property
    def version(self) -> str:
        """Empty."""
        return ""

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def __getitem__(self, idx: int) -> DummyLogger:
        return self

    # `__getitem__` alone would make `list(logger)` run forever
    __iter__ = None

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            # copy and pickle look for special methods this way, and must not find ones that do nothing
            raise AttributeError(f"'DummyLogger' object has no attribute {name!r}")
        return _ignore


def _ignore(*args: Any, **kwargs: Any) -> None:
    """What every unknown method of a `DummyLogger` is."""


def rank_zero_experiment(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a logger's `experiment`, so that all ranks but 0 get a `DummyExperiment`."""

    @wraps(fn)
    def experiment(self: Logger) -> Any:
        rank = rank_zero_only.rank
        rows = getattr(self, "_rows", None)
        if rows is not None:
            rows.settle()
        return DummyExperiment() if rank is not None and rank > 0 else fn(self)

    return experiment


def merge_dicts(
    dicts: Sequence[Mapping[str, Any]],
    agg_key_funcs: Mapping[str, Any] | None = None,
    default_func: Callable[[Sequence[float]], float] = mean,
) -> dict[str, Any]:
    """Merge mappings into one, values of the same key through a function; nested mappings likewise.

    Args:
        dicts: the mappings. A value None counts as absent.
        agg_key_funcs: function by key, nested as the values are.
        default_func: function for all other keys.
    """
    functions = agg_key_funcs or {}
    gathered: dict[str, list[Any]] = {}
    for mapping in dicts:
        for key, value in mapping.items():
            if value is not None:
                gathered.setdefault(key, []).append(value)
    return {
        key: merge_dicts(values, functions.get(key), default_func)
        if isinstance(values[0], dict)
        else (functions.get(key) or default_func)(values)
        for key, values in gathered.items()
    }
