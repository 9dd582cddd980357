"""Tensors as a safetensors file.

The format is eight bytes with the length of a JSON header, the header (name → dtype, shape, places), and the tensors' bytes in
the order of their places, without gaps. Source: the README of github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import torch
from torch import Tensor

from fulmen.plugins.io.atomic import replace_file

#: torch's dtypes and their names in the format
DTYPES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}


def write(path: Path, values: Mapping[str, Any]) -> tuple[int, int]:
    """Writes the tensors among some values; views become tensors of their own.

    Args:
        path: the file, replaced in one step when complete.
        values: tensors by name; everything else is left out.

    Returns:
        How many tensors, and their bytes. With none, no file is written.

    Raises:
        ValueError: a tensor of a dtype that the format lacks, or one that is not dense.
    """
    tensors = {str(name): value.detach() for name, value in values.items() if isinstance(value, Tensor)}
    if not tensors:
        return 0, 0
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    # largest alignment first, so that every tensor lies at a multiple of its element's size
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        tensor = tensors[name]
        if tensor.dtype not in DTYPES or tensor.layout is not torch.strided or tensor.is_meta:
            raise ValueError(
                f"{name}: expected a dense tensor of a dtype that safetensors knows, received {tensor.dtype}, "
                f"{tensor.layout}, on {tensor.device}. Convert it first, or leave it out."
            )
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, place + size],
        }
        place += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def fill(file: IO[bytes]) -> None:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in header:
            if name != "__metadata__":
                file.write(_bytes(tensors[name]))

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, fill)
    return len(tensors), place


def _bytes(tensor: Tensor) -> Any:
    flat = tensor.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
