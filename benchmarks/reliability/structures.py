"""Seeded mutations that know the format: the file stays one of its kind, and what it says is odd."""

import gzip
import io
import json
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

CELLS = [
    *("", " ", "nan", "NaN", "inf", "-1", "0", "1e999", "9" * 4000, "2020-13-45", "TRUE", "null"),
    *("é\u202e", "\x00", "a,b", 'a"b', '"', "'", "a\nb", "[1, 2]", "{'a': 1}", "[[[[", "../../x"),
    *(
        "/etc/passwd",
        "~nobody/x.png",
        "x" * 100_000,
        "=1+1",
        "\ufeff",
        "\\",
        "http://127.0.0.1:9/x",
    ),
]
NUMBERS = [0, 1, -1, 2, 3, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1]
REALS = [0.0, -1.0, 1e-300, 1e30, float("nan"), float("inf"), -float("inf"), 0.5]
ENCODINGS = ("utf-16", "utf-32", "latin-1", "utf-8-sig", "utf-7", "cp037")


def of_lines(data: bytes, rng: random.Random, mark: str = ",") -> bytes:
    """A table of text: cells, rows and columns replaced, doubled, cut or in another encoding."""
    lines = [line.split(mark) for line in data.decode().splitlines()]
    for _ in range(rng.choice((1, 1, 2, 4))):
        row = rng.randrange(len(lines))
        column = rng.randrange(max(1, len(lines[row])))
        kind = rng.randrange(9)
        if kind < 3 and lines[row]:
            lines[row][min(column, len(lines[row]) - 1)] = rng.choice(CELLS)
        elif kind == 3:
            del lines[row][column:]
        elif kind == 4:  # two columns of one name
            lines[0].append(rng.choice(lines[0] or [""]))
        elif kind == 5:
            lines.insert(row, list(lines[rng.randrange(len(lines))]))
        elif kind == 6:
            lines[row] += [rng.choice(CELLS)] * rng.choice((1, 3, 3000))
        elif kind == 7 and len(lines) > 1:
            del lines[row]
        else:
            lines[0][rng.randrange(max(1, len(lines[0]))) :] = [rng.choice(CELLS)]
    text = rng.choice(("\n", "\n", "\r\n", "\r")).join(mark.join(line) for line in lines)
    if rng.random() < 0.15:
        return text.encode(rng.choice(ENCODINGS), "replace")
    return text.encode()


def of_json_lines(data: bytes, rng: random.Random, changed: Callable[..., Any]) -> bytes:
    """Lines of JSON: one of them changed, with a key twice, cut, or no object."""
    lines = data.decode().splitlines()
    row, kind = rng.randrange(len(lines)), rng.randrange(6)
    if kind < 3:
        lines[row] = json.dumps(changed(json.loads(lines[row]), rng))
    elif kind == 3:
        lines[row] = twice(lines[row], rng)
    elif kind == 4:
        lines[row] = lines[row][: rng.randrange(len(lines[row]))]
    else:
        lines[row] = rng.choice(["[]", "1", "null", '"a"', "[" * 2000, "{}", "", "NaN", "1e999"])
    return ("\n".join(lines) + "\n").encode(rng.choice(("utf-8",) * 6 + ENCODINGS), "replace")


def twice(text: str, rng: random.Random) -> str:
    """A JSON object in which a key stands twice."""
    content = json.loads(text)
    if not isinstance(content, dict) or not content:
        return text
    name = rng.choice(list(content))
    value = json.dumps(rng.choice([None, 1, "x", [], {}, content[name]]))
    return text.rstrip()[:-1] + f", {json.dumps(name)}: {value}}}"


def of_png(data: bytes, rng: random.Random) -> bytes:
    """Chunks with right checksums that lie, repeat, swap places or say too much."""
    chunks, place = [], 8
    while place + 8 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append([data[place + 4 : place + 8], data[place + 8 : place + 8 + length]])
        place += 12 + length
    kind = rng.randrange(6)
    number = rng.randrange(len(chunks))
    if kind == 0:
        width, height = (rng.choice((0, 1, 24, 30_000, 2**31 - 1)) for _ in range(2))
        depth, colour = rng.choice((1, 2, 4, 8, 16, 7)), rng.choice((0, 2, 3, 4, 6, 5))
        chunks[0][1] = struct.pack(
            ">IIBBBBB", width, height, depth, colour, 0, 0, rng.choice((0, 1))
        )
    elif kind == 1:
        text = b"vesalius\0" + b"\0" * rng.choice((0, 2)) + rng.choice((b"[" * 3000, b"{", b"\xff"))
        chunks.insert(1, [rng.choice((b"tEXt", b"iTXt", b"zTXt")), text])
    elif kind == 2:  # much out of little
        packed = zlib.compress(b" " * 50_000_000)
        name = rng.choice((b"zTXt", b"iCCP", b"IDAT"))
        chunks.insert(1, [name, packed if name == b"IDAT" else b"x\0\0" + packed])
    elif kind == 3:
        other = rng.randrange(len(chunks))
        chunks[number], chunks[other] = chunks[other], chunks[number]
    elif kind == 4:
        chunks.insert(number, chunks[rng.randrange(len(chunks))])
    else:
        chunks[number][0] = rng.choice(
            (b"acTL", b"fdAT", b"PLTE", b"tRNS", b"gAMA", b"eXIf", b"\0\0\0\0")
        )
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    return data[:8] + b"".join(parts)


