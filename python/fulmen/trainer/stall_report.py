"""The text about a batch that does not come: which loader, which processes, which samples, and where they stand."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from fulmen.prefetch.source import Source
from fulmen.prefetch.worker_stack import ask_for_stack, describe_process
from fulmen.trainer.evaluate import loop_of
from fulmen.trainer.states import RunningStage

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer

_FRAMES = 12
_STAGES = {RunningStage.SANITY_CHECKING: "sanity check", RunningStage.VALIDATING: "validation"}
_SHOWN_INDICES = 16
#: Functions in which a local variable holds the indices of the batch that is made: (end of the file's name, function).
_INDICES = {
    ("_utils/fetch.py", "fetch"): "possibly_batched_index",
    ("prefetch/gather.py", "_arrived"): "indices",
    ("prefetch/gather.py", "_at_once"): "indices",
}
#: Files whose frames may be asked for ``self``: looking at the variables of a loop's own frame would keep its batch alive.
_LOADER_FILES = ("/torch/utils/data/", "/fulmen/prefetch/")


def describe_stall(trainer: Trainer, thread: int, seconds: float, usual: float) -> str:
    """What can be known about it.

    Args:
        trainer: whose run waits.
        thread: identifier of the thread that waits.
        seconds: for how long.
        usual: the median wait, in seconds; 0 if there was none yet.

    Returns:
        A text of several lines.
    """
    stage = trainer.state.stage
    training = stage is RunningStage.TRAINING or stage is None
    loop: Any = trainer.fit_loop if training else loop_of(trainer, stage)  # type: ignore[arg-type]  # a stage that has a loop
    counter: Any = "batch" if training else loop._counter
    index = trainer._schedule.progress(counter)["current"]["ready"]
    frames = list(_chain(sys._current_frames().get(thread)))
    rank = f" on rank {trainer.global_rank}" if trainer.world_size > 1 else ""
    lines = [
        f"No data{rank}: the {_STAGES.get(stage, 'training') if stage else 'training'} has waited {seconds:.1f} s for batch {index} of "
        f"epoch {trainer.current_epoch}"
        + (f", where the median wait is {usual * 1e3:.3g} ms." if usual else ", the first one.")
    ]
    for number, source in _awaited(loop, frames):
        lines.append(f"Loader {number}: {_name(source.loader)}; {source.kind} ({source.why}).")
        lines += _processes(source, frames)
    indices = _indices_at_hand()
    if indices is not None:
        lines.append(f"Samples that are being loaded in this process: {_shorten(indices)}.")
    lines.append(f"This process waits here (thread {_thread_name(thread)}):")
    lines += _stack(frames)
    for name, others in _helpers(thread):
        lines.append(f"Thread {name}, which makes batches, stands here:")
        lines += _stack(others)
    return "\n".join(lines)


def _chain(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that called it, innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _stack(frames: list[FrameType]) -> list[str]:
    inner = [(frame, frame.f_lineno) for frame in frames[:_FRAMES]]
    text = "".join(traceback.StackSummary.extract(reversed(inner)).format())
    return text.rstrip().splitlines()


def _owners(frames: list[FrameType]) -> list[Any]:
    """The objects whose methods are running, of those that loaders consist of."""
    files = [frame for frame in frames if any(part in frame.f_code.co_filename for part in _LOADER_FILES)]
    return [
        frame.f_locals["self"]
        for frame in files
        if frame.f_code.co_varnames[:1] == ("self",) and "self" in frame.f_locals
    ]


def _awaited(loop: Any, frames: list[FrameType]) -> list[tuple[int, Source]]:
    """The sources that the loop waits for, with their numbers: the one that runs, or all where that cannot be seen."""
    loaders = loop._loaders
    sources = list(enumerate(loaders.sources)) if loaders is not None else []
    owners = _owners(frames)
    running = [pair for pair in sources if _is_running(pair[1], owners, frames)]
    return running or sources


def _is_running(source: Source, owners: list[Any], frames: list[FrameType]) -> bool:
    dataset = getattr(source.loader, "dataset", None)
    for owner in owners:
        if owner is source or owner is source.loader or getattr(owner, "_source", None) is source:
            return True
        if dataset is not None and getattr(owner, "_dataset", None) is dataset:
            return True
    own = getattr(getattr(source, "_running", None), "gi_frame", None)
    return own is not None and any(frame is own for frame in frames)


def _name(loader: Any) -> str:
    dataset = getattr(loader, "dataset", None)
    over = f" over {type(dataset).__name__}" if dataset is not None else ""
    return f"{type(loader).__name__}{over}"


def _processes(source: Source, frames: list[FrameType]) -> list[str]:
    """Lines about a source's worker processes; none if it has none."""
    crew: Any = getattr(source, "crew", None)
    if crew is not None:
        run: Any = getattr(source, "_pass", None)
        wanted = run.open_tasks() if run is not None else []
        waiting = [task for task in wanted if task.message is None]
        busy = {task.worker: task for task in reversed(waiting)}
        lines = []
        if waiting:
            task = waiting[0]
            lines.append(
                f"Batch {task.batch} of the pass is with worker {task.worker}; its samples: {_shorten(task.indices)}."
            )
        for number, worker in enumerate(crew.workers):
            of = busy.get(number)
            lines += _process(number, worker, "" if of is None else f", on batch {of.batch}", number == _first(waiting))
        return lines
    for owner in _owners(frames):
        if hasattr(owner, "_workers") and hasattr(owner, "_rcvd_idx"):
            # the stock iterator: it keeps who makes a batch, and not which samples it is made of
            info = owner._task_info.get(owner._rcvd_idx)
            first = info[0] if info and len(info) == 1 else None
            lines = [] if first is None else [f"Batch {owner._rcvd_idx} of the pass is with worker {first}."]
            for number, worker in enumerate(owner._workers):
                lines += _process(number, worker, "", number == first)
            return lines
    return []


