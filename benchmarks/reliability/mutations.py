"""Seeded mutations of a file: of its bytes, or of what it says where its format is known."""

import json
import random
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.reliability import structures

_CANNOT_STAND = (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError)
_TEXTS = (".yaml", ".csv", ".tsv", ".jsonl", "")
_DEEP: list[Any] = []
for _ in range(300):
    _DEEP = [_DEEP]
ODD: list[Any] = [
    *(None, True, "", "x" * 5000, "é\u202e\x00", "~nobody", "../../x", "nan", -1, 0, 2**31, 2**63),
    *(
        10**30,
        1.5,
        1e308,
        float("inf"),
        float("nan"),
        [],
        {},
        [[1], 2],
        {"a": {"b": 1}},
        [0] * 2000,
    ),
    *("2020-13-45", "flow", "[1, 2]", 1_000_000, [1_000_000], _DEEP),
]
_TOKENS = [
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b"&a [*a]",
        b"*x",
        b"!!python/object:os.system",
        b"2020-13-45",
        b"\xff",
    ),
    *(
        b"\x00",
        b"1e999",
        b"9" * 5000,
        b"[" * 3000,
        b"<<: *a",
        b"? [1]\n: 2",
        b"\t",
        b"'",
        b'"',
        b"|",
    ),
    *(
        b"-1",
        b"null",
        b".nan",
        b"1:2:3",
        b"a,b,c\n" * 50,
        b"x" * 200_000,
        b"\r",
        b"\n\n",
        b";",
        b"~",
    ),
]
_BOMB = b"a: &a [1,1,1,1,1,1,1,1,1]\n" + b"".join(
    f"{chr(k + 1)}: &{chr(k + 1)} [{','.join([f'*{chr(k)}'] * 9)}]\n".encode()
    for k in range(97, 107)
)


def mutated(data: bytes, suffix: str, rng: random.Random) -> bytes:
    """Another content: most often by what the format says, where it is known."""
    known = _KNOWN.get(suffix, ())
    if known and rng.random() < 0.7:
        try:
            return rng.choice(known)(data, rng)
        except (*_CANNOT_STAND, KeyError, IndexError, struct.error):
            pass  # that value cannot stand there
    if suffix in _TEXTS and rng.random() < 0.7:
        return _of_text(data, rng)
    return _of_bytes(data, rng)


def _of_bytes(data: bytes, rng: random.Random) -> bytes:
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        place = rng.randrange(len(content) + 1)
        kind = rng.randrange(6)
        if kind == 0 and content:
            content[place - 1] = rng.randrange(256)
        elif kind == 1:
            content[place:place] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 2:
            del content[place : place + rng.randrange(1, 33)]
        elif kind == 3 and content:
            content[place - 1] ^= 1 << rng.randrange(8)
        elif kind == 4:
            number = struct.pack(
                rng.choice("<>") + "I", rng.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1))
            )
            content[place : place + 4] = number
        elif rng.random() < 0.2:
            del content[place:]
    return bytes(content)


def _of_text(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.03:
        return _BOMB + (data if rng.random() < 0.5 else b"")
    content = data
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = [k for k, byte in enumerate(content) if byte in b" :,=\n[]'"] or [0]
        start = rng.choice(places)
        end = rng.choice([k for k in places if k >= start][:3])
        content = content[: start + 1] + rng.choice(_TOKENS) + content[end:]
    return content


def _of_json(data: bytes, rng: random.Random) -> bytes:
    return json.dumps(_changed(json.loads(data), rng)).encode()


def _changed(document: Any, rng: random.Random) -> Any:
    """The document with one of its values replaced, removed or under another name."""
    spots: list[tuple[Any, Any]] = []

    def visit(part: Any) -> None:
        pairs = part.items() if isinstance(part, dict) else enumerate(part)
        for key, value in pairs:
            spots.append((part, key))
            if isinstance(value, dict | list):
                visit(value)

    visit(document)
    if not spots or rng.random() < 0.05:
        return rng.choice(ODD)
    part, key = rng.choice(spots)
    if isinstance(part, dict) and rng.random() < 0.2:
        part[str(rng.choice(ODD))[:50]] = part.pop(key)
    elif rng.random() < 0.1:
        del part[key]
    else:
        part[key] = rng.choice(ODD)
    return document


def _of_header(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with another header; its dtypes and offsets often."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    entry = header[rng.choice(names)] if names else {}
    kind = rng.randrange(4)
    if kind == 0:
        entry["dtype"] = rng.choice(
            ["F64", "F8_E4M3", "F8_E8M0", "F4", "C64", "X", "BOOL", 3, "U64", "I8"]
        )
    elif kind == 1 and names:
        entry["shape"] = rng.choice(
            [[], [0], [2**40, 2**40], [1, 64], [-4, -16], [64], [2] * 6, "4"]
        )
    elif kind == 2 and names:
        entry["data_offsets"] = rng.choice(
            [[0, 0], [8, 4], [0], [0, 2**60], [-1, 4], "ab", [0, 4, 8]]
        )
    else:
        header = _changed(header, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _of_table(data: bytes, rng: random.Random) -> bytes:
    """A Parquet file in which a column has other values, another type or another name."""
    table = pq.read_table(pa.BufferReader(data))
    place, count = rng.randrange(table.num_columns), table.num_rows
    name = table.column_names[place]
    if rng.random() < 0.2:
        table = (
            table.drop_columns([name])
            if rng.random() < 0.5
            else table.append_column(name, table[place])
        )
    else:
        value = rng.choice([*ODD[:-1], [["a"]], b"\xff\xfe", "x" * 3_000_000])
        values = [value] * count if rng.random() < 0.5 else [value, *[None] * (count - 1)]
        table = table.set_column(
            place, rng.choice((name, name, "x" * 9000)), pa.array(values[:count])
        )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=rng.choice(("snappy", "zstd", "none")))
    return sink.getvalue().to_pybytes()


def _of_yaml(data: bytes, rng: random.Random) -> bytes:
    """A document with another value or key, which reads as YAML does."""
    return yaml.safe_dump(_changed(yaml.safe_load(data), rng), allow_unicode=True).encode()


def _twice(data: bytes, rng: random.Random) -> bytes:
    return structures.twice(data.decode(), rng).encode()


_KNOWN: dict[str, tuple[Callable[[bytes, random.Random], bytes], ...]] = {
    ".json": (_of_json, _of_json, _twice),
    ".jsonl": (partial(structures.of_json_lines, changed=_changed),),
    ".yaml": (_of_yaml,),
    ".safetensors": (_of_header, structures.of_tensors),
    ".parquet": (_of_table,),
    ".csv": (structures.of_lines,),
    ".tsv": (partial(structures.of_lines, mark="\t"),),
    ".png": (structures.of_png,),
    ".tiff": (structures.of_tiff,),
    ".dcm": (structures.of_dicom,),
    ".nii": (structures.of_nifti,),
    ".gz": (structures.of_nifti,),
    ".tar": (structures.of_tar,),
    ".zip": (structures.of_zip,),
}
