"""Small files that claim to hold much are bounded before they are believed."""

import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

MEGABYTES = 1100  # of memory that reading may take above what the process has


def png():
    stream = io.BytesIO()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


# In a process of its own: what is found, and the megabytes that reading took at most.
SCRIPT = """
import json, resource, sys
from vesalius.pairs.readers import sources
from vesalius.pairs.settings import ReaderOptions

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

(source,) = sources(sys.argv[1])
before, kinds = peak(), []
for item in source.items(ReaderOptions()):
    kinds.append(getattr(item, "reason", "found"))
    if hasattr(item, "load"):
        item.load()
print(json.dumps([kinds, peak() - before]))
"""


def read(path):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    kinds, megabytes = json.loads(run.stdout)
    assert megabytes < MEGABYTES
    return kinds


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux does")
def test_cells_that_share_one_large_value_are_read_a_few_at_a_time(tmp_path):
    value = png() + bytes(60_000_000)
    table = pa.table(
        {
            "image": pa.DictionaryArray.from_arrays(pa.array([0] * 64), pa.array([value])),
            "label": ["a"] * 64,
        }
    )
    pq.write_table(
        table,
        tmp_path / "a.parquet",
        compression="zstd",
        dictionary_pagesize_limit=1 << 30,
        store_schema=False,
    )
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    assert read(tmp_path / "a.parquet") == ["found"] * 64


def test_a_sample_of_many_large_members_is_skipped(tmp_path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for number in range(6):
            member = tarfile.TarInfo(f"one.{number}.txt")
            member.size = 50_000_000
            tar.addfile(member, io.BytesIO(bytes(member.size)))
        for name, data in (("one.png", png()), ("two.png", png())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert read(path) == ["its members are larger than 190 MiB", "found"]


def test_a_huge_header_of_a_member_ends_the_archive(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        data = png()
        member = tarfile.TarInfo("one.png")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 3_500_000_000
    whole = path.read_bytes().rstrip(b"\0")
    whole += bytes(-len(whole) % 512)
    path.write_bytes(whole + header.tobuf(tarfile.GNU_FORMAT) + bytes(2000))
    kinds = read(path)
    assert kinds[-1].startswith("truncated")
