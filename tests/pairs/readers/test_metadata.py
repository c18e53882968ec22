"""Tables beside images: every row becomes its image with what the table says, or is named."""

import json
import os
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.pairs.readers import metadata
from vesalius.pairs.readers.base import Found, Note, Skipped
from vesalius.pairs.settings import ReaderOptions

FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def folder(tmp_path):
    """A folder with three images; tests add the table."""
    for name in ("a.jpg", "b.jpg", "sub/ISIC_1.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(name.encode())
    (tmp_path / "outside.jpg").touch()
    return tmp_path / "set"


def read(source, **options):
    items = metadata.read(source, ReaderOptions(**options))
    return [item for item in items if not isinstance(item, Note)]


def csv_items(folder, text, **options):
    (folder / "metadata.csv").write_text(text)
    return read(folder, **options)


def reasons(items):
    return {item.key: item.reason for item in items if isinstance(item, Skipped)}


def test_usual_columns_are_known_and_the_rest_become_attributes(folder):
    (item,) = csv_items(
        folder,
        "File Name,dx,Patient ID,report,subset,age,sex,site\n"
        'a.jpg,nv,p1,"A naevus,\nround.",train,63,NaN,\n',
    )
    assert isinstance(item, Found)
    assert (item.key, item.label, item.group, item.split) == ("a.jpg", "nv", "p1", "train")
    assert item.caption == "A naevus,\nround."
    assert item.attributes == {"age": "63", "Patient ID": "p1", "report": "A naevus,\nround."}
    assert item.load() == b"a.jpg"


def test_all_four_formats_say_the_same(folder):
    rows = [
        {"file_name": "a.jpg", "label": "nv", "age": "63", "patient_id": "p1"},
        {"file_name": "b.jpg", "label": "mel", "age": None, "patient_id": "p2"},
    ]
    names = list(rows[0])
    cells = [[row[name] or "" for name in names] for row in rows]
    for mark, suffix in ((",", "csv"), (";", "csv"), ("|", "csv"), ("\t", "tsv")):
        text = "\r\n".join(mark.join(line) for line in [names, *cells])
        (folder / f"{ord(mark)}.{suffix}").write_text(text)
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    tables = [path for path in sorted(folder.iterdir()) if path.suffix not in (".jpg", "")]
    said = [
        [(item.key, item.label, item.group, item.attributes) for item in read(table)]
        for table in tables
    ]
    assert len(said) == 6
    assert all(items == said[0] for items in said)
    assert said[0][1] == ("b.jpg", "mel", "p2", {"patient_id": "p2"})


def test_decimal_commas_of_a_table_with_semicolons_are_numbers(folder):
    first, second = csv_items(
        folder,
        "image;dose;size;where;code\na.jpg;3,5;4;left, upper;1,2\nb.jpg;-0,25;5;right;x\n",
    )
    assert first.attributes == {"dose": "3.5", "size": "4", "where": "left, upper", "code": "1,2"}
    assert second.attributes == {"dose": "-0.25", "size": "5", "where": "right", "code": "x"}


def test_a_comma_in_a_cell_of_a_table_with_commas_parts_thousands(folder):
    first, second = csv_items(folder, 'image,cells\na.jpg,"1,234"\nb.jpg,500\n')
    assert (first.attributes["cells"], second.attributes["cells"]) == ("1,234", "500")


def test_numbers_and_lists_of_parquet_read_as_a_person_would_write_them(folder):
    rows = {"image": ["a.jpg", "b.jpg"], "label": [["x", "y"], []], "age": [63.0, float("nan")]}
    pq.write_table(pa.table(rows), folder / "metadata.parquet")
    first, second = read(folder)
    assert (first.label, first.attributes) == ("x|y", {"age": "63"})
    assert (second.label, second.attributes) == (None, {})


def test_parquet_is_read_over_all_its_row_groups(folder):
    table = pa.table({"image": ["a.jpg"] * 5, "n": range(5)})
    pq.write_table(table, folder / "metadata.parquet", row_group_size=2)
    assert [item.attributes["n"] for item in read(folder, rows_are="images")] == list("01234")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_tables_from_excel_and_old_windows_keep_their_letters(folder, encoding, suffix):
    text = {
        "csv": "image;label\na.jpg;naïve µ\n",
        "jsonl": '{"image": "a.jpg", "label": "naïve µ"}\n',
    }[suffix]
    (folder / f"metadata.{suffix}").write_bytes(text.encode(encoding))
    assert [item.label for item in read(folder)] == ["naïve µ"]


def test_pandas_row_numbers_are_no_attribute(folder):
    (item,) = csv_items(folder, ",Unnamed: 0,image\n0,0,a.jpg\n")
    assert item.attributes == {}


def test_a_name_without_extension_or_folder_is_looked_for(folder):
    (folder / "sub" / "ISIC_1.json").write_text("{}")  # no image, so not a second candidate
    items = csv_items(folder, "image_id\nISIC_1\nISIC_1.png\nsub/ISIC_1\nISIC\nC_1\n")
    assert [item.key for item in items[:3]] == [
        "sub/ISIC_1.png",
        "sub/ISIC_1.png@3",
        "sub/ISIC_1.png@4",
    ]
    assert all(item.load() == b"sub/ISIC_1.png" for item in items[:3])
    assert reasons(items[3:]) == {"ISIC": "no such file", "C_1": "no such file"}


def test_a_name_that_fits_two_files_is_not_guessed_unless_one_is_excluded(folder):
    (folder / "masks").mkdir()
    (folder / "masks" / "ISIC_1.png").touch()
    items = csv_items(folder, "image_id\nISIC_1\n")
    assert reasons(items) == {"ISIC_1": "several files of this name"}
    assert [item.key for item in read(folder, exclude=("masks",))] == ["sub/ISIC_1.png"]


def test_no_row_reaches_outside_the_folder(folder):
    outside = folder.parent / "outside.jpg"
    inside = folder / "a.jpg"
    items = csv_items(
        folder,
        f"image\n../outside.jpg\nsub/../../outside.jpg\n{outside}\n..\\outside.jpg\n/etc/passwd\n"
        f"../set2/a.jpg\n{inside}\nsub\\..\\b.jpg\n",
    )
    assert set(reasons(items[:6]).values()) == {"leaves the folder"}
    assert [item.key for item in items[6:]] == ["a.jpg", "b.jpg"]


def test_images_behind_a_linked_folder_are_the_users_own_choice(folder):
    (folder / "linked").symlink_to(folder.parent)
    (item,) = csv_items(folder, "image\nlinked/outside.jpg\n")
    assert isinstance(item, Found)


def test_each_bad_row_is_named_and_the_others_are_read(folder):
    (folder / "odd").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    items = csv_items(
        folder,
        "image,label\na.jpg,x\nb.jpg\nb.jpg,x,y\n\n,x\nNaN,x\ngone.jpg,x\nodd,x\npipe.jpg,x\n"
        f"{'n' * 5000},x\nb.jpg,z\n",
    )
    assert [item.key for item in items if isinstance(item, Found)] == ["a.jpg", "b.jpg"]
    assert reasons(items) == {
        "metadata.csv:3": "1 fields where the header has 2",
        "metadata.csv:4": "3 fields where the header has 2",
        "metadata.csv:6": "no path of an image",
        "metadata.csv:7": "no path of an image",
        "gone.jpg": "no such file",
        "odd": "no such file",
        "pipe.jpg": "no such file",
        "n" * 5000: "no such file",
    }


def test_a_quote_left_open_is_told_with_its_line(folder):
    for text in ('image,label\n"a.jpg,x\nb.jpg,y\n', 'image,label\na.jpg,"x\nb.jpg,y\n'):
        with pytest.raises(VesaliusError, match="from line 2 on: is a quote left open"):
            csv_items(folder, text)
    with pytest.raises(VesaliusError, match="from line 2 on: is a quote left open"):
        csv_items(folder, 'image,label\n"a.jpg,x\n' + "b.jpg,y\n" * 20000)


def test_bad_json_lines_are_named_and_the_others_are_read(folder):
    lines = [
        '{"image": "a.jpg"}',
        '{"image": "b.jpg", "label": ',
        "[1, 2]",
        '{"image": "a.jpg", "image": "b.jpg"}',
        '{"image": "\\ud800.jpg"}',
        '{"image": {"bytes": null}}',
        '{"label": "x"}',
        "[" * 100_000,
        '{"image": "b.jpg", "label": "late"}',
    ]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    items = read(folder)
    assert [(i.key, i.label) for i in items if isinstance(i, Found)] == [
        ("a.jpg", None),
        ("b.jpg", "late"),  # a column that the first row lacks is a column all the same
    ]
    assert list(reasons(items).items())[3] == ("?.jpg", "no such file")
    lines_told = [2, 3, 4, 6, 7, 8]
    assert set(reasons(items)) == {"?.jpg", *(f"metadata.jsonl:{line}" for line in lines_told)}


def test_two_rows_of_one_image_are_both_kept_where_rows_are_images(folder):
    items = csv_items(folder, "image,label\na.jpg,x\na.jpg,y\n", rows_are="images")
    assert [(item.key, item.label) for item in items] == [("a.jpg", "x"), ("a.jpg@3", "y")]
    assert items[1].load() == b"a.jpg"


def test_an_edited_row_has_another_stamp_and_its_neighbours_do_not(folder):
    before = csv_items(folder, "image,label\na.jpg,x\nb.jpg,y\n")
    after = csv_items(folder, "image,label\na.jpg,z\nb.jpg,y\n")
    assert before[0].stamp != after[0].stamp
    assert before[1].stamp == after[1].stamp


def test_excluded_images_are_left_out(folder):
    items = csv_items(folder, "image\na.jpg\nsub/ISIC_1.png\n", exclude=("sub/*",))
    assert [item.key for item in items] == ["a.jpg"]


def test_a_mistake_of_the_whole_table_is_told_in_one_line(folder):
    with pytest.raises(VesaliusError, match="width, height"):
        csv_items(folder, "width,height\n1,2\n")
    with pytest.raises(VesaliusError, match="did you mean 'scan'"):
        csv_items(folder, "scan,label\na.jpg,x\n", image_column="scans")
    with pytest.raises(VesaliusError, match="'label'"):
        csv_items(folder, "image,label,label\na.jpg,x,y\n")
    with pytest.raises(VesaliusError, match="there are: none"):
        csv_items(folder, "")
    (folder / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(VesaliusError, match="cannot be read"):
        read(folder / "bad.parquet")


def test_an_option_names_any_column_even_one_with_two_duties(folder):
    (item,) = csv_items(
        folder,
        "scan,grade\na.jpg,3\n",
        image_column="scan",
        label_column="grade",
        group_column="scan",
    )
    assert (item.label, item.group) == ("3", "a.jpg")


def test_which_table_is_meant(folder):
    with pytest.raises(VesaliusError, match="holds none of"):
        read(folder)
    (folder / "train.csv").write_text("image\na.jpg\n")
    assert [item.key for item in read(folder)] == ["a.jpg"]
    (folder / "test.csv").write_text("image\nb.jpg\n")
    with pytest.raises(VesaliusError, match=r"several tables: test\.csv, train\.csv"):
        read(folder)
    assert [item.key for item in read(folder / "test.csv")] == ["b.jpg"]
    (folder / "METADATA.CSV").write_text("image\nsub/ISIC_1.png\n")
    assert [item.key for item in read(folder)] == ["sub/ISIC_1.png"]
    with pytest.raises(VesaliusError, match="no table of images"):
        read(folder / "a.jpg")


def only_items_or_one_line(folder, name, data):
    (folder / name).write_bytes(data)
    try:
        items = read(folder / name)
    except VesaliusError as error:
        assert "\n" not in str(error)
        return
    keys = [item.key for item in items]
    assert len(set(keys)) == len(keys)
    for item in items:
        assert "\n" not in item.reason if isinstance(item, Skipped) else item.stamp
        repr(item).encode()
        if isinstance(item, Found):
            texts = [item.key, item.label, item.caption, item.group, item.split]
            texts += [*item.attributes, *item.attributes.values()]
            pa.array(texts, pa.string())  # a text that is not Unicode would fail here


CELLS = st.sampled_from(
    ["a.jpg", "b.jpg", "..", "/", "", '"', "NaN", "\x00", "\r", "\\", "µ", "\ud800", ";", "ISIC_1"]
)


@FUZZ
@given(
    head=st.sampled_from(
        [b"", b"image,label\n", b"file;label\na.jpg;x\n", b"\xff\xfe", b"\xfe\xff"]
    ),
    rows=st.lists(st.lists(CELLS | st.text(max_size=5), max_size=4), max_size=6),
    tail=st.binary(max_size=20),
)
def test_any_csv_gives_items_or_one_line(folder, head, rows, tail):
    body = "\n".join(",".join(row) for row in rows).encode(errors="surrogatepass")
    only_items_or_one_line(folder, "fuzz.csv", head + body + tail)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=3),
    max_leaves=6,
)


