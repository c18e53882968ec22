"""A chunk is on the disk with its record, or it counts as missing; shards share out every chunk."""

import json
import tarfile

import pyarrow.parquet as pq
import pytest

from vesalius.errors import VesaliusError
from vesalius.images.stored_images import loads
from vesalius.pairs.table import FORMAT, open_table
from vesalius.sample.folder import digest
from vesalius.synthesize.job import in_windows
from vesalius.synthesize.settings import STORES
from vesalius.synthesize.shards import Shard, device_of_process, parse_shard, shard_of_process
from vesalius.synthesize.store import fault, read_record, record_path, recorded, save_chunk
from vesalius.synthesize.stores import Made, class_folder


def made(row: int, data: bytes | None = b"image") -> Made:
    data = data and data + str(row).encode()
    told = {"row": row, "label": "nodule", "caption": f"lung {row}, größer", "sex": "F"}
    told |= {
        "synthetic": True,
        "seed": 7,
        "steps": 2,
        "guidance": 2.5,
        "sha256": data and digest(data),
    }
    told |= {"prompt": "lung", "model": "m", "model_hash": "h", "adapters": "", "version": "1"}
    return Made(f"{row:06d}.png", told | {"attempts": 1, "rejected": []}, data)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "chunks").mkdir()
    return tmp_path


def save(out, rows, number=0, store="folder"):
    save_chunk(out, out / "work", number, 3, rows, store)


@pytest.mark.parametrize("store", STORES.own)
def test_every_store_gives_back_its_images_and_leaves_no_trace_of_work(out, store):
    rows = [made(4), made(2, None), made(9)]
    save(out, rows, 1, store)
    record = read_record(out, 1)
    assert record
    assert recorded(out) == [1]
    assert fault(out, 1, [4, 2, 9]) is None
    assert [row["row"] for row in record["rows"]] == [4, 2, 9]
    first, none, last = record["rows"]
    assert none["file"] is None
    assert [load() for load in loads(out, [first, last])] == [b"image4", b"image9"]
    assert not list((out / "work").iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        *({"rejected": 3}, {"file": ["x"]}, {"row": "1"}, {"model": None}, {"caption": None}),
        *({"steps": None}, {"guidance": None}, {"guidance": "x"}),
    ],
)
def test_a_record_of_which_a_row_does_not_say_enough_cannot_be_read(out, damage):
    save(out, [made(1)])
    record = json.loads(record_path(out, 0).read_text())
    (name, value), row = *damage.items(), record["rows"][0]
    row.pop(name)
    record["rows"] = [row | ({} if value is None else {name: value})]
    record_path(out, 0).write_text(json.dumps(record))
    assert read_record(out, 0) is None
    assert fault(out, 0, [1]) == "its record cannot be read"


@pytest.mark.parametrize("store", STORES.own)
def test_the_same_rows_give_the_same_bytes(out, store):
    save(out, [made(1)], 0, store)
    first = read_record(out, 0)
    save(out, [made(1)], 0, store)
    assert read_record(out, 0) == first


def test_a_tar_has_image_caption_label_and_the_rest_side_by_side(out):
    save(out, [made(1), made(2)], 0, "webdataset")
    with tarfile.open(out / "synthetic-000000-of-000003.tar") as tar:
        names = tar.getnames()
        assert names[:4] == ["000001.png", "000001.txt", "000001.cls", "000001.json"]
        content = [tar.extractfile(name) for name in names[1:4]]
        text, label, rest = (part.read().decode() for part in content if part)
    assert (text, label) == ("lung 1, größer", "nodule")
    assert json.loads(rest)["sex"] == "F"


def test_a_parquet_part_is_a_table_of_pairs(out):
    save(out, [made(1), made(2)], 0, "parquet")
    path = out / "data" / "synthetic-000000-of-000003.parquet"
    open_table(path, FORMAT)
    row = pq.read_table(path).to_pylist()[1]
    assert (row["synthetic"], row["guidance"], row["rejected"]) == ("true", "2.5", None)
    assert (row["group"], row["split"]) == ("synthetic-2", "train")


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"rows": [], "files": []}', '{"rows": [{}]}'])
def test_a_record_that_is_not_whole_is_a_fault(out, record):
    save(out, [made(1)])
    record_path(out, 0).write_text(record)
    assert fault(out, 0, [1])


def test_a_record_of_other_rows_is_a_fault(out):
    save(out, [made(1)])
    assert fault(out, 0, [1, 2]) == "its record has other rows"


def test_what_lies_there_without_a_record_is_replaced(out):
    folder = out / "images" / "nodule"
    folder.mkdir(parents=True)
    for name in ("000001.png", "000002.png", "000009.png"):
        (folder / name).write_bytes(b"of a dead run")
    save(out, [made(1), made(2, None)])
    assert sorted(p.name for p in folder.iterdir()) == ["000001.png", "000009.png"]
    assert (folder / "000001.png").read_bytes() == b"image1"


def test_each_label_has_a_folder_of_its_own_that_every_file_system_bears():
    names = {
        "": "_unlabelled",
        "Größe IIb (left)": "Größe IIb (left)",
        "edema|effusion": "edema+effusion",
        "edema+effusion": "edema%2Beffusion",
        "_unlabelled": "%5Funlabelled",
        "a/b": "a%2Fb",
        "..": "%2E%2E",
        "C:\\": "C%3A%5C",
        "100%": "100%25",
        "stage 1.": "stage 1%2E",
        "test": "%74est",  # `datasets` would take the folder for a split
        "stress test": "stress %74est",
        "latest": "latest",
    }
    assert {label: class_folder(label) for label in names} == names
    long = [class_folder("ß" * 500 + end) for end in "ab"]
    assert long[0] != long[1]
    assert all(len(name.encode()) < 140 for name in long)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_shards_share_out_every_chunk_once(count):
    shares = [list(parse_shard(f"{k}/{count}").own(11)) for k in range(count)]
    assert sorted(number for share in shares for number in share) == list(range(11))


@pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/2", "1/0", "", "1/2/3"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(VesaliusError, match="--shard"):
        parse_shard(text)


def test_processes_of_torchrun_are_shards_of_a_shard():
    environment = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
    assert shard_of_process(None, environment) == Shard(1, 4)
    assert shard_of_process("1/2", environment) == Shard(5, 8)
    assert device_of_process("cpu", environment) == "cpu"
    assert shard_of_process(None, {}) == Shard(0, 1)


def test_each_process_of_torchrun_has_its_own_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    environment = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    assert device_of_process("auto", environment) == "cuda:1"
    assert device_of_process("auto", {}) == "auto"
    with pytest.raises(VesaliusError, match="more processes here than there are GPUs"):
        device_of_process("cuda", environment | {"LOCAL_RANK": "2"})


def test_windows_are_as_large_as_a_batch():
    assert in_windows(range(5), 8, 4) == [range(0, 2), range(2, 4), range(4, 5)]
    assert in_windows([1, 3], 1, 4) == [[1], [3]]
