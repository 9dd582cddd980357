"""Writing checkpoints beside the training."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from fulmen.plugins.io.background import Moment
from fulmen.plugins.io.checkpoint_io import CheckpointIO
from fulmen.plugins.io.native_io import NativeCheckpointIO
from fulmen.plugins.io.wrapper import _WrappingCheckpointIO


class AsyncCheckpointIO(_WrappingCheckpointIO):
    """Copies a checkpoint's tensors, and has another checkpoint IO write them in a thread while training goes on.

    One file is written at a time: a save waits for the one before. An error of the thread is raised at the next call
    of this object, at the latest in `teardown`. With `NativeCheckpointIO`, the default, copies go into buffers that are kept
    from save to save, and within a fit parameters and optimizer state are copied while the next forward and backward run.

    Args:
        checkpoint_io: writes the files. None: `NativeCheckpointIO`.
    """

    def __init__(self, checkpoint_io: CheckpointIO | None = None) -> None:
        super().__init__(checkpoint_io)
        self._executor: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Takes a copy, and returns while it is being written.

        Args:
            *args: the checkpoint's dictionary first, then whatever the wrapped IO takes.
            **kwargs: likewise by name.

        Raises:
            Exception: what went wrong in the save before.
        """
        native = self.native
        if native is not None:
            moment = native.moment or Moment()
            moment.always = True
            with native.during(moment):
                native.save_checkpoint(*args, **kwargs)
            return
        self._wait()
        if "checkpoint" in kwargs:
            kwargs = {**kwargs, "checkpoint": _snapshot(kwargs["checkpoint"])}
        elif args:
            args = (_snapshot(args[0]), *args[1:])
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fulmen-checkpoint")
        self._pending = self._executor.submit(self.checkpoint_io.save_checkpoint, *args, **kwargs)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Reads a checkpoint, after the last one has been written."""
        self._wait()
        return super().load_checkpoint(*args, **kwargs)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Deletes a checkpoint, after the last one has been written: the old file goes when the new one is safe."""
        native = self.native
        if native is not None:
            native.background.then(partial(native.remove_checkpoint, path), removes=str(path))
            return
        self._wait()
        super().remove_checkpoint(path)

    @property
    def native(self) -> NativeCheckpointIO | None:
        """The wrapped IO, if it is one that can write in the background by itself."""
        inner = self.checkpoint_io
        return inner if isinstance(inner, NativeCheckpointIO) else None

    def teardown(self) -> None:
        """Waits for the last file, and ends the thread.

        Raises:
            Exception: what went wrong in the last save.
        """
        try:
            self._wait()
        finally:
            executor, self._executor = self._executor, None
            if executor is not None:
                executor.shutdown(wait=True)
            super().teardown()

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __getstate__(self) -> dict[str, Any]:
        # threads do not travel; what is being written is finished first
        self._wait()
        return {**vars(self), "_executor": None}


def _snapshot(checkpoint: Any) -> Any:
    """The same structure with copies of the tensors, which training may go on changing.

    A tensor that occurs several times is copied once, so that shared weights stay shared in the file.
    """
    from fulmen.utilities.nested import apply_to_collection

    copies: dict[int, Tensor] = {}

    def copy(tensor: Tensor) -> Tensor:
        if id(tensor) not in copies:
            copies[id(tensor)] = tensor.detach().clone()
        return copies[id(tensor)]

    return apply_to_collection(checkpoint, Tensor, copy)
