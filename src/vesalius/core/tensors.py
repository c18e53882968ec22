"""Safetensors files: one door in, and a writer whose equal content gives equal files."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.core.documents import parse_json
from vesalius.core.stopping import raise_if_asked
from vesalius.errors import VesaliusError, first_line

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_HEADER = 100_000_000  # bytes, the safetensors library's own limit


def read_tensors(path: Path) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """The tensors and notes of a file. Raises VesaliusError unless it is whole and safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    header = read_header(path)
    try:
        return load_file(path), header.get("__metadata__") or {}
    # formats that this torch does not know are a KeyError, shapes that do not fit a RuntimeError
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise_if_asked(error)
        raise VesaliusError(f"{path} is corrupt ({first_line(error)}): get it again") from error


def read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: tensor name to dtype, shape and data_offsets.

    The format: 8 bytes little-endian header length, a JSON header, then the tensors, which fill
    the rest of the file without gaps (https://huggingface.co/docs/safetensors).
    Raises VesaliusError unless the file is whole and what it claims to be.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            disguise = _disguise(start)
            if size < 8 or length > min(size - 8, LONGEST_HEADER):
                why = disguise or ("it is empty" if size == 0 else "it is cut short or corrupt")
                raise VesaliusError(f"{path} is not a safetensors file ({why}): get it again")
            raw = file.read(length)
    except OSError as error:
        raise VesaliusError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        header = parse_json(raw, path)
        tensors = {key: value for key, value in header.items() if key != "__metadata__"}
        ends = [_end(tensor) for tensor in tensors.values()]
        notes = header.get("__metadata__") or {}
        if not all(isinstance(note, str) for note in notes.values()):
            raise ValueError("notes are text")
    except (VesaliusError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = disguise or "its header is corrupt"
        raise VesaliusError(f"{path} is not a safetensors file ({why}): get it again") from error
    if (end := max(ends, default=0)) != size - 8 - length:
        raise VesaliusError(
            f"{path} is corrupt: its header promises {end:,} bytes of tensors, and there are "
            f"{size - 8 - length:,}: get it again"
        )
    return header


def _end(tensor: Mapping[str, Any]) -> int:
    """Where a tensor ends. Raises ValueError or TypeError where its entry cannot be true."""
    start, end = tensor["data_offsets"]
    numbers = (start, end, *tensor["shape"])
    if not isinstance(tensor["dtype"], str) or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("whole numbers are expected")
    bits = 8 * (end - start)
    if bits < 0 or bits > 128 * math.prod(tensor["shape"]):  # of the widest format there is
        raise ValueError("offsets do not fit the shape")
    return end


def _disguise(start: bytes) -> str | None:
    """What a file that is not safetensors looks like, from its first bytes."""
    if start.startswith(b"PK"):
        return "it looks like a zip archive, such as torch.save writes: a pickle"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "it looks like a pickle"
    if start.startswith(b"version "):
        return "it is a Git LFS pointer: run `git lfs pull`"
    return None


def save_tensors(path: Path, tensors: Mapping[str, "Tensor"], notes: Mapping[str, str]) -> None:
    """Write `tensors`, and `notes` in the header, sorted by name; whole or not at all."""
    data = encode_tensors(tensors, notes)
    with clear_write_errors(path, len(data)), atomic_path(path) as temporary:
        temporary.write_bytes(data)


def encode_tensors(tensors: Mapping[str, "Tensor"], notes: Mapping[str, str]) -> bytes:
    """A safetensors file with `notes` in its header, sorted by name: equal content, equal bytes.

    The library's own writer keeps notes in a hash map: their order, and with it the file's hash,
    would be another each time.
    """
    from safetensors.torch import save

    data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    (length,) = struct.unpack("<Q", data[:8])
    header = {"__metadata__": dict(sorted(notes.items()))} | json.loads(data[8 : 8 + length])
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    return b"".join((struct.pack("<Q", len(text)), text, memoryview(data)[8 + length :]))
