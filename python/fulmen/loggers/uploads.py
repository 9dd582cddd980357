"""Which checkpoint files a logger sends to its service, when, and what it says about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from fulmen.loggers.utilities import _scan_checkpoints

if TYPE_CHECKING:
    from fulmen.callbacks.checkpoint import Checkpoint

_SETTINGS = ("monitor", "mode", "save_last", "save_top_k", "save_weights_only", "_every_n_train_steps")


@dataclass(frozen=True)
class Upload:
    """A checkpoint file to send.

    Args:
        path: where it is.
        score: value of the monitored metric, or None.
        settings: the callback's settings, as far as it has them.
        aliases: ``["latest"]``, and ``"best"`` for the best one.
    """

    path: str
    score: Any
    settings: dict[str, Any]
    aliases: list[str]

    @property
    def filename(self) -> str:
        """The file's name."""
        return Path(self.path).name


class Uploads:
    """Sends each checkpoint file once.

    Args:
        when: ``"all"``: as soon as it is written, whatever becomes of it; True: what is left when the run ends, or as
            soon as it is written where all are kept (``save_top_k=-1``); False: never.
        send: sends one file; called with the callback that wrote it, and the file.
    """

    def __init__(self, when: Literal["all"] | bool, send: Callable[[Any, Upload], None]) -> None:
        self._when = when
        self._send = send
        self._callbacks: dict[int, Checkpoint] = {}
        self._sent_at: dict[str, float] = {}

    def saved(self, callback: Any) -> None:
        """A callback wrote a checkpoint."""
        if self._when == "all" or (self._when is True and callback.save_top_k == -1):
            self._send_new(callback)
        elif self._when is True:
            self._callbacks[id(callback)] = callback

    def finish(self) -> None:
        """The run is over: send what was put off."""
        for callback in self._callbacks.values():
            self._send_new(callback)

    def _send_new(self, callback: Any) -> None:
        for upload, time in self._new(callback):
            self._send(callback, upload)
            # a file may be written again under the same name: then it is new
            self._sent_at[upload.path] = time

    def _new(self, callback: Any) -> Iterator[tuple[Upload, float]]:
        settings = {name: getattr(callback, name) for name in _SETTINGS if hasattr(callback, name)}
        for time, path, score, _ in _scan_checkpoints(callback, self._sent_at):
            aliases = ["latest", "best"] if path == callback.best_model_path else ["latest"]
            yield Upload(path, score.item() if isinstance(score, Tensor) else score, settings, aliases), time
