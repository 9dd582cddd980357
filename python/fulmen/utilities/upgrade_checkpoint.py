"""Rewrite checkpoints of old versions of Lightning in today's form.

``python -m fulmen.utilities.upgrade_checkpoint PATH [--extension .ckpt] [--map-to-cpu]``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> None:
    """The command.

    Args:
        arguments: those of the command line; None: those of the process.

    Raises:
        NotYet: always, with this version: loading a checkpoint needs no rewriting, or cannot be done yet.
    """
    from fulmen.errors import NotYet

    parser = argparse.ArgumentParser(description="Rewrite checkpoints of old versions of Lightning in today's form.")
    parser.add_argument("path", type=Path, help="a checkpoint, or a folder with checkpoints")
    parser.add_argument("--extension", "-e", default=".ckpt", help="ending of the checkpoints in a folder")
    parser.add_argument("--map-to-cpu", action="store_true", help="move all tensors to the CPU")
    given = parser.parse_args(arguments)
    raise NotYet(
        f"Rewriting old checkpoints ({given.path})",
        "Files of Lightning 2.x load as they are; rewrite older ones with Lightning's own command",
    )


if __name__ == "__main__":
    main()
