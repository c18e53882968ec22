"""Safetensors files with notes: equal content gives equal files."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vesalius.core.atomic import atomic_path, clear_write_errors

if TYPE_CHECKING:
    from torch import Tensor


def save_tensors(path: Path, tensors: Mapping[str, "Tensor"], notes: Mapping[str, str]) -> None:
    """Write `tensors`, and `notes` in the header, sorted by name; whole or not at all.

    The library's own writer keeps notes in a hash map: their order, and with it the file's hash,
    would be another each time.
    """
    from safetensors.torch import save

    data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    (length,) = struct.unpack("<Q", data[:8])
    header = {"__metadata__": dict(sorted(notes.items()))} | json.loads(data[8 : 8 + length])
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    writing = clear_write_errors(path, 2 * len(data))
    with writing, atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.write(memoryview(data)[8 + length :])
