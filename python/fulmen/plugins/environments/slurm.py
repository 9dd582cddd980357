"""Processes started by ``srun`` on clusters with SLURM."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import sys

from fulmen import errors
from fulmen.plugins.environments.cluster_environment import ClusterEnvironment
from fulmen.utilities.rank_zero import rank_zero_only, rank_zero_warn

log = logging.getLogger(__name__)

_DEFAULT_PORT = 12910
_FIRST_PORT = 15000


class SLURMEnvironment(ClusterEnvironment):
    """Processes started by ``srun``.

    Args:
        auto_requeue: on `requeue_signal`, save a checkpoint and put the job back into the queue.
        requeue_signal: the signal that SLURM sends some time before the end; None: SIGUSR1.

    Raises:
        RuntimeError: ``--ntasks`` was given instead of ``--ntasks-per-node``.
    """

    def __init__(self, auto_requeue: bool = True, requeue_signal: signal.Signals | None = None) -> None:
        super().__init__()
        self.auto_requeue = auto_requeue
        # Windows has no SIGUSR1, and no SLURM either
        self.requeue_signal = requeue_signal or getattr(signal, "SIGUSR1", None)
        self._validate_srun_used()
        self._validate_srun_variables()

    @property
    def creates_processes_externally(self) -> bool:
        """True."""
        return True

    @property
    def main_address(self) -> str:
        """``MASTER_ADDR``, else the first host of ``SLURM_NODELIST``; it is also set as ``MASTER_ADDR``."""
        address = os.environ.get("MASTER_ADDR")
        if address is None:
            nodes = os.environ.get("SLURM_NODELIST")
            address = "127.0.0.1" if nodes is None else self.resolve_root_node_address(nodes)
            os.environ["MASTER_ADDR"] = address
        return address

    @property
    def main_port(self) -> int:
        """``MASTER_PORT``, else a number made from the job's; it is also set as ``MASTER_PORT``."""
        if "MASTER_PORT" not in os.environ:
            job = os.environ.get("SLURM_JOB_ID", "")
            # the same in all processes of a job, and most likely different in two jobs
            port = int(job[-4:]) + _FIRST_PORT if job else _DEFAULT_PORT
            os.environ["MASTER_PORT"] = str(port)
        return int(os.environ["MASTER_PORT"])

    @staticmethod
    def detect() -> bool:
        """Did ``srun`` start this process, and not a shell in a job?"""
        SLURMEnvironment._validate_srun_used()
        return _is_srun_used()

    @staticmethod
    def job_name() -> str | None:
        """The job's name."""
        return os.environ.get("SLURM_JOB_NAME")

    @staticmethod
    def job_id() -> int | None:
        """The job's number; None in a shell, and outside of jobs."""
        if _is_slurm_interactive_mode():
            return None
        try:
            return int(os.environ["SLURM_JOB_ID"])
        except (KeyError, ValueError):
            return None

    def world_size(self) -> int:
        """``SLURM_NTASKS``."""
        return int(os.environ["SLURM_NTASKS"])

    def set_world_size(self, size: int) -> None:
        """Does nothing: SLURM knows."""
        log.debug("the world size is SLURM's, setting it to %s has no effect", size)

    def global_rank(self) -> int:
        """``SLURM_PROCID``."""
        return int(os.environ["SLURM_PROCID"])

    def set_global_rank(self, rank: int) -> None:
        """Tells the rank to the functions that act on rank 0 only; the environment's own is SLURM's."""
        rank_zero_only.rank = rank

    def local_rank(self) -> int:
        """``SLURM_LOCALID``."""
        return int(os.environ["SLURM_LOCALID"])

    def node_rank(self) -> int:
        """``SLURM_NODEID``."""
        return int(os.environ["SLURM_NODEID"])

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Compares devices with the tasks of a machine, and machines with SLURM's.

        Raises:
            ValueError: they differ.
        """
        if _is_slurm_interactive_mode():
            return
        for argument, value, variable, option in (
            ("devices", num_devices, "SLURM_NTASKS_PER_NODE", "the number of tasks per node, `--ntasks-per-node"),
            ("num_nodes", num_nodes, "SLURM_NNODES", "the number of nodes, `--nodes"),
        ):
            configured = os.environ.get(variable)
            if configured is not None and int(configured) != value:
                raise errors.value_error(
                    f"Trainer({argument})",
                    f"what SLURM has started: {option}={configured}`",
                    errors.Words(f"`{argument}={value}`, which does not match"),
                    f"HINT: Set `{argument}={configured}`",
                )

    @staticmethod
    def resolve_root_node_address(nodes: str) -> str:
        """The first host of a list in SLURM's notation.

        Args:
            nodes: names separated by commas or spaces, with brackets for numbered ones: ``"host[5-7,9],b1"``.

        Returns:
            the first name, ``"host5"``.
        """
        nodes = re.sub(r"\[(.*?)[,-].*\]", r"\1", nodes)  # host[5-7,9] → host5
        nodes = re.sub(r"\[(.*?)\]", r"\1", nodes)  # host[5] → host5
        return nodes.split(" ")[0].split(",")[0]

    @staticmethod
    def _validate_srun_used() -> None:
        """Warns if there is a SLURM, but ``srun`` did not start this process: it may run once only instead of often."""
        if _is_slurm_interactive_mode() or _is_srun_used() or shutil.which("srun") is None:
            return
        hint = " ".join(["srun", os.path.basename(sys.executable), *sys.argv])[:64]
        rank_zero_warn(
            "The `srun` command is available on your system but is not used. HINT: If your intention is to run"
            f" on SLURM, prepend your python command with `srun` like so: {hint} ..."
        )

    @staticmethod
    def _validate_srun_variables() -> None:
        """Raises for the wrong way to ask for several tasks on a machine."""
        tasks = int(os.environ.get("SLURM_NTASKS", "1"))
        if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in os.environ:
            raise errors.runtime_error(
                f"You set `--ntasks={tasks}` in your SLURM bash script, but this variable is not supported",
                f"HINT: Use `--ntasks-per-node={tasks}` instead",
            )


def _is_srun_used() -> bool:
    return "SLURM_NTASKS" in os.environ and not _is_slurm_interactive_mode()


def _is_slurm_interactive_mode() -> bool:
    """Is this a shell inside a job (``salloc``, ``srun --pty bash``)?"""
    return SLURMEnvironment.job_name() in ("bash", "interactive")
