"""Cluster environments: what started the processes of a run, and what it told them."""

from fulmen.plugins.environments.cluster_environment import ClusterEnvironment
from fulmen.plugins.environments.kubeflow import KubeflowEnvironment
from fulmen.plugins.environments.lightning import LightningEnvironment
from fulmen.plugins.environments.lsf import LSFEnvironment
from fulmen.plugins.environments.mpi import MPIEnvironment
from fulmen.plugins.environments.slurm import SLURMEnvironment
from fulmen.plugins.environments.torchelastic import TorchElasticEnvironment

__all__ = [
    "ClusterEnvironment",
    "KubeflowEnvironment",
    "LSFEnvironment",
    "LightningEnvironment",
    "MPIEnvironment",
    "SLURMEnvironment",
    "TorchElasticEnvironment",
]
