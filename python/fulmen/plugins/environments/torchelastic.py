"""Processes started by ``torchrun``."""

from __future__ import annotations

import logging
import os

from fulmen import errors
from fulmen.plugins.environments.cluster_environment import ClusterEnvironment
from fulmen.utilities.rank_zero import rank_zero_only, rank_zero_warn

log = logging.getLogger(__name__)


class TorchElasticEnvironment(ClusterEnvironment):
    """Processes started by ``torchrun``, which sets every variable."""

    @property
    def creates_processes_externally(self) -> bool:
        """True."""
        return True

    @property
    def main_address(self) -> str:
        """``MASTER_ADDR``; if missing, this machine, with a warning."""
        if "MASTER_ADDR" not in os.environ:
            rank_zero_warn("MASTER_ADDR environment variable is not defined. Set as localhost")
            os.environ["MASTER_ADDR"] = "127.0.0.1"
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        """``MASTER_PORT``; if missing, 12910, with a warning."""
        if "MASTER_PORT" not in os.environ:
            rank_zero_warn("MASTER_PORT environment variable is not defined. Set as 12910")
            os.environ["MASTER_PORT"] = "12910"
        return int(os.environ["MASTER_PORT"])

    @staticmethod
    def detect() -> bool:
        """Did ``torchrun`` start this process?"""
        # what torch.distributed.is_torchelastic_launched asks, without importing torch.distributed
        return "TORCHELASTIC_RUN_ID" in os.environ

    def world_size(self) -> int:
        """``WORLD_SIZE``."""
        return int(os.environ["WORLD_SIZE"])

    def set_world_size(self, size: int) -> None:
        """Does nothing: ``torchrun`` knows."""
        log.debug("the world size is torchrun's, setting it to %s has no effect", size)

    def global_rank(self) -> int:
        """``RANK``."""
        return int(os.environ["RANK"])

    def set_global_rank(self, rank: int) -> None:
        """Tells the rank to the functions that act on rank 0 only; the environment's own is ``torchrun``'s."""
        rank_zero_only.rank = rank

    def local_rank(self) -> int:
        """``LOCAL_RANK``."""
        return int(os.environ["LOCAL_RANK"])

    def node_rank(self) -> int:
        """``GROUP_RANK``, else 0."""
        return int(os.environ.get("GROUP_RANK", 0))

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Compares devices times machines with the number of processes.

        Raises:
            ValueError: they differ.
        """
        if num_devices * num_nodes != self.world_size():
            raise errors.value_error(
                "Trainer(devices, num_nodes)",
                f"a product that matches the world size ({self.world_size()}) of torchrun",
                errors.Words(f"`devices={num_devices}` and `num_nodes={num_nodes}`"),
                "Give torchrun's --nproc-per-node as devices, and --nnodes as num_nodes",
            )
