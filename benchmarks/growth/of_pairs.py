"""`vesalius pairs` on drawn images of 16 px in a Parquet file: the whole, its parts, and the table read."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.growth.measuring import Stage
from benchmarks.pairs.near_duplicates import images
from vesalius.images.duplicates import find_duplicates
from vesalius.pairs import build as building
from vesalius.pairs import examine as examining
from vesalius.pairs.build import PairsSettings, build_pairs, check_pairs
from vesalius.pairs.table import read_pairs

SIDE, CLASSES, OF_A_PATIENT, REPEATED = 16, 8, 4, 100  # one image in so many is another's copy
_AT_ONCE = 10_000
# The parts that are timed apart; `find_duplicates` compares every pair of images.
PARTS = ("_gather", "_duplicates", "_divided", "_hidden", "_document", "fingerprint")


def draw(size: int, folder: Path) -> None:
    """`source.parquet`: smooth fields that are all different, but for some copies."""
    source = folder / "source.parquet"
    if source.exists():
        return
    rng, writer = np.random.default_rng(0), None
    for start in range(0, size, _AT_ONCE):
        count = min(_AT_ONCE, size - start)
        coarse = rng.integers(0, 256, (count, 6, 6), dtype=np.uint8)
        encoded = [_png(field) for field in coarse]
        for place in range(REPEATED, count, REPEATED):
            encoded[place] = encoded[place - 1]
        rows = range(start, start + count)
        columns = {
            "image": [{"bytes": data, "path": f"{row:08}.png"} for data, row in zip(encoded, rows, strict=True)],
            "label": [f"finding {row % CLASSES}" for row in rows],
            "patient_id": [f"p{row // OF_A_PATIENT:07}" for row in rows],
            "age": [f"{20 + row // OF_A_PATIENT % 60}" for row in rows],
            "sex": ["female" if row // OF_A_PATIENT % 2 else "male" for row in rows],
        }  # fmt: skip
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(source, table.schema)
        writer.write_table(table, row_group_size=1000)
    assert writer is not None
    writer.close()


def _png(field: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(field).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


def build(size: int, folder: Path) -> dict[str, Any]:
    """The table, with the processor seconds of each part; the search for near-duplicates left out."""
    parts: dict[str, float] = {}
    here: list[tuple[Any, str]] = [(examining, name) for name in PARTS]
    here += [(building, "write_table"), (building, "write_datasheet"), (building, "fingerprint")]
    before = [(room, name, getattr(room, name)) for room, name in here]
    search = examining.find_duplicates
    try:
        for room, name, function in before:
            setattr(room, name, _timed(function, name.strip("_"), parts))
        examining.find_duplicates = (
            _only_files  # measured by itself: it alone grows with the square
        )
        build_pairs([str(folder / "source.parquet")], folder / "pairs.parquet")
    finally:
        examining.find_duplicates = search
        for room, name, function in before:
            setattr(room, name, function)
    whole = (folder / "pairs.parquet").stat().st_size
    return {"parts": {n: round(s, 2) for n, s in parts.items()}, "bytes": whole}


def _only_files(thumbs: np.ndarray, digests: list[str], *further: Any) -> list[Any]:
    """`find_duplicates` of no thumbnails: copies of whole files alone."""
    blank = np.zeros((len(digests), *thumbs.shape[1:]), np.uint8)
    return find_duplicates(blank, digests)


def _timed(function: Callable[..., Any], name: str, parts: dict[str, float]) -> Callable[..., Any]:
    def timed(*given: Any, **named: Any) -> Any:
        began = time.process_time()
        try:
            return function(*given, **named)
        finally:
            parts[name] = parts.get(name, 0.0) + time.process_time() - began

    return timed


def built(size: int, folder: Path) -> None:
    """`pairs.parquet`, made by another process so that its memory is not counted here."""
    import subprocess
    import sys

    command = (
        "from benchmarks.growth.of_pairs import draw, build; from pathlib import Path; import sys;"
    )
    command += "where = Path(sys.argv[2]); draw(int(sys.argv[1]), where); build(0, where)"
    subprocess.run([sys.executable, "-c", command, str(size), str(folder)], check=True)


def check(size: int, folder: Path) -> None:
    """As `vesalius pairs --check`, without the search for near-duplicates."""
    search, examining.find_duplicates = examining.find_duplicates, _only_files
    try:
        check_pairs(folder / "pairs.parquet", PairsSettings(), folder / "sheet.html")
    finally:
        examining.find_duplicates = search


def read(size: int, folder: Path) -> dict[str, Any]:
    """The table opened, its splits found, and a thousand images read at random."""
    began = time.process_time()
    pairs = read_pairs(folder / "pairs.parquet")
    opened = time.process_time() - began
    train = pairs.rows("train")
    rows = np.random.default_rng(0).choice(train, 1000)
    for row in rows.tolist():
        pairs.encoded(row)
    return {"opening": round(opened, 3), "bytes": (folder / "pairs.parquet").stat().st_size}


def drawn_thumbs(size: int, folder: Path) -> np.ndarray:
    """Thumbnails as those of `benchmarks.pairs.near_duplicates`, mapped from disk as `pairs` does."""
    images(size)[0].tofile(folder / "thumbs")
    return np.memmap(folder / "thumbs", np.uint8, "r", shape=(size, 32, 32))


def search(size: int, folder: Path, thumbs: np.ndarray) -> dict[str, Any]:
    """Near-duplicates among all."""
    found = find_duplicates(thumbs, [str(row) for row in range(size)], threads=1)
    return {"pairs found": len(found)}


STAGES = {
    "pairs: build": Stage("images", (10_000, 100_000, 1_000_000), build, draw),
    "pairs: check": Stage("images", (10_000, 100_000), check, built),
    "pairs: read": Stage("images", (10_000, 100_000, 1_000_000), read, built),
    "pairs: near-duplicates": Stage("images", (3_000, 10_000, 30_000), search, drawn_thumbs),
}
