"""A JPEG or PNG file without what its pixels do not need: texts, EXIF, XMP, profiles, previews.

Segments and chunks are left out byte by byte, and nothing is encoded again: the pixels stay as they
are to the bit. What this package wrote into a synthetic image stays.
"""

import json
import re
import struct
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
# Numbers that say how to show the pixels, and the most bytes that they have.
_SHOWN = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"sBIT": 4, b"pHYs": 9}
_OF_PNG = {
    b"tEXt": "text",
    b"zTXt": "text",
    b"iTXt": "text",
    b"eXIf": "EXIF",
    b"iCCP": "colour profile",
    b"tIME": "date",
}
_OTHER = "other data"

_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_SOI, _EOI, _SOS, _COM, _APP0, _APP14 = 0xD8, 0xD9, 0xDA, 0xFE, 0xE0, 0xEE
_TABLES = {*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD} - {0xC8}  # frames, scans and what they use
_OF_JPEG = (  # how a segment of an application begins
    (b"Exif\0", "EXIF"),
    (b"http://ns.adobe.com/", "XMP"),
    (b"ICC_PROFILE\0", "colour profile"),
    (b"Photoshop ", "IPTC"),
)

# Comments that name the program that wrote the file, and can hold nothing else: they stay, so that a
# plain photograph is stored byte for byte, under the hash that it has everywhere.
_ENCODER = re.compile(
    rb"""(?: Intel\(R\)\ JPEG\ Library,\ version\ [\[\]\d.,]{1,20}
    | LEAD\ Technologies\ Inc\.\ V[\d.]{1,10}
    | Handmade\ Software,\ Inc\.\ Image\ Alchemy\ v[\d.]{1,10}
    | CREATOR:\ gd-jpeg\ v[\d.]{1,10}\ \(using\ IJG\ JPEG\ v\d{1,3}\)(?:,\ (?:default\ )?quality(?:\ =\ \d{1,3})?)?
    | Lavc[\d.]{1,20} | Created\ with\ (?:The\ )?GIMP | AppleMark
    ) [\0\n]{0,2}""",
    re.VERBOSE,
)


def strip(data: bytes) -> tuple[bytes, tuple[str, ...]] | None:
    """The file without its metadata, and the kinds that were left out, in alphabetical order.

    A file with nothing to leave out comes back byte for byte. None where it is not understood.
    """
    parts = _png(data) if data.startswith(_PNG) else _jpeg(data)
    if parts is None:
        return None
    if any(kind and _says_synthetic(content) for kind, content in parts):
        parts = [("" if kind in ("text", "comment", "EXIF") else kind, c) for kind, c in parts]
    kept = b"".join(content for kind, content in parts if not kind)
    return kept, tuple(sorted({kind for kind, _ in parts if kind}))


def _says_synthetic(content: bytes) -> bool:
    """Whether a chunk or segment is what `images.encode` writes first into a synthetic image."""
    if content[4:8] == b"iTXt":
        return content[8:-4] == b"synthetic\0\0\0\0\0true"
    if content[:2] != bytes([0xFF, _COM]):
        return False
    try:
        said = json.loads(content[4:])
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("synthetic") is True


def _png(data: bytes) -> list[tuple[str, bytes]] | None:
    """What each chunk is, empty for one that is needed, and its bytes."""
    parts, at = [("", _PNG)], len(_PNG)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        chunk = data[at : at + 12 + length]
        if len(chunk) < 12 + length:
            return None
        needed = name in _PIXELS or length <= _SHOWN.get(name, -1)
        parts.append(("" if needed else _kind_of_text(name, chunk), chunk))
        at += 12 + length
        if name == b"IEND":
            return [*parts, *([(_OTHER, data[at:])] if at < len(data) else [])]
    return None


def _kind_of_text(name: bytes, chunk: bytes) -> str:
    is_xmp = chunk[8:].startswith((b"XML:com.adobe.xmp", b"Raw profile type xmp"))
    return "XMP" if is_xmp else _OF_PNG.get(name, _OTHER)


def _jpeg(data: bytes) -> list[tuple[str, bytes]] | None:
    """What each segment is, empty for one that is needed, and its bytes with those of its scan."""
    if data[:2] != bytes([0xFF, _SOI]):
        return None
    parts, at = [("", data[:2])], 2
    while match := _MARKER.search(data, at):
        marker, body = match[1][0], match.end()
        if match.start() > at:
            parts.append((_OTHER, data[at : match.start()]))
        if marker == _EOI:
            rest = [(_OTHER, data[body:])] if body < len(data) else []
            return [*parts, ("", bytes([0xFF, _EOI])), *rest]
        if body + 2 > len(data):
            return None
        end = body + int.from_bytes(data[body : body + 2])
        if end < body + 2 or end > len(data):
            return None
        if marker == _SOS:
            following = _MARKER.search(data, end)
            end = following.start() if following else len(data)
        parts += _segment(marker, data[body:end])
        at = end
    return None


def _segment(marker: int, body: bytes) -> Iterator[tuple[str, bytes]]:
    """A segment, `body` beginning with its length; of what colours depend on, only that."""
    whole, content = bytes([0xFF, marker]) + body, body[2:]
    if marker in _TABLES:
        yield "", whole
    elif marker == _APP0 and content.startswith(b"JFIF\0") and len(content) >= 14:
        yield "", whole[:2] + b"\0\x10" + content[:12] + b"\0\0"  # without its preview
        if len(content) > 14:
            yield "preview", b""
    elif marker == _APP14 and content.startswith(b"Adobe") and len(content) >= 12:
        yield "", whole[:2] + b"\0\x0e" + content[:12]
        if len(content) > 12:
            yield _OTHER, b""
    elif marker == _COM:
        yield "" if _ENCODER.fullmatch(content) else "comment", whole
    else:
        kinds = (kind for begins, kind in _OF_JPEG if content.startswith(begins))
        yield next(kinds, _OTHER), whole
