"""WebDataset shards: every sample becomes its image with what stands beside it, or is named."""

import io
import json
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vesalius.errors import VesaliusError
from vesalius.pairs.readers import webdataset
from vesalius.pairs.readers.base import Found, Skipped
from vesalius.pairs.settings import ReaderOptions


def write(path, members, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return path


def read(source, **options):
    return list(webdataset.read(source, ReaderOptions(**options)))


def reasons(items):
    return {item.key: item.reason for item in items if isinstance(item, Skipped)}


SAMPLES = [
    (f"{i}.{kind}", b"%d %s" % (i, kind.encode())) for i in range(3) for kind in ("jpg", "txt")
]


def test_members_of_a_sample_come_together(tmp_path):
    said = {"patient_id": "p1", "age": 63, "split": "val", "box": {"x": 1}, "diagnosis": "nv"}
    members = [
        ("./sub.dir/a.JPG", b"image a"),
        ("./sub.dir/a.txt", " Ein\nNävus ".encode("cp1252")),
        ("./sub.dir/a.cls", b"3\n"),
        ("b.png", b"image b"),
        ("b.json", json.dumps(said).encode()),
        ("b.npy", b"whatever"),
        ("._b.png", b"of macOS"),
    ]
    a, b = read(write(tmp_path / "x.tar", members))
    assert (a.key, a.load(), a.caption, a.label) == (
        "x.tar:sub.dir/a",
        b"image a",
        "Ein Nävus",
        "3",
    )
    assert (b.key, b.load(), b.label, b.group, b.split) == (
        "x.tar:b",
        b"image b",
        "nv",
        "p1",
        "val",
    )
    assert b.attributes == {"patient_id": "p1", "age": "63", "box": '{"x": 1}'}


def test_what_is_said_twice_is_kept_and_an_option_decides(tmp_path):
    said = {"dx": "melanoma", "text": "from the .json"}
    members = [
        ("a.jpg", b""),
        ("a.cls", b"4"),
        ("a.txt", b"from the .txt"),
        ("a.json", json.dumps(said).encode()),
    ]
    tar = write(tmp_path / "x.tar", members)
    (item,) = read(tar)
    assert (item.label, item.caption, item.attributes) == ("4", "from the .txt", said)
    (item,) = read(tar, label_column="dx", caption_column="text")
    assert (item.label, item.caption) == ("melanoma", "from the .json")


@pytest.mark.parametrize(
    ("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.tgz", "w:gz")]
)
def test_shards_of_a_folder_in_order_compressed_or_not(tmp_path, name, mode):
    write(tmp_path / name, SAMPLES, mode)
    write(tmp_path / "a.tar", SAMPLES)
    (tmp_path / "notes.txt").write_text("no tar")
    items = read(tmp_path)
    assert [item.key for item in items] == [f"{n}:{i}" for n in ("a.tar", name) for i in range(3)]
    assert items[4].load() == b"1 jpg" and items[4].caption == "1 txt"
    assert len(read(tmp_path, exclude=("a.tar",))) == 3


def test_samples_that_give_no_image_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "MOST_BYTES", 1 << 20)
    members = [
        ("text.txt", b"alone"),
        ("two.jpg", b"1"),
        ("two.png", b"2"),
        ("big.jpg", bytes((1 << 20) + 1)),
        ("cut.jpg", b"image"),
        ("cut.json", b'{"label": '),
        ("list.jpg", b"image"),
        ("list.json", b"[1]"),
        ("deep.jpg", b"image"),
        ("deep.json", b"[" * 100_000),
        ("late.jpg", b"image"),
        ("good.jpg", b"image"),
        ("late.txt", b"too late"),
    ]
    items = read(write(tmp_path / "x.tar", members))
    assert [item.key for item in items if isinstance(item, Found)] == ["x.tar:late", "x.tar:good"]
    assert reasons(items) == {
        "x.tar:text": "no image",
        "x.tar:two": "several images",
        "x.tar:big": "its members are larger than 1 MiB",
        "x.tar:cut": "its .json cannot be read",
        "x.tar:list": "its .json cannot be read",
        "x.tar:deep": "its .json cannot be read",
        "x.tar:late@9": "its members do not stand together, or it is twice",
    }


