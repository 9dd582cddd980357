"""``fulmen ckpt``: look into checkpoint files, without running anything that they hold.

fulmen ckpt inspect FILE                  the key tree with types, shapes and sizes
fulmen ckpt verify FILE ...               every checksum, and the digest if there is one
fulmen ckpt diff FILE FILE                what differs
fulmen ckpt convert FILE OUT.safetensors  the tensors of the state_dict (--all: all tensors)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

USAGE: Final = """usage: fulmen ckpt inspect [--depth N] FILE
       fulmen ckpt verify FILE ...
       fulmen ckpt diff FILE FILE
       fulmen ckpt convert [--all] FILE OUT.safetensors

inspect    print the tree of keys with types, shapes and sizes
verify     compare every checksum, and the SHA-256 of FILE.sha256 if there is one; status 1 if a file is damaged
diff       print what differs between two files; status 1 if anything does
convert    write the tensors of the state_dict (--all: all tensors, under their paths) as safetensors

No code of a file is run: objects that are no plain data appear by the name of their class.
"""


def main(arguments: list[str]) -> int:
    """The command.

    Args:
        arguments: what was typed after ``fulmen ckpt``.

    Returns:
        The exit status: 0; 1 for a damaged file or a difference; 2 for a wrong command line.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    commands: dict[str, Callable[[list[str]], int]] = {
        "inspect": _inspect,
        "verify": _verify,
        "diff": _diff,
        "convert": _convert,
    }
    command = commands.get(arguments[0])
    if command is None:
        return _wrong(f"unknown command {arguments[0]!r}; the commands are {', '.join(commands)}")
    from fulmen.utilities.exceptions import DamagedCheckpoint

    try:
        return command(arguments[1:])
    except BrokenPipeError:
        return 0
    except (DamagedCheckpoint, OSError) as error:
        print(f"fulmen ckpt {arguments[0]}: {error}", file=sys.stderr)
        return 1


def _wrong(message: str) -> int:
    print(f"fulmen ckpt: {message}\n\n{USAGE}", end="", file=sys.stderr)
    return 2


# ---- inspect ---------------------------------------------------------------------------------------------------------


def _inspect(arguments: list[str]) -> int:
    depth = 1000
    if arguments[:1] == ["--depth"]:
        if len(arguments) < 2 or not arguments[1].isdigit():
            return _wrong("--depth needs a number")
        depth, arguments = int(arguments[1]), arguments[2:]
    if len(arguments) != 1:
        return _wrong("inspect takes one file")
    from fulmen.plugins.io.contents import describe, read, storage_bytes

    content = read(arguments[0])
    print(f"{arguments[0]}: {_size(Path(arguments[0]).stat().st_size)}, tensors {_size(storage_bytes(content))}")
    for level, key, text in describe(content, depth):
        print(f"{'  ' * level}{key}: {text}")
    return 0


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


# ---- verify ----------------------------------------------------------------------------------------------------------


def _verify(arguments: list[str]) -> int:
    if not arguments:
        return _wrong("verify takes one file or more")
    from fulmen._core import CheckpointFile
    from fulmen.plugins.io.native_io import DIGEST_SUFFIX, file_digest
    from fulmen.utilities.exceptions import DamagedCheckpoint

    status = 0
    for name in arguments:
        try:
            file = CheckpointFile(name)
            file.verify()
        except (DamagedCheckpoint, OSError) as error:
            print(f"{name}: DAMAGED: {error}")
            status = 1
            continue
        note = f"{len(file.entries())} entries"
        digest = Path(name + DIGEST_SUFFIX)
        if digest.is_file():
            if digest.read_text().split()[:1] != [file_digest(name)]:
                print(f"{name}: DAMAGED: its SHA-256 is not the one in {digest}")
                status = 1
                continue
            note += ", SHA-256"
        print(f"{name}: ok ({note})")
    return status


# ---- diff ------------------------------------------------------------------------------------------------------------


def _diff(arguments: list[str]) -> int:
    if len(arguments) != 2:
        return _wrong("diff takes two files")
    from fulmen.plugins.io.contents import flatten, read

    left, right = (dict(flatten(read(name))) for name in arguments)
    lines = list(_differences(left, right))
    for line in lines:
        print(line)
    if not lines:
        print("no difference")
    return 1 if lines else 0


def _differences(left: dict[str, Any], right: dict[str, Any]) -> Iterator[str]:
    from fulmen.plugins.io.contents import difference, show

    for key in left:
        if key not in right:
            yield f"- {key}: {show(left[key])}"
    for key, value in right.items():
        if key not in left:
            yield f"+ {key}: {show(value)}"
        else:
            found = difference(left[key], value)
            if found is not None:
                yield f"~ {key}: {found}"


# ---- convert ---------------------------------------------------------------------------------------------------------


def _convert(arguments: list[str]) -> int:
    everything = "--all" in arguments
    names = [a for a in arguments if a != "--all"]
    if len(names) != 2:
        return _wrong("convert takes a file and the name of the new one")
    if not names[1].endswith(".safetensors"):
        return _wrong(f"the new file's name has to end with .safetensors, got {names[1]}")
    from fulmen.plugins.io.contents import flatten, read
    from fulmen.plugins.io.safetensors import write

    content = read(names[0])
    weights = content.get("state_dict", content) if isinstance(content, dict) else {}
    count, size = write(Path(names[1]), dict(flatten(content)) if everything else weights)
    if not count:
        return _wrong(f"{names[0]} has no tensors in its state_dict; try --all")
    print(f"{names[1]}: {count} tensors, {_size(size)}")
    return 0
