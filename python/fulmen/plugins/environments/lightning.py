"""One machine, or several on which the user starts the script by hand."""

from __future__ import annotations

import os
import socket

from fulmen.plugins.environments.cluster_environment import ClusterEnvironment
from fulmen.utilities.rank_zero import rank_zero_only


class LightningEnvironment(ClusterEnvironment):
    """No launcher: we start the processes of a machine, the user starts the script on each.

    The user sets ``MASTER_ADDR`` and ``MASTER_PORT`` if there are several machines, and ``NODE_RANK`` on each. A process
    that finds ``LOCAL_RANK`` set was started by somebody else.
    """

    def __init__(self) -> None:
        super().__init__()
        self._main_port = -1
        self._global_rank = 0
        self._world_size = 1

    @property
    def creates_processes_externally(self) -> bool:
        """Whether ``LOCAL_RANK`` is set."""
        return "LOCAL_RANK" in os.environ

    @property
    def main_address(self) -> str:
        """``MASTER_ADDR``, else this machine."""
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        """``MASTER_PORT``, else a free port, chosen once."""
        if self._main_port == -1:
            self._main_port = int(os.environ["MASTER_PORT"]) if "MASTER_PORT" in os.environ else find_free_port()
        return self._main_port

    @staticmethod
    def detect() -> bool:
        """Always true: this is what remains."""
        return True

    def world_size(self) -> int:
        """What `set_world_size` got; 1 before."""
        return self._world_size

    def set_world_size(self, size: int) -> None:
        """Keeps the number of processes."""
        self._world_size = size

    def global_rank(self) -> int:
        """What `set_global_rank` got; 0 before."""
        return self._global_rank

    def set_global_rank(self, rank: int) -> None:
        """Keeps the rank, and tells it to the functions that act on rank 0 only."""
        self._global_rank = rank
        rank_zero_only.rank = rank

    def local_rank(self) -> int:
        """``LOCAL_RANK``, else 0."""
        return int(os.environ.get("LOCAL_RANK", 0))

    def node_rank(self) -> int:
        """``NODE_RANK``, else ``GROUP_RANK``, else 0."""
        return int(os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", 0)))

    def teardown(self) -> None:
        """Removes ``WORLD_SIZE``, which this process may have set for its children."""
        os.environ.pop("WORLD_SIZE", None)


def find_free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port