def test_masks_can_be_left_out(tmp_path):
    members = [("a.jpg", b"image"), ("a.mask.png", b"mask")]
    (item,) = read(write(tmp_path / "x.tar", members), exclude=("*.mask.png",))
    assert item.load() == b"image"
    assert not read(tmp_path / "x.tar", exclude=("x.tar:a",))


def test_a_column_that_is_asked_for_and_missing_is_told(tmp_path):
    members = [("a.jpg", b"image"), ("a.json", b'{"grade": 2}'), ("b.jpg", b"image")]
    items = read(write(tmp_path / "x.tar", members), label_column="grades")
    assert "did you mean 'grade'" in reasons(items)["x.tar:a"]
    assert "there are none" in reasons(items)["x.tar:b"]


def test_names_are_only_names(tmp_path):
    members = [("/abs/a.jpg", b"1"), ("../../b.jpg", b"2"), ("caf\udce9.jpg", b"3")]
    items = read(write(tmp_path / "x.tar", members))
    assert [item.key for item in items] == ["x.tar:/abs/a", "x.tar:../../b", "x.tar:caf\\xe9"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_json_may_hold_what_no_file_takes(tmp_path):
    members = [("a.jpg", b"image"), ("a.json", b'{"label": "x\\ud800", "\\udfff": "y"}')]
    (item,) = read(write(tmp_path / "x.tar", members))
    assert (item.label, item.attributes) == ("x?", {"?": "y"})


# each sample takes 4 blocks of 512 bytes: a header and the data of two members
@pytest.mark.parametrize(
    ("length", "samples"),
    [(4 * 512 + 100, 0), (5 * 512 + 3, 1), (8 * 512, 1), (9 * 512 + 3, 2), (12 * 512, 2)],
)
def test_what_was_whole_before_a_break_is_given(tmp_path, length, samples):
    path = write(tmp_path / "x.tar", SAMPLES)
    path.write_bytes(path.read_bytes()[:length])
    *items, last = read(path)
    assert [item.caption for item in items] == [f"{i} txt" for i in range(samples)]
    assert last == Skipped("x.tar", f"truncated after {samples} samples", last.stamp)


def test_damage_in_the_middle_is_not_taken_for_the_end(tmp_path):
    path = write(tmp_path / "x.tar", SAMPLES)
    data = bytearray(path.read_bytes())
    data[8 * 512 + 100] ^= 0xFF  # in the header of the third sample
    path.write_bytes(data)
    assert reasons(read(path)) == {"x.tar": "truncated after 1 samples"}


@pytest.mark.parametrize("content", [b"", b"no tar " * 200, b"\x1f\x8b\x08", b"\x1f\x8b\x08\x04"])
def test_what_is_no_tar_is_named(tmp_path, content):
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(VesaliusError, match=r"x\.tar is not a tar file"):
        read(path)
    with pytest.raises(VesaliusError, match="holds no tar file"):
        read(tmp_path, exclude=("*.tar",))


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    mode=st.sampled_from(["w", "w:gz"]),
    damage=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=6),
    kept=st.integers(0, 8000),
)
def test_any_damage_gives_items_or_one_line(tmp_path, mode, damage, kept):
    said = ("2.json", b'{"label": "a", "tags": ["b"], "box": {}}')
    path = write(tmp_path / "fuzz.tar", [*SAMPLES, said, ("n" * 120 + ".jpg", b"")], mode)
    data = bytearray(path.read_bytes()[: max(1, kept)])
    for place, value in damage:
        data[place % len(data)] = value
    path.write_bytes(data)
    try:
        items = read(path)
    except VesaliusError as error:
        assert "\n" not in str(error)
    else:
        for item in items:
            item.key.encode()
            if isinstance(item, Found):
                item.load()


@pytest.mark.parametrize("size", ["9" * 400, str(2**60), "-1"])
def test_a_size_that_no_member_has_ends_the_shard_at_once(tmp_path, size):
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, pax in (("0.txt", {}), ("1.txt", {"size": size})):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = 4, pax
            tar.addfile(member, io.BytesIO(b"cell"))
    items = list(read(path))
    assert items[-1].reason.startswith("truncated after")
