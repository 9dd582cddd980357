"""Processes started by ``jsrun`` on clusters with IBM's LSF."""

from __future__ import annotations

import logging
import os
import socket

from fulmen import errors
from fulmen.plugins.environments.cluster_environment import ClusterEnvironment
from fulmen.utilities.rank_zero import rank_zero_only

log = logging.getLogger(__name__)

_REQUIRED = (
    "LSB_JOBID",
    "LSB_DJOB_RANKFILE",
    "JSM_NAMESPACE_LOCAL_RANK",
    "JSM_NAMESPACE_SIZE",
)
_FIRST_PORT = 10000


class LSFEnvironment(ClusterEnvironment):
    """Processes started by ``jsrun``, one a GPU. Passed on as ``MASTER_ADDR`` and ``MASTER_PORT``.

    Raises:
        ValueError: a variable of LSF is missing, or its file of hosts is empty.
    """

    def __init__(self) -> None:
        super().__init__()
        hosts = self._read_hosts()
        self._main_address = hosts[0]
        self._main_port = self._get_main_port()
        self._node_rank = self._find_node(hosts)
        os.environ["MASTER_ADDR"] = str(self._main_address)
        os.environ["MASTER_PORT"] = str(self._main_port)

    @property
    def creates_processes_externally(self) -> bool:
        """True."""
        return True

    @property
    def main_address(self) -> str:
        """The first host of the job that computes."""
        return self._main_address

    @property
    def main_port(self) -> int:
        """``MASTER_PORT``, else a number made from the job's."""
        return self._main_port

    @staticmethod
    def detect() -> bool:
        """Are LSF's variables set?"""
        return all(name in os.environ for name in _REQUIRED)

    def world_size(self) -> int:
        """``JSM_NAMESPACE_SIZE``."""
        return int(_variable("JSM_NAMESPACE_SIZE"))

    def set_world_size(self, size: int) -> None:
        """Does nothing: LSF knows."""
        log.debug("the world size is LSF's, setting it to %s has no effect", size)

    def global_rank(self) -> int:
        """``JSM_NAMESPACE_RANK``."""
        return int(_variable("JSM_NAMESPACE_RANK"))

    def set_global_rank(self, rank: int) -> None:
        """Tells the rank to the functions that act on rank 0 only; the environment's own is LSF's."""
        rank_zero_only.rank = rank

    def local_rank(self) -> int:
        """``JSM_NAMESPACE_LOCAL_RANK``."""
        return int(_variable("JSM_NAMESPACE_LOCAL_RANK"))

    def node_rank(self) -> int:
        """The place of this host among the job's."""
        return self._node_rank

    @staticmethod
    def _find_node(hosts: list[str]) -> int:
        unique = list(dict.fromkeys(hosts))
        name = socket.gethostname()
        # the file may hold full names, or short ones
        short = [host.partition(".")[0] for host in unique]
        if name in unique:
            return unique.index(name)
        if name.partition(".")[0] in short:
            return short.index(name.partition(".")[0])
        raise errors.value_error(
            "LSB_DJOB_RANKFILE", f"a file of hosts that names this one, {name!r}", unique, "Start the script by jsrun"
        )

    @staticmethod
    def _read_hosts() -> list[str]:
        """The hosts that compute, one entry a process. The first line is the host that the job was submitted from."""
        path = _variable("LSB_DJOB_RANKFILE")
        with open(path) as file:
            hosts = [line.strip() for line in file if line.strip()]
        if len(hosts) < 2:
            raise errors.value_error(
                "LSB_DJOB_RANKFILE", "a file with the hosts of the job", hosts, "Start the script by jsrun"
            )
        return hosts[1:]

    @staticmethod
    def _get_main_port() -> int:
        if "MASTER_PORT" in os.environ:
            return int(os.environ["MASTER_PORT"])
        # the same in all processes of a job, and most likely different in two jobs
        return int(_variable("LSB_JOBID")) % 1000 + _FIRST_PORT


def _variable(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise errors.value_error(
            name, "an environment variable of LSF", errors.Words("nothing"), "Start the script by jsrun"
        ) from None
