"""``environment.json``: what a run ran on, written beside its metrics so that a report can say it later.

The format is a JSON object of plain values: ``version`` (1), ``started`` (ISO 8601 with the zone), ``python``, ``torch``,
``fulmen``, ``platform``, ``cpu``, ``cpu_count``, ``device``, ``cuda`` where torch was built for it, ``world_size``,
``script``. Readers show what is there and need none of it. The command line's arguments are left out on purpose: people
pass keys and passwords in them, and a report is made to be shown around.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import datetime
from typing import Any

import torch

from fulmen.loggers import folders
from fulmen.utilities.files import is_remote

FILE_NAME = "environment.json"


def describe(started: datetime) -> dict[str, Any]:
    """What this process runs on.

    Args:
        started: when the run began, with its time zone.
    """
    from fulmen._core import __version__

    found: dict[str, Any] = {
        "version": 1,
        "started": started.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fulmen": __version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "device": _device(),
        "world_size": int(os.environ.get("WORLD_SIZE", "1") or 1),
        "script": os.path.basename(sys.argv[0]) if sys.argv else "",
    }
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def write(log_dir: str, started: datetime) -> None:
    """Write the file into a run's folder; complete under its name at any time.

    Args:
        log_dir: the folder, which exists.
        started: when the run began.
    """
    path = os.path.join(log_dir, FILE_NAME)
    target = path if is_remote(path) else f"{path}.tmp"
    with folders.open_text(target, "w") as file:
        json.dump(describe(started), file, indent=1)
        file.write("\n")
    if target != path:
        folders.replace_file(target, path)


def _device() -> str:
    """The device in use. CUDA is asked for its name only if somebody started it: the question would start it."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        index = torch.cuda.current_device()
        return f"{torch.cuda.get_device_name(index)} (cuda:{index})"
    return "cpu"


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
