"""Parquet with image bytes: every row becomes its image with what the table says, or is named."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vesalius.errors import VesaliusError
from vesalius.pairs.readers import parquet
from vesalius.pairs.readers.base import Found, Skipped
from vesalius.pairs.settings import ReaderOptions

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def images(*contents):
    return pa.array([{"bytes": data, "path": None} for data in contents], IMAGE)


def write(path, columns, features=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if features:
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    pq.write_table(table, path, **options)
    return path


def read(source, **options):
    return list(parquet.read(source, ReaderOptions(**options)))


def test_rows_keep_their_image_their_columns_and_their_order(tmp_path):
    columns = {
        "image": images(b"one", b"two", b"three"),
        "dx": ["nv", "mel", None],
        "lesion_id": ["L1", "L1", "L2"],
        "report": ["A naevus.", None, "nan"],
        "age": [63.0, None, float("nan")],
        "row": [7, 8, 9],
        "sha1": ["x", "y", "z"],
    }
    first, second, third = read(write(tmp_path / "a.parquet", columns, row_group_size=2))
    assert (first.key, first.load(), first.label, first.group, first.caption) == (
        "a.parquet:0",
        b"one",
        "nv",
        "L1",
        "A naevus.",
    )
    assert first.attributes == {
        "lesion_id": "L1",
        "report": "A naevus.",
        "age": "63",
        "row": "7",
        "sha1": "x",
    }
    assert (second.key, second.load(), second.label) == ("a.parquet:1", b"two", "mel")
    assert (third.key, third.label, third.caption) == ("a.parquet:2", None, None)
    assert third.attributes == {"lesion_id": "L2", "row": "9", "sha1": "z"}
    assert first.stamp and first.stamp == third.stamp


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_plain_binary_under_any_name_is_the_image(tmp_path, kind):
    columns = {"file_name": ["a.jpg"], "scan": pa.array([b"data"], kind), "label": ["cat"]}
    (item,) = read(write(tmp_path / "a.parquet", columns))
    assert (item.load(), item.label, item.attributes) == (b"data", "cat", {"file_name": "a.jpg"})


def test_class_numbers_become_names(tmp_path):
    names = {"names": ["nevus", "melanoma"], "_type": "ClassLabel"}
    columns = {
        "image": images(b"a", b"b", b"c"),
        "label": [1, -1, 5],
        "site": [[0, 1], [], None],
        "grade": [1, 0, 1],
    }
    features = {"label": names, "site": {"feature": names, "_type": "List"}, "grade": {"x": 1}}
    items = read(write(tmp_path / "a.parquet", columns, features))
    assert [item.label for item in items] == ["melanoma", None, "5"]
    assert items[0].attributes == {"site": "nevus|melanoma", "grade": "1"}


def test_masks_are_no_text_and_nested_cells_are_json(tmp_path):
    columns = {
        "image": images(b"a"),
        "label": images(b"mask" * 100),
        "diagnosis": ["nv"],
        "masks": pa.array([[{"bytes": b"m", "path": None}]], pa.list_(IMAGE)),
        "box": [{"x": 1, "side": "left"}],
        "tags": [["a", None, "b"]],
        "scores": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
    }
    (item,) = read(write(tmp_path / "a.parquet", columns))
    assert (item.load(), item.label) == (b"a", "nv")
    assert json.loads(item.attributes["box"]) == {"x": 1, "side": "left"}
    assert item.attributes["tags"] == "a|b"
    assert json.loads(item.attributes["scores"]) == [["k", 1]]
    assert set(item.attributes) == {"box", "tags", "scores"}


def test_a_path_is_followed_inside_the_folder_only(tmp_path):
    (tmp_path / "outside.jpg").write_bytes(b"secret")
    (tmp_path / "set" / "sub").mkdir(parents=True)
    (tmp_path / "set" / "sub" / "a.jpg").write_bytes(b"beside")
    paths = [
        "sub/a.jpg",
        "sub\\a.jpg",
        "../outside.jpg",
        str(tmp_path / "outside.jpg"),
        "sub/../../outside.jpg",
        "b.jpg",
        "a\0b",
        "x" * 5000,
        "",
        None,
    ]
    image = pa.array([{"bytes": None, "path": path} for path in paths] + [None], IMAGE)
    items = read(write(tmp_path / "set" / "a.parquet", {"image": image}))
    assert [item.load() for item in items if isinstance(item, Found)] == [b"beside"] * 2
    reasons = [item.reason for item in items if isinstance(item, Skipped)]
    assert reasons == ["leaves the folder"] * 3 + ["no such file"] * 3 + ["no image"] * 3


def test_a_pairs_table_gives_back_what_went_in(tmp_path):
    # `patient_id` is one source's attribute; only `group` is set for every row of a merged table
    columns = {
        "image": images(b"a"),
        "caption": ["a photo of a naevus"],
        "label": ["nv"],
        "group": ["ham/L1"],
        "split": ["val"],
        "source": ["ham"],
        "row": [3],
        "sha1": ["ff"],
        "patient_id": pa.array([None], pa.string()),
    }
    (item,) = read(write(tmp_path / "pairs.parquet", columns))
    assert (item.caption, item.label, item.group, item.split) == (
        "a photo of a naevus",
        "nv",
        "ham/L1",
        "val",
    )
    assert item.attributes == {"source": "ham", "row": "3", "sha1": "ff"}


def test_shards_are_read_in_order_and_say_their_split(tmp_path):
    for name in ("test-00000-of-00001", "train-00001-of-00002", "train-00000-of-00002"):
        write(tmp_path / "data" / f"{name}.parquet", {"image": images(name.encode())})
    write(tmp_path / "data" / ".hidden.parquet", {"other": [1]})
    items = read(tmp_path)
    assert [(item.key, item.split) for item in items] == [
        ("data/test-00000-of-00001.parquet:0", "test"),
        ("data/train-00000-of-00002.parquet:0", "train"),
        ("data/train-00001-of-00002.parquet:0", "train"),
    ]
    assert len(read(tmp_path, exclude=("test-*",))) == 2
    (alone,) = read(tmp_path / "data" / "test-00000-of-00001.parquet")
    assert alone.split is None


def test_a_split_column_beats_the_name_of_the_file(tmp_path):
    columns = {"image": images(b"a", b"b"), "split": ["val", None]}
    write(tmp_path / "train-0.parquet", columns)
    assert [item.split for item in read(tmp_path)] == ["val", "train"]


def test_files_that_are_no_shards_of_one_table_are_refused(tmp_path):
    write(tmp_path / "a.parquet", {"image": images(b"a")})
    write(tmp_path / "b.parquet", {"scan": images(b"a")})
    with pytest.raises(VesaliusError, match=r"b\.parquet .* not one table"):
        read(tmp_path)


def test_a_table_without_images_says_which_columns_it_has(tmp_path):
    reports = write(tmp_path / "a.parquet", {"uid": [1], "image": ["a.jpg"]})
    with pytest.raises(VesaliusError, match=r"no images.*uid \(int64\), image \(string\)"):
        read(reports)
    mixed = write(tmp_path / "b.parquet", {"image": images(b"a"), "label": ["x"]})
    with pytest.raises(VesaliusError, match="no images in 'label'"):
        read(mixed, image_column="label")


def test_damaged_files_are_named(tmp_path):
    whole = write(tmp_path / "a.parquet", {"image": images(*[b"x" * 2000] * 8)}, row_group_size=4)
    data = whole.read_bytes()
    for name, content in {"cut": data[:-20], "empty": b"", "text": b"hello" * 10}.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(content)
        with pytest.raises(VesaliusError, match=rf"{name}\.parquet is not a Parquet file"):
            read(path)
    with pytest.raises(VesaliusError, match="holds no Parquet file"):
        read(tmp_path, exclude=("*.parquet",))
    column = pq.ParquetFile(whole).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    whole.write_bytes(data[:start] + b"\xff" * 64 + data[start + 64 :])
    items = parquet.read(whole, ReaderOptions())
    assert [next(items).key for _ in range(4)] == [f"a.parquet:{row}" for row in range(4)]
    with pytest.raises(VesaliusError, match=r"a\.parquet is damaged in row group 1"):
        next(items)


def test_a_cell_that_is_no_text_costs_its_row_only(tmp_path):
    broken = pa.array([b"ok", b"\xff"]).view(pa.string())
    first, second = read(
        write(tmp_path / "a.parquet", {"image": images(b"a", b"b"), "label": broken})
    )
    assert first.label == "ok"
    assert isinstance(second, Skipped) and "cannot be read" in second.reason


def test_a_mask_cannot_be_asked_for_as_label(tmp_path):
    columns = {"image": images(b"a"), "mask": images(b"m")}
    with pytest.raises(VesaliusError, match="no column 'mask'"):
        read(write(tmp_path / "a.parquet", columns), label_column="mask")


@FUZZ
@given(damage=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=6))
def test_any_damage_gives_items_or_one_line(tmp_path, damage):
    path = tmp_path / "fuzz.parquet"
    columns = {"image": images(b"one", b"two" * 50), "label": ["a", "b"], "age": [1.5, 2.0]}
    write(path, columns, {"label": {"names": ["x"], "_type": "ClassLabel"}})
    data = bytearray(path.read_bytes())
    for place, value in damage:
        data[place % len(data)] = value
    path.write_bytes(data)
    try:
        for item in read(path):
            if isinstance(item, Found):
                item.load()
    except VesaliusError as error:
        assert "\n" not in str(error)
