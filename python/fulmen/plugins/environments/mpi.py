"""Processes started by ``mpirun``."""

from __future__ import annotations

import logging
import os
import socket
from functools import lru_cache
from typing import Any

from fulmen import errors
from fulmen.plugins.environments.cluster_environment import ClusterEnvironment
from fulmen.plugins.environments.lightning import find_free_port
from fulmen.utilities.rank_zero import rank_zero_only

log = logging.getLogger(__name__)


@lru_cache(1)
def _mpi() -> Any:
    """The module ``mpi4py.MPI``, or None if it is missing or finds no MPI library."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        return None
    return MPI


class MPIEnvironment(ClusterEnvironment):
    """Processes started by ``mpirun``, asked through the package mpi4py.

    Raises:
        ModuleNotFoundError: mpi4py is missing.
    """

    def __init__(self) -> None:
        mpi = _mpi()
        if mpi is None:
            raise errors.missing_package("mpi4py", "MPIEnvironment")
        self._comm_world = mpi.COMM_WORLD
        self._comm_local: Any = None
        self._node_rank: int | None = None
        self._main_address: str | None = None
        self._main_port: int | None = None

    @property
    def creates_processes_externally(self) -> bool:
        """True."""
        return True

    @property
    def main_address(self) -> str:
        """Host name of rank 0."""
        if self._main_address is None:
            self._main_address = self._comm_world.bcast(socket.gethostname(), root=0)
        return str(self._main_address)

    @property
    def main_port(self) -> int:
        """``MASTER_PORT`` of rank 0, else a port that is free there."""
        if self._main_port is None:
            port = int(os.environ["MASTER_PORT"]) if "MASTER_PORT" in os.environ else find_free_port()
            self._main_port = int(self._comm_world.bcast(port, root=0))
        return self._main_port

    @staticmethod
    def detect() -> bool:
        """Is there more than one process under MPI?"""
        mpi = _mpi()
        return mpi is not None and bool(mpi.COMM_WORLD.Get_size() > 1)

    def world_size(self) -> int:
        """Size of MPI's world."""
        return int(self._comm_world.Get_size())

    def set_world_size(self, size: int) -> None:
        """Does nothing: MPI knows."""
        log.debug("the world size is MPI's, setting it to %s has no effect", size)

    def global_rank(self) -> int:
        """Rank in MPI's world."""
        return int(self._comm_world.Get_rank())

    def set_global_rank(self, rank: int) -> None:
        """Tells the rank to the functions that act on rank 0 only; the environment's own is MPI's."""
        rank_zero_only.rank = rank

    def local_rank(self) -> int:
        """Rank among the processes of this host."""
        self._find_neighbours()
        return int(self._comm_local.Get_rank())

    def node_rank(self) -> int:
        """Place of this host among the sorted names of all hosts."""
        self._find_neighbours()
        return int(self._node_rank or 0)

    def _find_neighbours(self) -> None:
        if self._comm_local is not None:
            return
        host = socket.gethostname()
        hosts = sorted(set(self._comm_world.allgather(host)))
        self._node_rank = hosts.index(host)
        self._comm_local = self._comm_world.Split(color=self._node_rank)
