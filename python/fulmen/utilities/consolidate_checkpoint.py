"""Turn a sharded checkpoint, a folder with one file a rank, into one file that a trainer on one device loads.

``python -m fulmen.utilities.consolidate_checkpoint FOLDER [--output_file FILE]``
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fulmen.utilities.types import _PATH

METADATA_FILENAME = "meta.pt"
"""The file with everything that is not sharded: counters, callbacks' states, hyperparameters."""


def load_distributed_checkpoint(folder: _PATH) -> dict[str, Any]:
    """Load a folder of `torch.distributed.checkpoint` as one dictionary; all of it has to fit into memory.

    Args:
        folder: the checkpoint.

    Raises:
        FileNotFoundError: it is no such folder.
    """
    # torch has no public way to load without knowing the keys, except from file to file
    from torch.distributed.checkpoint import FileSystemReader  # type: ignore[attr-defined]  # not in the stubs
    from torch.distributed.checkpoint.format_utils import _EmptyStateDictLoadPlanner  # type: ignore[attr-defined]  # not in the stubs
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    metadata = Path(folder, METADATA_FILENAME)
    if not metadata.is_file():
        raise FileNotFoundError(
            f"checkpoint_folder: expected a sharded checkpoint, a folder with a `{METADATA_FILENAME}`, got {folder}."
        )
    checkpoint: dict[str, Any] = {}
    planner = _EmptyStateDictLoadPlanner()
    _load_state_dict(checkpoint, storage_reader=FileSystemReader(folder), planner=planner, no_dist=True)
    checkpoint.update(torch.load(metadata, map_location="cpu"))
    return checkpoint


def _format_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Give the entries of a sharded checkpoint the names that they have in a single file, in place."""
    checkpoint["state_dict"] = checkpoint.pop("model")
    numbers = sorted(int(key.removeprefix("optimizer_")) for key in checkpoint if re.fullmatch(r"optimizer_\d+", key))
    if numbers:
        checkpoint["optimizer_states"] = [checkpoint.pop(f"optimizer_{number}") for number in numbers]
    return checkpoint


def main(arguments: Sequence[str] | None = None) -> None:
    """The command.

    Args:
        arguments: those of the command line; None: those of the process.
    """
    parser = argparse.ArgumentParser(description="Turn a sharded checkpoint into a single file.")
    parser.add_argument("checkpoint_folder", type=Path, help="the checkpoint: a folder")
    parser.add_argument(
        "--output_file",
        type=Path,
        help="the file to write; default: beside the folder, with the ending '.consolidated'",
    )
    given = parser.parse_args(arguments)
    folder: Path = given.checkpoint_folder
    output: Path = given.output_file or folder.with_name(f"{folder.name}.consolidated")
    if output.exists():
        parser.error(f"--output_file: {output} exists already. Choose another name, or move that file away.")
    try:
        checkpoint = load_distributed_checkpoint(folder)
    except FileNotFoundError as error:
        parser.error(str(error))
    torch.save(_format_checkpoint(checkpoint), output)


if __name__ == "__main__":
    main()
