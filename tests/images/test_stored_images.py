"""What `vesalius synthesize` writes, in any store, is what is measured and trained on."""

import io
import json
import tarfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.images.encode import encode_image
from vesalius.images.image_set import survey
from vesalius.images.pixels import open_rgb
from vesalius.images.stored_images import loads, rows_with_images
from vesalius.pairs.open_images import open_images
from vesalius.sample.folder import digest
from vesalius.synthesize.settings import STORES
from vesalius.synthesize.store import read_record, save_chunk
from vesalius.synthesize.stores import Made

REJECTED = 4  # a row of the plan without an accepted image


def write(out, store, count=7, chunk=3, encode=None):
    """A set of drawn images in chunks, as `vesalius synthesize` leaves it; and the images' files."""
    (out / "work").mkdir(parents=True)
    (out / "chunks").mkdir()
    rng = np.random.default_rng(0)
    encode = encode or (lambda k, pixels: (f"{k:06}.png", encode_image(pixels, {"row": k})))
    made = []
    for k in range(count):
        name, data = encode(k, rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        data = None if k == REJECTED else data
        told = {"row": k, "label": "ab"[k % 2], "caption": f"cell {k}", "synthetic": True}
        told |= {"prompt": "cell", "seed": k, "rejected": [], "model": "m", "model_hash": "h"}
        told |= {"adapters": "", "version": "1", "steps": 6, "guidance": 1.5}
        made.append(Made(name, told | {"sha256": data and digest(data)}, data))
    parts = [made[start : start + chunk] for start in range(0, count, chunk)]
    for number, part in enumerate(parts):
        save_chunk(out, out / "work", number, len(parts), part, store)
    records = [read_record(out, k) or {} for k in range(len(parts))]
    rows = [row for record in records for row in record["rows"]]
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [one.data for one in made if one.data]


@pytest.mark.parametrize("store", STORES.own)
def test_every_store_gives_the_same_images_and_labels(store, tmp_path):
    files = write(tmp_path / "set", store)
    images = open_images(tmp_path / "set")
    assert [images.encoded(k) for k in range(len(images))] == files
    assert images.column("label") == ["a", "b", "a", "b", "b", "a"]
    assert images.column("caption")[4] == "cell 5"
    assert not survey(images).unreadable


@pytest.mark.parametrize("store", STORES.own)
def test_images_are_read_by_several_threads_in_any_order(store, tmp_path):
    files = write(tmp_path / "set", store, count=40, chunk=5)
    images = open_images(tmp_path / "set")
    order = np.random.default_rng(1).permutation(np.tile(np.arange(len(files)), 5)).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(images.encoded, order)) == [files[k] for k in order]


@pytest.mark.parametrize("store", ["webdataset", "parquet"])
def test_a_set_larger_than_memory_is_not_held_whole(store, tmp_path):
    """Reading one image after the other keeps a few chunks at most, whatever the set's size."""
    big = encode_image(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8), {})
    write(tmp_path / "set", store, count=60, chunk=2, encode=lambda k, _: (f"{k:06}.png", big))
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    images = open_images(tmp_path / "set")
    for k in range(len(images)):
        assert len(images.encoded(k)) == len(big)
    _, most = tracemalloc.get_traced_memory()  # which does not see what Arrow holds
    tracemalloc.stop()
    assert most + pa.total_allocated_bytes() - before < 20 * len(big)  # of 59


@pytest.mark.parametrize("store", STORES.own)
def test_dicom_is_shown_as_what_was_drawn(store, tmp_path):
    pytest.importorskip("pydicom")
    drawn = []

    def encode(k, pixels):
        drawn.append(pixels)
        return f"{k:06}.dcm", encode_image(pixels, {"row": k}, format="dicom", number=k + 1)

    write(tmp_path / "set", store, encode=encode)
    images = open_images(tmp_path / "set")
    assert not survey(images).unreadable
    assert (np.asarray(open_rgb(images.encoded(0))) == drawn[0]).all()


def test_a_set_that_is_not_whole_is_one_line(tmp_path):
    write(tmp_path / "tar", "webdataset")
    write(tmp_path / "table", "parquet")
    for folder in ("tar", "table"):
        rows = rows_with_images(tmp_path / folder)
        rows[0]["file"] = rows[0]["file"].rpartition(":")[0] + ":99"
        with pytest.raises(VesaliusError, match="has no image '99'"):
            loads(tmp_path / folder, rows)
    for path in (tmp_path / "tar").glob("*.tar"):
        path.write_bytes(b"no tar")
    for path in (tmp_path / "table" / "data").glob("*.parquet"):
        path.unlink()
    for folder in ("tar", "table"):
        with pytest.raises(VesaliusError, match="cannot be read"):
            open_images(tmp_path / folder)


def test_a_tar_that_breaks_off_later_is_told_not_taken_for_an_image(tmp_path):
    files = write(tmp_path / "set", "webdataset", chunk=7)
    images = open_images(tmp_path / "set")
    (path,) = (tmp_path / "set").glob("*.tar")
    with tarfile.open(path) as tar:
        last = tar.getmember("000006.png").offset_data
    path.write_bytes(path.read_bytes()[: last + 10])
    assert images.encoded(0) == files[0]
    with pytest.raises(VesaliusError, match="breaks off"):
        images.encoded(len(files) - 1)
    assert Image.open(io.BytesIO(files[0])).size == (16, 16)


def test_a_name_that_no_disk_knows_is_one_line(tmp_path):
    load = loads(tmp_path, [{"file": "images/a\0b.png"}])[0]
    with pytest.raises(VesaliusError, match="cannot be read"):
        load()


@pytest.mark.parametrize(
    "column", [["x", "y"], [None, None], [{"path": "x"}] * 2, [{"bytes": None, "path": "x"}] * 2]
)
def test_a_table_without_images_is_one_line(tmp_path, column):
    pq.write_table(pa.table({"image": column}), tmp_path / "x.parquet")
    with pytest.raises(VesaliusError, match=r"x\.parquet"):
        loads(tmp_path, [{"file": "x.parquet:1"}])[0]()


def test_a_member_that_claims_more_than_there_is_is_not_read(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        member = tarfile.TarInfo("a.png")
        member.size = 2**40
        tar.fileobj.write(member.tobuf())
    with pytest.raises(VesaliusError, match=r"x\.tar"):
        loads(tmp_path, [{"file": "x.tar:a.png"}])[0]()
