"""Checkpoints of DeepSpeed: folders with one file a rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fulmen.utilities.types import _PATH


def ds_checkpoint_dir(checkpoint_dir: _PATH, tag: str | None = None) -> str:
    """The folder of one saved state in a checkpoint of DeepSpeed.

    Args:
        checkpoint_dir: the checkpoint.
        tag: which state (``"global_step14"``); None: the one that the file ``latest`` names.

    Raises:
        ValueError: no tag is given, and there is no file ``latest``.
        FileNotFoundError: there is no such folder.
    """
    if tag is None:
        latest = Path(checkpoint_dir, "latest")
        if not latest.is_file():
            raise ValueError(f"Unable to find 'latest' file at {latest}. Pass the state's name as `tag`.")
        tag = latest.read_text().strip()
    folder = Path(checkpoint_dir, tag)
    if not folder.is_dir():
        raise FileNotFoundError(f"Directory '{folder}' doesn't exist: the checkpoint has no state {tag!r}.")
    return str(folder)


def convert_zero_checkpoint_to_fp32_state_dict(
    checkpoint_dir: _PATH, output_file: _PATH, tag: str | None = None
) -> dict[str, Any]:
    """Turn a ZeRO checkpoint into one file with 32-bit weights that ``load_from_checkpoint`` reads.

    Args:
        checkpoint_dir: the checkpoint's folder.
        output_file: the file to write.
        tag: which state; None: the latest.

    Raises:
        NotYet: always, with this version.
    """
    from fulmen.errors import NotYet

    raise NotYet(
        "convert_zero_checkpoint_to_fp32_state_dict",
        "Run the script `zero_to_fp32.py` that DeepSpeed puts beside its checkpoints",
    )