def _first(tasks: list[Any]) -> int | None:
    return tasks[0].worker if tasks else None


def _process(number: int, worker: Any, doing: str, wanted: bool) -> list[str]:
    """A line about a worker; with its stack if it is the one that is waited for."""
    pid, code = worker.pid, worker.exitcode
    if code is not None:
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return [f"Worker {number} (pid {pid}): {how}."]
    lines = [f"Worker {number} (pid {pid}): alive, {describe_process(pid)}{doing}."]
    stack = ask_for_stack(pid) if wanted else None
    if stack:
        lines.append(f"Worker {number} stands here, innermost call first:")
        lines += [f"  {line}" for line in stack.splitlines()]
    return lines


def _indices_at_hand() -> Any:
    """The indices of a batch that some thread of this process is making, None if there is none."""
    for frame in sys._current_frames().values():
        for each in _chain(frame):
            file, function = each.f_code.co_filename.replace("\\", "/"), each.f_code.co_name
            for (end, name), variable in _INDICES.items():
                if function == name and file.endswith(end):
                    found = each.f_locals.get(variable)
                    # a stream's batch is asked for by as many None
                    if found is not None and not (isinstance(found, list) and None in found):
                        return found
    return None


def _shorten(indices: Any) -> str:
    if isinstance(indices, (list, tuple)) and len(indices) > _SHOWN_INDICES:
        shown = ", ".join(str(index) for index in indices[:_SHOWN_INDICES])
        return f"[{shown}, … {len(indices)} in all]"
    return str(indices)[:400]


def _thread_name(identifier: int) -> str:
    return next((thread.name for thread in threading.enumerate() if thread.ident == identifier), str(identifier))


def _helpers(thread: int) -> Iterator[tuple[str, list[FrameType]]]:
    """Other threads of this process that run code of loaders."""
    here = threading.get_ident()
    for identifier, frame in sys._current_frames().items():
        frames = list(_chain(frame))
        if identifier not in (thread, here) and any(
            part in each.f_code.co_filename for each in frames for part in _LOADER_FILES
        ):
            yield _thread_name(identifier), frames