def of_tiff(data: bytes, rng: random.Random) -> bytes:
    """Entries of the first directory with another tag, type, count or value."""
    order = "<" if data[:2] == b"II" else ">"
    content = bytearray(data)
    (start,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[start : start + 2])
    for _ in range(rng.choice((1, 1, 2))):
        place = start + 2 + 12 * rng.randrange(count)
        kind = rng.randrange(4)
        if kind == 0:
            tags = (256, 257, 258, 259, 262, 273, 277, 279, 284, 317, 322, 338, 339, 330, 34665)
            content[place : place + 2] = struct.pack(order + "H", rng.choice(tags))
        elif kind == 1:
            content[place + 2 : place + 4] = struct.pack(order + "H", rng.randrange(14))
        elif kind == 2:
            number = rng.choice((0, 1, 3, 2**16, 2**31, 2**32 - 1))
            content[place + 4 : place + 8] = struct.pack(order + "I", number)
        else:
            value = rng.choice([n for n in NUMBERS if n >= 0])
            content[place + 8 : place + 12] = struct.pack(order + "I", value)
    return bytes(content)


_DICOM = {
    "Rows": NUMBERS, "Columns": NUMBERS, "SamplesPerPixel": NUMBERS, "BitsAllocated": [1, 8, 12, 16, 32, 64, 0],
    "BitsStored": [0, 1, 8, 12, 16, 255], "HighBit": [0, 7, 15, 255], "PixelRepresentation": [0, 1, 2],
    "PlanarConfiguration": [0, 1, 2], "NumberOfFrames": ["0", "-1", "1", "2", "2147483647", "a", ""],
    "PhotometricInterpretation": ["MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR", "YBR_FULL",
                                  "YBR_FULL_422", "YBR_ICT", "CMYK", "", "x" * 64],
    "WindowCenter": ["0", "nan", "1,5", "a", "1e30", "", ["1", "2"]], "WindowWidth": ["0", "1", "-5", "nan", "", "a"],
    "RescaleSlope": ["0", "nan", "1e30", "a", ""], "RescaleIntercept": ["nan", "-1e30", "x", ""],
    "PixelSpacing": [["0", "0"], "1", "a", ["-1", "nan"]], "SpecificCharacterSet": ["x", "ISO 2022 IR 87", ""],
    "SOPInstanceUID": ["", "1.2", "x", "1" * 64], "SOPClassUID": ["", "1.2.3"], "PatientAge": ["999Y", "x", "-1Y"],
    "StudyDate": ["20201345", "x", ""], "Modality": ["", "SR", "x" * 16], "PatientName": ["<b>", "\x00", "é^ü"],
    "SmallestImagePixelValue": NUMBERS, "LUTData": [b"", b"\x00" * 6], "PresentationLUTShape": ["INVERSE", "x"],
}  # fmt: skip
_SYNTAXES = (
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"),
    *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90", "1.2.3", ""),
    *("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.201"),
)


