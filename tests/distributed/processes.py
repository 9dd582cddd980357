"""Starts the processes of a test: each runs scenarios by name, one after the other, and hands back what they return."""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from fulmen.strategies.single_device import SingleDeviceStrategy

SECONDS = 120


class RankedStrategy(SingleDeviceStrategy):
    """One device of several, each with a process of its own. Gradients stay apart: these tests are about values."""

    def __init__(self) -> None:
        super().__init__("cpu")
        if dist.is_initialized():
            self.global_rank, self.world_size = dist.get_rank(), dist.get_world_size()

    @property
    def is_global_zero(self) -> bool:
        return self.global_rank == 0


def run(module: str, names: list[str], world: int, folder: Path) -> list[dict[str, Any]]:
    """For each process what the functions `names` of `module` returned, by name; for an exception its text."""
    command = [sys.executable, "-m", __name__, module, ",".join(names), str(world), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    parent = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = parent.communicate(timeout=SECONDS)
    finally:
        if parent.poll() is None:
            os.killpg(parent.pid, signal.SIGKILL)
    files = [folder / f"result-{rank}" for rank in range(world)]
    assert all(file.exists() for file in files), output
    return [pickle.loads(file.read_bytes()) for file in files]


def main(module: str, names: str, world: str, folder: str) -> None:
    """Forks the processes once everything is imported, which takes longer than all the rest."""
    torch.set_num_threads(1)
    scenarios = importlib.import_module(module)
    children = []
    for rank in range(int(world)):
        child = os.fork()
        if child == 0:
            try:
                work(scenarios, names.split(","), rank, int(world), Path(folder))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            finally:
                sys.stdout.flush()
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def work(scenarios: Any, names: list[str], rank: int, world: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    results = {}
    for name in names:
        try:
            results[name] = getattr(scenarios, name)(folder)
        except Exception as error:
            traceback.print_exc()
            results[name] = f"{type(error).__name__}: {error}"
    (folder / f"result-{rank}").write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