@FUZZ
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["image", "label", "caption"]) | CELLS, JSON, max_size=4),
        max_size=5,
    ),
    tail=st.binary(max_size=20),
)
def test_any_jsonl_gives_items_or_one_line(folder, rows, tail):
    body = '{"image": "a.jpg"}\n' + "\n".join(map(json.dumps, rows))
    only_items_or_one_line(folder, "fuzz.jsonl", body.encode() + tail)


@FUZZ
@given(cut=st.integers(0, 900), at=st.integers(0, 900), byte=st.integers(0, 255))
def test_any_parquet_gives_items_or_one_line(folder, cut, at, byte):
    whole = folder / "whole.parquet"
    if not whole.exists():
        pq.write_table(pa.table({"image": ["a.jpg", "b.jpg"], "label": ["x", "y"]}), whole)
    data = bytearray(whole.read_bytes())
    data[at % len(data)] = byte
    only_items_or_one_line(folder, "fuzz.parquet", bytes(data[: len(data) - cut % 3]))


def test_paths_that_begin_above_the_table_are_found(tmp_path):
    folder = tmp_path / "CheXpert-v1.0-small"
    (folder / "train" / "patient00001").mkdir(parents=True)
    (folder / "train" / "patient00001" / "view1.jpg").write_bytes(b"x")
    table = folder / "train.csv"
    table.write_text("Path,Sex\nCheXpert-v1.0-small/train/patient00001/view1.jpg,Male\n")
    assert [item.key for item in read(table)] == ["train/patient00001/view1.jpg"]


def test_accents_are_one_letter_or_two(tmp_path):
    name = "l\u00e9sion"
    Image.new("L", (32, 32)).save(tmp_path / f"{unicodedata.normalize('NFD', name)}.png")
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{name}.png,a\n")
    (item,) = metadata.read(tmp_path, ReaderOptions())
    assert isinstance(item, Found)
