"""Folders that `save_to_disk` wrote: the same rows as the `datasets` library gives."""

import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vesalius.errors import VesaliusError
from vesalius.pairs.readers import datasets_folder
from vesalius.pairs.readers.base import Found
from vesalius.pairs.settings import ReaderOptions

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
LABEL = {"names": ["benign", "malignant"], "_type": "ClassLabel"}
SHARDS = ("data-00000-of-00002.arrow", "data-00001-of-00002.arrow")


def read(source, **options):
    return list(datasets_folder.read(source, ReaderOptions(**options)))


def save(folder, columns=None):
    """What `Dataset.save_to_disk` writes: two shards of two batches with two rows each."""
    folder.mkdir(parents=True)
    for shard, name in enumerate(SHARDS):
        numbers = range(4 * shard, 4 * shard + 4)
        contents = [{"bytes": b"image %d" % number, "path": None} for number in numbers]
        filled = columns or {"image": pa.array(contents, IMAGE), "label": [0, 1, 0, 1]}
        table = pa.table(filled)
        with pa.ipc.new_stream(str(folder / name), table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
    files = [{"filename": name} for name in SHARDS]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": None}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {"label": LABEL}}))
    return folder


def test_shards_and_batches_are_read_in_order(tmp_path):
    items = read(save(tmp_path / "set"))
    assert [item.load() for item in items] == [b"image %d" % number for number in range(8)]
    assert [item.label for item in items] == ["benign", "malignant"] * 4
    assert [item.key for item in items[3:5]] == [f"{SHARDS[0]}:3", f"{SHARDS[1]}:0"]
    assert {item.split for item in items} == {None}
    assert all(item.stamp for item in items)


def test_splits_of_a_dict_keep_their_order_and_their_name(tmp_path):
    for split in ("train", "test"):
        save(tmp_path / split)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    items = read(tmp_path)
    assert [item.split for item in items] == ["train"] * 8 + ["test"] * 8
    assert items[8].key == f"test/{SHARDS[0]}:0"
    assert len({item.key for item in items}) == 16


def test_the_library_gives_the_same(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        image=datasets.Image(decode=False),
        label=datasets.ClassLabel(names=LABEL["names"]),
        age=datasets.Value("int64"),
    )
    (tmp_path / "a.jpg").write_bytes(b"a file beside")
    columns = {
        "image": [{"bytes": b"a", "path": None}, {"bytes": None, "path": str(tmp_path / "a.jpg")}],
        "label": [1, 0],
        "age": [63, None],
    }
    train = datasets.Dataset.from_dict(columns, features=features)
    saved = datasets.DatasetDict(train=train, validation=train.select([0]))
    saved.save_to_disk(tmp_path / "saved")
    told = [(i.split, i.load(), i.label, i.attributes.get("age")) for i in read(tmp_path / "saved")]
    assert told == [
        ("train", b"a", "malignant", "63"),
        ("train", b"a file beside", "benign", None),
        ("validation", b"a", "malignant", "63"),
    ]


def test_a_folder_that_is_none_or_lacks_a_file_is_named(tmp_path):
    with pytest.raises(VesaliusError, match=r"state\.json cannot be read"):
        read(tmp_path)
    folder = save(tmp_path / "set")
    (folder / SHARDS[1]).unlink()
    with pytest.raises(VesaliusError, match=rf"{SHARDS[1]} is missing or damaged"):
        read(folder)
    texts = save(tmp_path / "texts", {"text": ["a", "b"]})
    with pytest.raises(VesaliusError, match=r"no images.*text \(string\)"):
        read(texts)


@pytest.mark.parametrize("name", ["../set/data.arrow", "/etc/passwd", "..", "", None, 3])
def test_a_listed_name_cannot_lead_out_of_the_folder(tmp_path, name):
    folder = save(tmp_path / "set")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(VesaliusError, match="no name of a file in it"):
        read(folder)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    name=st.sampled_from([*SHARDS[:1], "state.json", "dataset_info.json"]),
    damage=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=6),
    kept=st.integers(0, 4000),
)
def test_any_damage_gives_items_or_one_line(tmp_path_factory, name, damage, kept):
    folder = save(tmp_path_factory.mktemp("fuzz") / "set")
    data = bytearray((folder / name).read_bytes())[: max(1, kept)]
    for place, value in damage:
        data[place % len(data)] = value
    (folder / name).write_bytes(data)
    try:
        for item in read(folder):
            if isinstance(item, Found):
                item.load()
    except VesaliusError as error:
        assert "\n" not in str(error)
