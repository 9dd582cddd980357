"""Where a worker process stands: what the system says about it, and its Python stack where it offers that.

Our workers write their stack into a file in memory when they get `SIGNAL`; Python's own code for that runs in the signal
handler, so that it works while the worker hangs in C code, too. The parent reads the file through ``/proc``. It sends the
signal only to processes that have such a file and handle the signal: any other would end by it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import time

SIGNAL = getattr(signal, "SIGUSR2", None)
_NAME = "fulmen-stack"
_LONGEST = 6000


def offer_stack() -> None:
    """This process, a worker, writes its stack when it is asked for. Nothing where the system has no such means."""
    if SIGNAL is None or not hasattr(os, "memfd_create") or threading.current_thread() is not threading.main_thread():
        return
    # somebody who forks without noticing it, or uses the signal himself, is not to be disturbed
    if signal.getsignal(SIGNAL) is not signal.SIG_DFL:
        return
    with contextlib.suppress(OSError, ValueError):
        faulthandler.register(SIGNAL, file=os.memfd_create(_NAME), all_threads=True)


def ask_for_stack(pid: int, seconds: float = 1.0) -> str | None:
    """The Python stack of a process that offers it.

    Args:
        pid: of a child of this process.
        seconds: to wait for it. A process that is stopped, or deep in the kernel, does not answer.

    Returns:
        Text as `faulthandler` writes it, the innermost call first; None if the process does not offer it or answer.
    """
    path = _memory_file(pid)
    if path is None or SIGNAL is None or not _handles(pid, SIGNAL):
        return None
    try:
        before = os.stat(path).st_size
        os.kill(pid, SIGNAL)
        limit, size = time.monotonic() + seconds, -1
        while time.monotonic() < limit:
            time.sleep(0.02)
            now = os.stat(path).st_size
            if now > before and now == size:
                # it has not grown since the last look
                with open(path, "rb") as file:
                    file.seek(before)
                    return file.read(_LONGEST).decode(errors="replace").strip()
            size = now
    except OSError:
        pass
    return None


def _memory_file(pid: int) -> str | None:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for number in os.listdir(folder):
            path = f"{folder}/{number}"
            with contextlib.suppress(OSError):
                if os.readlink(path).startswith(f"/memfd:{_NAME}"):
                    return path
    return None


def _handles(pid: int, number: int) -> bool:
    caught = status(pid).get("SigCgt")
    return caught is not None and bool(int(caught, 16) >> (number - 1) & 1)


def status(pid: int) -> dict[str, str]:
    """The lines of ``/proc/PID/status``; empty where there is none."""
    text = _read(f"/proc/{pid}/status") or ""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def describe_process(pid: int) -> str:
    """In which state the system has a process, and in which of its functions it waits, as far as that can be read."""
    known = status(pid)
    if not known:
        return "state unknown"
    parts = [known.get("State", "state unknown")]
    where = _read(f"/proc/{pid}/wchan")
    if where and where != "0":
        parts.append(f"in {where}")
    kernel = _read(f"/proc/{pid}/stack")
    if kernel:
        parts.append("kernel stack " + " < ".join(line.split("] ")[-1] for line in kernel.splitlines()[:6]))
    if "VmRSS" in known:
        parts.append(f"{known['VmRSS']} in memory")
    return ", ".join(parts)


def _read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return None