def of_dicom(data: bytes, rng: random.Random) -> bytes:
    """Elements that lie about the pixels, are missing, nested, or of another transfer syntax."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind, name = rng.randrange(6), rng.choice(list(_DICOM))
        if kind < 3:
            with suppress(Exception):  # a value that pydicom itself will not hold
                setattr(dataset, name, rng.choice(_DICOM[name]))
        elif kind == 3:
            present = [element.keyword for element in dataset if element.keyword]
            delattr(dataset, rng.choice(present))
        elif kind == 4:
            dataset.file_meta.TransferSyntaxUID = UID(rng.choice(_SYNTAXES))
        else:
            inner = Dataset()
            for _ in range(rng.choice((1, 40))):
                outer = Dataset()
                outer.ReferencedImageSequence = Sequence([inner])
                inner = outer
            dataset.ReferencedImageSequence = Sequence([inner] * rng.choice((1, 50)))
    if rng.random() < 0.2 and "PixelData" in dataset:
        dataset.PixelData = dataset.PixelData[: rng.randrange(len(dataset.PixelData))]
    stream = io.BytesIO()
    try:
        pydicom.dcmwrite(stream, dataset, enforce_file_format=False)
    except Exception as error:  # what cannot be written is no case
        raise ValueError(str(error)) from error
    return stream.getvalue()


def of_nifti(data: bytes, rng: random.Random) -> bytes:
    """Fields of the header with another number."""
    packed = data[:2] == b"\x1f\x8b"
    content = bytearray(gzip.decompress(data) if packed else data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind = rng.randrange(5)
        if kind == 0:
            content[40 + 2 * rng.randrange(8) :][:0] = b""
            place = 40 + 2 * rng.randrange(8)
            content[place : place + 2] = struct.pack("<h", rng.choice((0, 1, -1, 2, 7, 9, 32767)))
        elif kind == 1:
            codes = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1536, 1792, 2048, 9)
            content[70:72] = struct.pack("<h", rng.choice(codes))
        elif kind == 2:
            place = rng.choice((108, 112, 116, *range(76, 108, 4)))
            content[place : place + 4] = struct.pack("<f", np.float32(rng.choice(REALS)))
        elif kind == 3:
            content[252:256] = struct.pack("<hh", rng.choice((0, 1, 4, -1)), rng.choice((0, 1, 9)))
        else:
            place = rng.randrange(256, 328, 4)
            content[place : place + 4] = struct.pack("<f", np.float32(rng.choice(REALS)))
    if rng.random() < 0.1:
        del content[rng.randrange(len(content)) :]
    return gzip.compress(bytes(content)) if packed else bytes(content)


_NAMES = [
    "",
    "a",
    "../x.png",
    "/x.png",
    "a" * 300 + ".png",
    "é\u202e.png",
    "a/b/c.png",
    "0.json",
    ".",
]


def of_tar(data: bytes, rng: random.Random) -> bytes:
    """Members with other names, kinds, sizes and notes."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [(one, (tar.extractfile(one) or io.BytesIO()).read()) for one in tar]
    info, body = members[rng.randrange(len(members))]
    kind = rng.randrange(7)
    if kind == 0:
        info.name = rng.choice(_NAMES)
    elif kind == 1:
        kinds = (
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.DIRTYPE,
            tarfile.FIFOTYPE,
            tarfile.CHRTYPE,
        )
        info.type, info.linkname = rng.choice(kinds), rng.choice(_NAMES)
    elif kind == 2:
        members.append((info, body))
    elif kind == 3:
        info.pax_headers = {rng.choice(("path", "size", "x", "GNU.sparse.map")): rng.choice(CELLS)}
    elif kind == 4:
        body = rng.choice(
            (b"", b"[" * 5000, b"\xff", b"x" * 3_000_000, b'{"label": [1, {"a": 2}]}')
        )
        members = [(one, body if one is info else old) for one, old in members]
    elif kind == 5:
        members.reverse()
    else:
        members = [(info, body)] * rng.choice((1, 500))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=rng.choice((0, 1, 2))) as tar:
        for one, content in members:
            one.size = len(content) if one.isreg() else 0
            tar.addfile(one, io.BytesIO(content))
    made = stream.getvalue()
    return gzip.compress(made) if rng.random() < 0.05 else made


def of_zip(data: bytes, rng: random.Random) -> bytes:
    """Members with other names and contents; archives in an archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            kind = rng.randrange(12)
            content = data if kind == 0 else b"\0" * 30_000_000 if kind == 1 else old.read(name)
            new.writestr(rng.choice(_NAMES) if kind == 2 else name, content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def of_tensors(data: bytes, rng: random.Random) -> bytes:
    """A whole safetensors file: a tensor of another dtype, shape, name or with NaN, or one too many."""
    from safetensors.numpy import load, save

    (length,) = struct.unpack("<Q", data[:8])
    notes = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    tensors = {name: value.copy() for name, value in load(data).items()}
    for _ in range(rng.choice((1, 1, 3))):
        name = rng.choice(list(tensors))
        value, kind = tensors[name], rng.randrange(7)
        if kind == 0:
            tensors[name] = value.astype(rng.choice(("f2", "f8", "i8", "u1", "?")))
        elif kind == 1:
            tensors[name] = rng.choice(
                [value.T, value.ravel(), value[:0], value[None], value[..., :1]]
            )
        elif kind == 2 and value.dtype.kind == "f" and value.size:
            value.flat[rng.randrange(value.size)] = rng.choice(REALS[:1] + REALS[3:])
        elif kind == 3:
            tensors[rng.choice(("", "x", name + ".x", name[::-1], name.replace(".", "/")))] = value
        elif kind == 4 and len(tensors) > 1:
            del tensors[name]
        elif kind == 5:
            tensors[name + rng.choice((".weight", ".alpha", "_A", ".lora_mid.weight"))] = value
        elif notes:
            notes[rng.choice(list(notes))] = rng.choice(CELLS)
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    return save(arrays, {key: str(value) for key, value in notes.items()} or None)
