"""The command ``fulmen``.

fulmen run SCRIPT [ARGUMENT ...]        run a script that was written for Lightning
fulmen run -m MODULE [ARGUMENT ...]     the same for a module
fulmen ckpt inspect|verify|diff|convert look into checkpoint files
fulmen report RUN_DIR [...]             an HTML page about a run, or about several compared
fulmen plot RUN_DIR [...]               the learning curves as a picture
fulmen --version
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

USAGE: Final = """usage: fulmen run SCRIPT [ARGUMENT ...]
       fulmen run -m MODULE [ARGUMENT ...]
       fulmen ckpt inspect|verify|diff|convert FILE ...
       fulmen report RUN_DIR [RUN_DIR ...] [-o FILE] [--open]
       fulmen plot RUN_DIR [RUN_DIR ...] [-o FILE] [-m METRIC] [-x step|epoch]
       fulmen --version

run        run a script or module with `lightning` and `pytorch_lightning` meaning fulmen, in this process and in all
           Python processes that it starts; everything after SCRIPT or MODULE is its own
ckpt       look into checkpoint files without running what they hold; `fulmen ckpt --help` says more
report     write one HTML file about a run, or several compared: curves, learning rates, time, checkpoints,
           hyperparameters, environment; from the folder that a CSVLogger wrote
plot       draw the learning curves as a picture, with matplotlib

-h, --help     show this text
--version      show the version of fulmen, and of the Lightning API that it offers
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: what was typed after ``fulmen``; default that of this process.

    Returns:
        The exit status: 0, or 2 for a wrong command line. A script's own end (``sys.exit``, an exception) passes on.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if given else 2
    command, rest = given[0], given[1:]
    if command in ("--version", "-V"):
        return _version()
    if command == "run":
        return _run(rest)
    if command == "ckpt":
        from fulmen.cli import ckpt

        return ckpt.main(rest)
    if command in ("report", "plot"):
        from fulmen.cli import report

        return report.report(rest) if command == "report" else report.plot(rest)
    return _wrong(_no_command(command))


def _run(arguments: list[str]) -> int:
    from fulmen.cli import run

    if not arguments:
        return _wrong("fulmen run: which script? Name a file, or `-m` and a module")
    if arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if arguments[0] == "-m":
        if len(arguments) < 2:
            return _wrong("fulmen run -m: which module?")
        return run.run_module(arguments[1], arguments[2:])
    if arguments[0].startswith("-"):
        return _wrong(f"fulmen run: unknown option {arguments[0]!r}; give the script's own options after its name")
    return run.run_script(arguments[0], arguments[1:])


def _version() -> int:
    from fulmen._core import __version__
    from fulmen.compat.version import LIGHTNING_VERSION

    print(f"fulmen {__version__} (API of Lightning {LIGHTNING_VERSION})")
    return 0


def _no_command(command: str) -> str:
    from fulmen.errors import NotYet

    if command.endswith(".py"):
        return f"fulmen: unknown command {command!r}. Did you mean `fulmen run {command}`?"
    known = "`fulmen run`, `fulmen report`, `fulmen plot`, `fulmen ckpt`, `fulmen --version`"
    return str(NotYet(f"fulmen {command}", f"The commands are: {known}"))


def _wrong(message: str) -> int:
    print(message, file=sys.stderr)
    return 2
