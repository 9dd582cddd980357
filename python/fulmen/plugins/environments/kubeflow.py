"""Processes started by Kubeflow's ``PyTorchJob``."""

from __future__ import annotations

import logging
import os

from fulmen.errors import NotYet
from fulmen.plugins.environments.cluster_environment import ClusterEnvironment
from fulmen.utilities.rank_zero import rank_zero_only

log = logging.getLogger(__name__)


class KubeflowEnvironment(ClusterEnvironment):
    """Processes started by Kubeflow, one a machine. It has to be passed to the trainer: nothing gives it away."""

    @property
    def creates_processes_externally(self) -> bool:
        """True."""
        return True

    @property
    def main_address(self) -> str:
        """``MASTER_ADDR``."""
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        """``MASTER_PORT``."""
        return int(os.environ["MASTER_PORT"])

    @staticmethod
    def detect() -> bool:
        """Cannot be told.

        Raises:
            NotImplementedError: always.
        """
        raise NotYet("Detecting Kubeflow", "Pass Trainer(plugins=[KubeflowEnvironment()])")

    def world_size(self) -> int:
        """``WORLD_SIZE``."""
        return int(os.environ["WORLD_SIZE"])

    def set_world_size(self, size: int) -> None:
        """Does nothing: Kubeflow knows."""
        log.debug("the world size is Kubeflow's, setting it to %s has no effect", size)

    def global_rank(self) -> int:
        """``RANK``."""
        return int(os.environ["RANK"])

    def set_global_rank(self, rank: int) -> None:
        """Tells the rank to the functions that act on rank 0 only; the environment's own is Kubeflow's."""
        rank_zero_only.rank = rank

    def local_rank(self) -> int:
        """0: there is one process on each machine."""
        return 0

    def node_rank(self) -> int:
        """``RANK``, for the same reason."""
        return self.global_rank()
