"""Base of the environments: how a process finds out where it stands among the others."""

from __future__ import annotations

from abc import ABC, abstractmethod


class ClusterEnvironment(ABC):
    """What started the processes of a run, and what it told them.

    Ranks count from 0: the global rank among all processes, the local rank among those of one machine (node), the node
    rank among the machines.
    """

    @property
    @abstractmethod
    def creates_processes_externally(self) -> bool:
        """Are the processes there already (or do we have to start them)?"""

    @property
    @abstractmethod
    def main_address(self) -> str:
        """Host name or address of the machine of global rank 0."""

    @property
    @abstractmethod
    def main_port(self) -> int:
        """A free port on that machine."""

    @staticmethod
    @abstractmethod
    def detect() -> bool:
        """Is this process in such an environment?"""

    @abstractmethod
    def world_size(self) -> int:
        """Number of processes, over all machines."""

    @abstractmethod
    def set_world_size(self, size: int) -> None:
        """Tells the environment the number of processes, where it does not know."""

    @abstractmethod
    def global_rank(self) -> int:
        """This process's rank among all."""

    @abstractmethod
    def set_global_rank(self, rank: int) -> None:
        """Tells the environment this process's rank, where it does not know."""

    @abstractmethod
    def local_rank(self) -> int:
        """This process's rank on its machine."""

    @abstractmethod
    def node_rank(self) -> int:
        """The rank of this machine."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Compares the trainer's arguments with what the environment has started.

        Args:
            num_devices: ``Trainer(devices)``, the devices of a machine.
            num_nodes: ``Trainer(num_nodes)``, the machines.

        Raises:
            ValueError: they contradict each other.
        """

    def teardown(self) -> None:
        """Removes what the environment has left behind."""
