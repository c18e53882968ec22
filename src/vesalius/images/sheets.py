"""PNG files that carry their provenance inside, and contact sheets."""

import base64
import io
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vesalius.images.encode import encode_image

_MARGIN = 12  # pixels around and between the tiles of a sheet
_FONT_SIZE = 14
_LINE = 18  # pixels from one line of text to the next
_MOST_LINES = 4  # of a caption


def write_png(path: Path | str, image: Image.Image, provenance: Mapping[str, Any]) -> None:
    """Write `image` (8 bits, grey or RGB) with one PNG text chunk (UTF-8) per item of `provenance`.

    No time is written: the same image and provenance give the same bytes.
    """
    Path(path).write_bytes(encode_image(np.asarray(image), provenance))


def contact_sheet(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    columns: int,
    *,
    title: str = "",
    tile: int = 256,
) -> Image.Image:
    """A grid of `images` on white, each fitted into a `tile`-pixel square with its caption under it.

    Small images are enlarged by a whole number of times: pixels become squares.
    Captions are wrapped to the tile's width and end in an ellipsis after four lines.
    """
    font = ImageFont.load_default(_FONT_SIZE)
    wrapped = [wrap(caption, tile, font, _MOST_LINES) for caption in captions]
    text_height = _LINE * max((len(lines) for lines in wrapped), default=0)
    width = columns * (tile + _MARGIN) + _MARGIN
    heading = wrap(title, width - 2 * _MARGIN, font, 10) if title else []
    top = _MARGIN + _LINE * len(heading) + (_MARGIN if heading else 0)
    cell = tile + text_height + 2 * _MARGIN
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (width, top + rows * cell), "white")
    draw = ImageDraw.Draw(sheet)
    _write_lines(draw, (_MARGIN, _MARGIN), heading, font)
    for k, (image, lines) in enumerate(zip(images, wrapped, strict=True)):
        x = _MARGIN + (k % columns) * (tile + _MARGIN)
        y = top + (k // columns) * cell
        small = thumbnail(image, tile)
        times = max(1, tile // max(small.size))
        small = small.resize((times * small.width, times * small.height), Image.Resampling.NEAREST)
        sheet.paste(small, (x + (tile - small.width) // 2, y + (tile - small.height) // 2))
        _write_lines(draw, (x, y + tile + 4), lines, font)
    return sheet


def thumbnail(image: Image.Image, tile: int) -> Image.Image:
    """An RGB copy that fits a `tile`-pixel square; small images are not enlarged."""
    small = image.convert("RGB")
    small.thumbnail((tile, tile))
    return small


def data_uri(image: Image.Image, tile: int) -> str:
    """A thumbnail as text that a page can show without any other file; nothing but pixels is kept."""
    small = thumbnail(image, tile)
    small.info.clear()  # a JPEG comment may name the patient, and Pillow would keep it
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def wrap(text: str, width: int, font: Any, most_lines: int) -> list[str]:
    """`text` in lines of at most `width` pixels; an ellipsis ends what takes more lines."""
    lines: list[str] = []
    line = ""
    for word in text[: (most_lines + 1) * width].split():  # no letter is narrower than a pixel
        if line and font.getlength(f"{line} {word}") > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
        while font.getlength(line) > width and len(line) > 1:  # one word wider than a line
            ends = range(2, min(len(line), width) + 1)
            fits = 1 + bisect_right(ends, width, key=lambda end: font.getlength(line[:end]))
            lines.append(line[:fits])
            line = line[fits:]
    lines += [line] if line else []
    if len(lines) <= most_lines:
        return lines
    last = lines[most_lines - 1]
    while last and font.getlength(last + "…") > width:
        last = last[:-1]
    return [*lines[: most_lines - 1], last + "…"]


def _write_lines(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], lines: Sequence[str], font: Any
) -> None:
    x, y = corner
    for k, line in enumerate(lines):
        draw.text((x, y + k * _LINE), line, fill="black", font=font)
