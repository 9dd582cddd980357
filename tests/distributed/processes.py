"""Starts the processes of a test: each runs scenarios by name, one after the other, and hands back what they return."""

from __future__ import annotations

import importlib
import os
import pickle
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
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, module, ",".join(names), str(rank), str(world), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        outputs = [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    results = []
    for rank, output in enumerate(outputs):
        file = folder / f"result-{rank}"
        assert file.exists(), output
        results.append(pickle.loads(file.read_bytes()))
    return results


def main(module: str, names: str, rank: str, world: str, folder: str) -> None:
    torch.set_num_threads(1)
    scenarios = importlib.import_module(module)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=int(rank), world_size=int(world)
    )
    results = {}
    for name in names.split(","):
        try:
            results[name] = getattr(scenarios, name)(Path(folder))
        except Exception as error:
            traceback.print_exc()
            results[name] = f"{type(error).__name__}: {error}"
    Path(folder, f"result-{rank}").write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
