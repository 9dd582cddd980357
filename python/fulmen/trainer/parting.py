"""What a run does before it has to end early: one checkpoint of its state, and a place in SLURM's queue.

Called by the loops between two batches, so that counters, weights and data agree with each other.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, NoReturn

from fulmen.callbacks.model_checkpoint import ModelCheckpoint
from fulmen.callbacks.on_exception_checkpoint import OnExceptionCheckpoint
from fulmen.plugins.environments import SLURMEnvironment
from fulmen.trainer.checkpoint import next_hpc_path
from fulmen.trainer.states import TrainerFn
from fulmen.utilities.exceptions import SIGTERMException
from fulmen.utilities.rank_zero import rank_zero_info, rank_zero_warn

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer


def attend(trainer: Trainer) -> None:
    """Serves what signals and the time limit have asked for.

    Raises:
        SIGTERMException: a signal ends the run.
    """
    signals = trainer._signals
    if trainer._in_trial and signals.ends_by is None:
        # what else is due waits for the run itself
        return
    if signals.requeue_due and not trainer._in_trial:
        signals.requeue_due = False
        requeue(trainer)
    if signals.ends_by is not None:
        leave(trainer, signals.ends_by)
    if signals.save_due:
        signals.save_due = False
        save(trainer, ends=False)


def leave(trainer: Trainer, number: int) -> NoReturn:
    """Saves, and ends the run because of a signal."""
    if not trainer._in_trial:
        save(trainer, ends=True)
    raise SIGTERMException(128 + number)


def save(trainer: Trainer, ends: bool) -> str | None:
    """Writes the state of a fit to where the next run finds it.

    In SLURM that is ``hpc_ckpt_N.ckpt``, which is taken up by itself; elsewhere the last file of the first `ModelCheckpoint`,
    which ``ckpt_path="last"`` and ``"auto"`` find. Nothing is written without such a callback, and where an
    `OnExceptionCheckpoint` is about to write.

    Args:
        trainer: between two batches, of the training or of a validation.
        ends: whether the run ends here by an exception.

    Returns:
        The file; it is on the disk.
    """
    if trainer.state.fn is not TrainerFn.FITTING or trainer.sanity_checking or trainer.fast_dev_run:
        return None
    if isinstance(trainer._devices.cluster_environment, SLURMEnvironment):
        path = next_hpc_path(trainer.default_root_dir)
        trainer.save_checkpoint(path)
    else:
        if ends and any(isinstance(c, OnExceptionCheckpoint) for c in trainer.callbacks):
            return None
        callback = next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)), None)
        if callback is None:
            rank_zero_info("No checkpoint of the last state: there is no ModelCheckpoint callback.")
            return None
        path = callback._save_state(trainer, counts=ends)
    trainer._checkpoints.drain()
    rank_zero_info(f"The state at step {trainer.global_step} is in {path}")
    return path


def requeue(trainer: Trainer) -> None:
    """Saves, and asks SLURM to run this job once more. The training goes on until SLURM ends it."""
    for logger in trainer.loggers:
        logger.finalize("finished")
    save(trainer, ends=False)
    if not trainer.is_global_zero:
        return
    job = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    if not job:
        rank_zero_warn("The job cannot be put back into the queue: SLURM_JOB_ID is not set.")
        return
    rank_zero_info(f"Putting job {job} back into SLURM's queue.")
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
        trouble = f"status {done.returncode}: {done.stderr.strip()}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        trouble = str(error)
    if trouble:
        rank_zero_warn(f"`scontrol requeue {job}` failed, {trouble}. The state is saved; start the job again by hand.")


def died_by_signal(trainer: Trainer, exception: BaseException) -> bool:
    """Is this the error of a loader whose workers got the signal that ends this run too, as a whole process group does?"""
    if trainer._signals.ends_by is None or not isinstance(exception, RuntimeError):
        return False
    return "DataLoader worker" in str(exception)
