"""What a machine sees of an image besides the picture: its file, and traces of how it was stored.

Features of the container must be equal in all arms. Those of the picture, sharpness and noise, are
for readers to see, and are reported only.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.study.equalise import chunks, inside

PLAIN = ("IHDR", "IDAT", "IEND")
_SIDE = 16  # of the maps of left against right


@dataclass(frozen=True)
class Seen:
    """What is known of one image."""

    container: Mapping[str, float]
    picture: Mapping[str, float]
    asymmetry: np.ndarray  # (S, S), antisymmetric from left to right


def see(path: Path, position: float, prompt: str) -> Seen:
    """The features of a file, which is at `position` in its readers' orders, from 0 to 1.

    Raises VesaliusError where it cannot be read.
    """
    try:
        data, stat = path.read_bytes(), path.stat()
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            kind, mode, exif = image.format, image.mode, len(image.getexif())
            noted = len(image.info)
            values = np.asarray(image.convert("L")).astype(np.float64)
            coloured = mode not in ("L", "1") and np.ptp(np.asarray(image.convert("RGB")), -1).any()
    except Exception as error:  # Pillow raises anything
        raise VesaliusError(f"{path} cannot be read: {error}") from error
    found = chunks(data)
    height, width = values.shape
    left, top, right, bottom = inside(values)
    container = {
        "bytes": float(len(data)),
        "chunks": float(len(found)),
        "other chunks": float(sum(name not in PLAIN for name in found)),
        "notes inside": float(exif + noted),
        "PNG": float(kind == "PNG"),
        "channels": float(len(Image.new(mode, (1, 1)).getbands())),
        "bits": float(data[24]) if kind == "PNG" else 8.0,
        "compression": float(_compression(data)),
        "colour": float(coloured),
        "width": float(width),
        "height": float(height),
        "blockiness": _blockiness(values),
        "border left": left / width,
        "border right": 1 - right / width,
        "border top": top / height,
        "border bottom": 1 - bottom / height,
        "unused grey levels": _unused(values),
        "name": int(path.stem[:4], 16) / 0xFFFF if _is_hex(path.stem[:4]) else -1.0,
        "length of the name": float(len(path.stem)),
        "time of the file": stat.st_mtime / 86400,
        "place in the order": position,
        "words of the prompt": float(len(prompt.split())),
        "letters of the prompt": float(len(prompt)),
    }
    return Seen(container, _picture(values), _asymmetry(values))


def _is_hex(text: str) -> bool:
    return bool(text) and all(letter in "0123456789abcdef" for letter in text)


def _compression(data: bytes) -> int:
    """The level that the first bytes of a PNG's data name, 0 to 3."""
    place = data.find(b"IDAT")
    return data[place + 5] >> 6 if 0 <= place < len(data) - 5 else -1


def _blockiness(values: np.ndarray) -> float:
    """How much larger steps are across the edges of 8 x 8 blocks than in their middle; log of a ratio.

    The edges are those of the phase with the largest steps: a picture may be cut within a block.
    """
    found = []
    for steps in (np.abs(np.diff(values, 2, axis=1)), np.abs(np.diff(values, 2, axis=0)).T):
        columns = steps.mean(0)
        phase = [columns[k::8].mean() for k in range(8)]
        pairs = [phase[k] + phase[(k + 1) % 8] for k in range(8)]
        found.append(np.log((max(pairs) + 0.02) / (np.median(pairs) + 0.02)))
    return float(np.mean(found))


def _unused(values: np.ndarray) -> float:
    """The share of grey levels, from the 1st to the 99th percentile, that no pixel has."""
    low, high = np.percentile(values, (1, 99)).astype(int)
    used = np.unique(values[(values >= low) & (values <= high)].astype(int))
    return 1 - len(used) / max(1, high - low + 1)


def _picture(values: np.ndarray) -> dict[str, float]:
    """Sharpness (deviation of the Laplacian) and noise (Immerkaer 1996), in grey levels."""
    c = values
    laplacian = c[:-2, 1:-1] + c[2:, 1:-1] + c[1:-1, :-2] + c[1:-1, 2:] - 4 * c[1:-1, 1:-1]
    cross = (
        c[:-2, :-2] + c[:-2, 2:] + c[2:, :-2] + c[2:, 2:] + 4 * c[1:-1, 1:-1]
        - 2 * (c[:-2, 1:-1] + c[2:, 1:-1] + c[1:-1, :-2] + c[1:-1, 2:])
    )  # fmt: skip
    noise = np.sqrt(np.pi / 2) * np.abs(cross).mean() / 6
    return {"sharpness": float(laplacian.std()), "noise": float(noise)}


def _asymmetry(values: np.ndarray) -> np.ndarray:
    small = Image.fromarray(values.astype(np.float32)).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, np.float64)
    return grey - grey[:, ::-1]


def table(seen: Sequence[Mapping[str, float]]) -> tuple[list[str], np.ndarray]:
    """Names and values (N, D) of the features."""
    names = list(seen[0])
    return names, np.array([[one[name] for name in names] for one in seen])
