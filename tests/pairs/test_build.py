"""From sources to a table and its datasheet: whole, once, the same every time."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.pairs import build
from vesalius.pairs.build import PairsSettings, build_pairs, check_pairs
from vesalius.pairs.readers import ReaderOptions
from vesalius.pairs.table import read_pairs


def picture(number: int, side: int = 48) -> Image.Image:
    """A smooth picture like no other number's."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Class folders: 12 healthy and 8 ill pictures."""
    for number in range(20):
        folder = tmp_path / "source" / ("healthy" if number < 12 else "ill_very")
        folder.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / f"{number:02}.png")
    return tmp_path / "source"


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows(path: Path) -> list[dict]:
    return pq.read_table(path).drop_columns(["image"]).to_pylist()


def test_class_folders_become_captioned_pairs(folders, tmp_path):
    out = tmp_path / "out" / "pairs.parquet"
    document = build_pairs([str(folders)], out, PairsSettings(split="val=0.2,test=0.2")).datasheet
    assert files_in(out.parent) == ["pairs.datasheet.html", "pairs.datasheet.json", "pairs.parquet"]
    assert document["images"] == 20
    table = rows(out)
    assert {row["caption"] for row in table} == {"healthy", "ill very"}
    for label, count in {"healthy": 12, "ill_very": 8}.items():
        sides = [row["split"] for row in table if row["label"] == label]
        assert {side: sides.count(side) for side in ("val", "test")} == {
            "val": pytest.approx(count * 0.2, abs=1),
            "test": pytest.approx(count * 0.2, abs=1),
        }
    pairs = read_pairs(out)
    assert pairs.encoded(3) == (folders / "healthy" / "03.png").read_bytes()  # not encoded again
    assert (pairs.image(3, 48) == np.asarray(picture(3))).all()


def test_a_merged_table_finds_the_entry_of_each_row_s_own_source(folders, tmp_path):
    words = tmp_path / "words.yaml"
    words.write_text(
        "one: {templates: ['photograph, {label}']}\ntwo: {templates: ['scan, {label}']}\n"
        "'*': {templates: ['other, {label}']}\n"
    )
    named = [f"one={folders}/healthy", f"two={folders}/ill_very", f"three={folders}/ill_very"]
    merged, again, asked = (tmp_path / name / "pairs.parquet" for name in ("m", "a", "e"))
    build_pairs(named, merged, PairsSettings())
    build_pairs([str(merged)], again, PairsSettings(captions=str(words)))
    said = {(row["source"], row["caption"].split(",")[0]) for row in rows(again)}
    assert said == {("one", "photograph"), ("two", "scan"), ("three", "other")}
    build_pairs([f"two={merged}"], asked, PairsSettings(captions=str(words)))
    assert {row["caption"].split(",")[0] for row in rows(asked)} == {"scan"}


def test_the_same_input_gives_the_same_bytes_and_is_not_done_twice(folders, tmp_path, monkeypatch):
    first, second = tmp_path / "a" / "pairs.parquet", tmp_path / "b" / "pairs.parquet"
    build_pairs([str(folders)], first)
    build_pairs([str(folders)], second)
    for name in files_in(first.parent):
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes(), name
    with monkeypatch.context() as patch:
        patch.setattr(build, "examine", None)
        assert build_pairs([str(folders)], first).unchanged
    with pytest.raises(VesaliusError, match="exists already"):
        build_pairs([str(folders)], first, PairsSettings(seed=1))
    picture(99).save(folders / "healthy" / "new.png")
    with pytest.raises(VesaliusError, match="exists already"):
        build_pairs([str(folders)], first)
    assert build_pairs([str(folders)], first, overwrite=True).datasheet["images"] == 21


def test_touched_files_have_the_same_content(folders, tmp_path):
    built = build_pairs([str(folders)], tmp_path / "pairs.parquet")
    os.utime(folders / "healthy" / "00.png", (1, 1))
    again = build_pairs([str(folders)], tmp_path / "again.parquet")
    assert again.datasheet["fingerprint"] == built.datasheet["fingerprint"]
    picture(99).save(folders / "healthy" / "00.png")
    other = build_pairs([str(folders)], tmp_path / "other.parquet")
    assert other.datasheet["fingerprint"] != built.datasheet["fingerprint"]


def test_a_notebook_shows_counts_and_warnings(folders, tmp_path):
    built = build_pairs([str(folders)], tmp_path / "pairs.parquet")
    assert "pairs.parquet: 20 images (train 17, val 3). Usable with care" in repr(built)
    assert "<td>ill_very</td><td>8</td>" in built._repr_html_()


def test_the_datasets_library_sees_pictures(folders, tmp_path):
    datasets = pytest.importorskip("datasets")
    build_pairs([str(folders)], tmp_path / "pairs.parquet")
    loaded = datasets.Dataset.from_parquet(
        str(tmp_path / "pairs.parquet"), cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(loaded[0]["image"], Image.Image)
    assert loaded[0]["caption"] == "healthy"


def plant(folders: Path) -> None:
    """Copies of the healthy picture 00 as every kind of duplicate, and bad files of every kind."""
    healthy, ill = folders / "healthy", folders / "ill_very"
    (ill / "bytes.png").write_bytes((healthy / "00.png").read_bytes())
    picture(1).save(healthy / "pixels.png", compress_level=1)
    picture(2).save(healthy / "near.jpg", quality=80)
    picture(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(healthy / "turned.png")
    (ill / "empty.png").write_bytes(b"")
    (ill / "torn.png").write_bytes((ill / "15.png").read_bytes()[:800])
    (ill / "text.png").write_text("not a picture")
    Image.new("L", (1, 1)).save(ill / "dot.png")
    picture(0).save(ill / "film.gif", save_all=True, append_images=[picture(5)])


def test_planted_duplicates_and_bad_files_are_all_found(folders, tmp_path):
    plant(folders)
    out = tmp_path / "pairs.parquet"
    document = build_pairs([str(folders)], out, PairsSettings(split="val=0.3")).datasheet
    assert document["duplicates"]["counts"] == {"bytes": 1, "pixels": 1, "near": 1, "turned": 1}
    reasons = {row["key"]: row["reason"] for row in document["skipped"]["listed"]}
    assert sorted(reasons) == [
        f"ill_very/{n}" for n in ("dot.png", "empty.png", "film.gif", "text.png", "torn.png")
    ]
    assert reasons["ill_very/empty.png"] == "empty file"
    kinds = {leak["kind"] for leak in document["leaks"]["listed"]}
    assert kinds == {"labels"}  # the copies share a side; one picture under two labels remains
    group = {row["key"]: row["group"] for row in rows(out)}
    for one, other in {"bytes": "ill_very/bytes.png", "turned": "healthy/turned.png"}.items():
        first = {"bytes": "healthy/00.png", "turned": "healthy/03.png"}[one]
        assert group[first] == group[other]

    kept = build_pairs(
        [str(folders)], tmp_path / "kept.parquet", PairsSettings(split="val=0.5", duplicates="keep")
    ).datasheet
    assert {"bytes", "pixels", "near", "turned"} & {
        leak["kind"] for leak in kept["leaks"]["listed"]
    }
    dropped = build_pairs(
        [str(folders)], tmp_path / "dropped.parquet", PairsSettings(duplicates="drop")
    ).datasheet
    reasons = {row["key"]: row["reason"] for row in dropped["skipped"]["listed"]}
    assert reasons["healthy/pixels.png"] == "identical to healthy/01.png"
    assert "healthy, ill_very" in reasons["healthy/00.png"]
    assert "healthy, ill_very" in reasons["ill_very/bytes.png"]


def test_strict_stops_at_the_first_bad_row_and_leaves_nothing(folders, tmp_path):
    plant(folders)
    out = tmp_path / "out" / "pairs.parquet"
    with pytest.raises(VesaliusError, match=r"ill_very/dot\.png: 1 x 1 pixels: too small"):
        build_pairs([str(folders)], out, strict=True)
    assert not out.parent.exists()


def test_tables_are_merged_and_keep_what_they_say(folders, tmp_path):
    first, second = tmp_path / "one.parquet", tmp_path / "two.parquet"
    build_pairs([f"lab={folders}"], first, PairsSettings(split="val=0.2,test=0.2"))
    other = tmp_path / "other"
    for number in range(30, 36):
        (other / "sick").mkdir(parents=True, exist_ok=True)
        picture(number).save(other / "sick" / f"{number}.png")
    picture(3).save(other / "sick" / "copy.png")  # the same pixels as the lab's 03
    build_pairs([str(other)], second)
    merged = tmp_path / "all.parquet"
    document = build_pairs([str(first), str(second)], merged).datasheet
    same = ("caption", "label", "split", "source", "row", "key", "sha1")
    before = [{k: row[k] for k in same} for path in (first, second) for row in rows(path)]
    assert [{k: row[k] for k in same} for row in rows(merged)] == before
    assert sum(document["duplicates"]["counts"].values()) == 1
    with pytest.raises(VesaliusError, match="two sources are called 'one'"):
        build_pairs([str(first), str(first)], tmp_path / "twice.parquet")


def test_few_shots_fractions_and_folds(folders, tmp_path):
    options = PairsSettings(split="test=0.2", shots=3, folds=3)
    build_pairs([str(folders)], tmp_path / "few.parquet", options)
    table = rows(tmp_path / "few.parquet")
    train = [row["label"] for row in table if row["split"] == "train"]
    assert {label: train.count(label) for label in set(train)} == {"healthy": 3, "ill_very": 3}
    assert {row["fold"] for row in table if row["split"] == "train"} == {0, 1, 2}
    assert {row["fold"] for row in table if row["split"] != "train"} == {None}
    build_pairs(
        [str(folders)], tmp_path / "part.parquet", PairsSettings(fraction=0.5, split="none")
    )
    sides = [row["split"] for row in rows(tmp_path / "part.parquet")]
    assert sides.count("train") == pytest.approx(10, abs=1)
    assert set(sides) == {"train", "unused"}


def test_a_sources_own_split_is_kept_and_its_leaks_are_named(tmp_path):
    for split, numbers in {"train": range(12), "test": range(12, 16)}.items():
        folder = tmp_path / "source" / split / "cells"
        folder.mkdir(parents=True)
        for number in numbers:
            picture(number).save(folder / f"{number}.png")
    picture(4).save(tmp_path / "source" / "test" / "cells" / "leak.png")
    document = build_pairs([str(tmp_path / "source")], tmp_path / "pairs.parquet").datasheet
    assert document["splits"] == {"train": 10, "val": 2, "test": 5, "unused": 0} or (
        document["splits"]["test"] == 5 and document["splits"]["val"] >= 1
    )
    leaks = [leak for leak in document["leaks"]["listed"] if leak["kind"] == "bytes"]
    assert len(leaks) == 1
    assert "test/cells/leak.png" in leaks[0]["message"]


def test_check_finds_what_somebody_elses_table_hides(folders, tmp_path):
    out = tmp_path / "pairs.parquet"
    build_pairs([str(folders)], out)
    assert check_pairs(out).problems == ()
    table = pq.read_table(out)
    good = table.to_pylist()
    good[0]["image"] = {"bytes": b"torn", "path": None}
    good[1]["caption"] = ""
    good[2] |= {"split": "train", "group": "p"}
    good[3] |= {"split": "test", "group": "p"}
    pq.write_table(pa.Table.from_pylist(good, table.schema), tmp_path / "bad.parquet")
    problems = " | ".join(check_pairs(tmp_path / "bad.parquet", out=tmp_path / "look").problems)
    assert "not an image file" in problems
    assert "no caption" in problems
    assert "group" in problems
    assert {"look.html", "look.json"} <= set(files_in(tmp_path))
    with pytest.raises(VesaliusError, match="lacks caption"):
        pq.write_table(table.drop_columns(["caption"]), tmp_path / "less.parquet")
        check_pairs(tmp_path / "less.parquet")


def test_labels_outside_a_closed_dictionary_are_skipped_and_named(folders, tmp_path):
    dictionary = tmp_path / "words.yaml"
    dictionary.write_text(
        "cells: {templates: ['a {label} cell'], closed: [label], words: {label: {healthy: fit}}}"
    )
    options = PairsSettings(captions=str(dictionary))
    document = build_pairs([f"cells={folders}"], tmp_path / "pairs.parquet", options).datasheet
    assert document["images"] == 12
    assert document["skipped"]["count"] == 8
    assert "'ill_very' is not in the dictionary" in document["skipped"]["listed"][0]["reason"]
    assert {row["caption"] for row in rows(tmp_path / "pairs.parquet")} == {"a fit cell"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"reading": {"window": "lungs"}}, "window"),
        ({"reading": {"bits": 12}}, "bits"),
        ({"reader": "nrrd"}, "no reader"),
        ({"split": "val"}, "split"),
        ({"captions": "nothing"}, "no prompt dictionary"),
        ({"text_encoder": "nothing"}, "nothing"),
        ({"folds": 100}, "fold"),
    ],
)
def test_options_that_cannot_be_are_told_and_leave_nothing(folders, tmp_path, arguments, told):
    out = tmp_path / "out" / "pairs.parquet"
    with pytest.raises(VesaliusError, match=told) as error:
        reading = ReaderOptions(**arguments.pop("reading", {}))
        build_pairs([str(folders)], out, PairsSettings(reading=reading, **arguments))
    assert "\n" not in str(error.value)
    assert not out.parent.exists()


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(folders, tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "write_table", full)
    with pytest.raises(VesaliusError, match="disk is full"):
        build_pairs([str(folders)], tmp_path / "out" / "pairs.parquet")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_build_that_is_stopped_goes_on_and_ends_the_same(tmp_path, how):
    source = tmp_path / "source" / "cells"
    source.mkdir(parents=True)
    for number in range(60):
        picture(number).save(source / f"{number:02}.png")
    out, whole = tmp_path / "out" / "pairs.parquet", tmp_path / "whole" / "pairs.parquet"
    build_pairs([str(source.parent)], whole)
    # a slow reader stands for a slow disk, so that there is something to interrupt
    script = (
        "import sys, time\n"
        "from vesalius.pairs import scan, build\n"
        "real, seen = scan._good_row, []\n"
        "def slowly(*a):\n"
        "    seen.append(a)\n"
        "    time.sleep(float(sys.argv[3]))\n"
        "    return real(*a)\n"
        "scan._good_row = slowly\n"
        "scan.scan.__kwdefaults__['part_rows'] = 10\n"
        "build.build_pairs([sys.argv[1]], sys.argv[2])\n"
        "print(len(seen))\n"
    )

    def run(seconds: str) -> subprocess.Popen:
        command = [sys.executable, "-c", script, str(source.parent), str(out), seconds]
        pipe = subprocess.PIPE
        # a test run in the background inherits that Ctrl-C is ignored
        usual = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=usual)

    parts = out.parent / ".pairs.parquet.parts" / "000"
    with run("0.1") as process:
        deadline = time.monotonic() + 60
        while not (parts / "part-00001.arrow").is_file():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(how)
        process.wait(60)
    assert files_in(out.parent) == [".pairs.parquet.parts"]
    kept = len(list(parts.glob("part-*.arrow")))
    assert kept >= 2
    with run("0") as process:
        told, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert int(told) == 60 - 10 * kept  # what was scanned is not scanned again
    for name in ("pairs.parquet", "pairs.datasheet.json"):
        assert (out.parent / name).read_bytes() == (whole.parent / name).read_bytes()
    assert len(files_in(out.parent)) == 3


def test_a_patient_in_the_path_is_a_group(tmp_path):
    for number in range(12):
        folder = tmp_path / "source" / "cells" / f"patient{number // 3}"
        folder.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / f"{number}.png")
    options = PairsSettings(reading=ReaderOptions(group_pattern=r"patient(\d+)"))
    build_pairs([str(tmp_path / "source")], tmp_path / "pairs.parquet", options)
    table = rows(tmp_path / "pairs.parquet")
    assert {row["group"] for row in table} == {f"source/{number}" for number in range(4)}
    assert len({(row["group"], row["split"]) for row in table}) == 4
    options = PairsSettings(reading=ReaderOptions(group_pattern="(patient"))
    with pytest.raises(VesaliusError, match="group pattern"):
        build_pairs([str(tmp_path / "source")], tmp_path / "other.parquet", options)


def test_shots_are_counted_in_each_source(tmp_path):
    for source in ("eyes", "heads"):
        for number in range(8):
            folder = tmp_path / source / "normal"
            folder.mkdir(parents=True, exist_ok=True)
            picture(number + 100 * (source == "eyes")).save(folder / f"{number}.png")
    options = PairsSettings(split="none", shots=3)
    out = tmp_path / "pairs.parquet"
    document = build_pairs(
        [str(tmp_path / "eyes"), str(tmp_path / "heads")], out, options
    ).datasheet
    train = [row["source"] for row in rows(out) if row["split"] == "train"]
    assert sorted(train) == ["eyes"] * 3 + ["heads"] * 3
    assert {label["name"] for label in document["labels"]} == {"normal (eyes)", "normal (heads)"}


def test_what_looks_like_a_slip_is_said_first(folders, tmp_path):
    picture(50).save(folders / "healthy" / "00_mask.png")
    dictionary = tmp_path / "words.yaml"
    dictionary.write_text("source: {templates: ['{lable} cell'], words: {label: {sick: unwell}}}\n")
    options = PairsSettings(captions=str(dictionary))
    document = build_pairs([str(folders)], tmp_path / "pairs.parquet", options).datasheet
    told = " ".join(document["warnings"])
    assert "no image has 'lable'" in told
    assert "lists none of its labels (healthy, ill_very)" in told
    assert "healthy/00_mask.png" in told


def test_a_table_that_leaks_by_its_own_split_is_named_unfit(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "source" / split / "a").mkdir(parents=True)
        for number in range(5):
            picture(number + 10 * (split == "test")).save(
                tmp_path / "source" / split / "a" / f"{number}.png"
            )
    picture(0).save(tmp_path / "source" / "test" / "a" / "leak.png")
    out = tmp_path / "pairs.parquet"
    assert "same file" in build_pairs([str(tmp_path / "source")], out).problems[0]
    keep = PairsSettings(duplicates="keep")
    assert build_pairs([str(tmp_path / "source")], out, keep, overwrite=True).problems == ()


def build_deep(folder, name):
    """A table of one image of 16 bits; the image."""
    (folder / "source" / "chest").mkdir(parents=True)
    deep = np.linspace(100, 4000, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(deep).save(folder / "source" / "chest" / "deep.png")
    options = PairsSettings(split="none", reading=ReaderOptions(window="0..4095", bits=16))
    build_pairs([str(folder / "source")], folder / name, options)
    return deep


def test_sixteen_bits_survive_where_they_are_asked_for(tmp_path):
    deep = build_deep(tmp_path, "pairs.parquet")
    pairs = read_pairs(tmp_path / "pairs.parquet")
    stored = np.asarray(Image.open(io.BytesIO(pairs.encoded(0))))
    assert stored.dtype == np.uint16
    assert np.abs(stored / 65535 * 4095 - deep).max() < 0.1
    assert pairs.table["bits"].to_pylist() == [16]
    assert json.loads((tmp_path / "pairs.datasheet.json").read_text())["bits"] == [
        {"name": "16", "images": 1}
    ]


def test_outputs_that_changed_are_not_called_up_to_date(folders, tmp_path):
    out = tmp_path / "out" / "pairs.parquet"
    build_pairs([str(folders)], out)
    page = out.with_name("pairs.datasheet.html")
    assert build_pairs([str(folders)], out).unchanged
    with pytest.raises(VesaliusError, match="exists already"):
        build_pairs([str(folders)], out, samples=0)  # the page would still show patients
    page.unlink()
    with pytest.raises(VesaliusError, match="exists already"):
        build_pairs([str(folders)], out)
    build_pairs([str(folders)], out, overwrite=True)
    out.write_bytes(out.read_bytes()[:-10])
    with pytest.raises(VesaliusError, match="exists already"):
        build_pairs([str(folders)], out)


def test_nothing_of_the_users_is_replaced_unasked(folders, tmp_path):
    out = tmp_path / "out" / "pairs.parquet"
    out.parent.mkdir()
    page, parts = out.with_name("pairs.datasheet.html"), out.with_name(".pairs.parquet.parts")
    page.write_text("mine")
    with pytest.raises(VesaliusError, match="exists already"):
        build_pairs([str(folders)], out)
    page.unlink()
    parts.mkdir()
    (parts / "mine").touch()
    with pytest.raises(VesaliusError, match="in the way"):
        build_pairs([str(folders)], out)
    assert (parts / "mine").exists()
    with pytest.raises(VesaliusError, match="inside of the source"):
        build_pairs([str(folders)], folders / "pairs.parquet")
    with pytest.raises(VesaliusError, match=r"a \.parquet file"):
        build_pairs([str(folders)], tmp_path / "pairs.csv")


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
def test_a_second_run_on_the_same_table_waits_its_turn(folders, tmp_path):
    from vesalius.core.atomic import work_folder

    out = tmp_path / "pairs.parquet"
    leftover = tmp_path / ".pairs.parquet.0123abcd.tmp.parquet"
    leftover.write_bytes(b"of a run that was killed")
    with work_folder(tmp_path / ".pairs.parquet.parts"):
        with pytest.raises(VesaliusError, match="another run"):
            build_pairs([str(folders)], out)
        assert leftover.exists()
    build_pairs([str(folders)], out)
    assert not leftover.exists()


def test_deep_tables_are_read_back_as_they_are(tmp_path):
    build_deep(tmp_path, "deep.parquet")
    assert check_pairs(tmp_path / "deep.parquet").problems == ()
    build_pairs([str(tmp_path / "deep.parquet")], tmp_path / "again.parquet")
    tables = [read_pairs(tmp_path / name) for name in ("deep.parquet", "again.parquet")]
    assert tables[0].encoded(0) == tables[1].encoded(0)


def test_a_file_that_could_not_be_read_is_looked_at_again(folders, tmp_path, monkeypatch):
    from vesalius.pairs.readers import folders as reader

    out = tmp_path / "pairs.parquet"
    real = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path.name == "03.png":
            raise PermissionError(13, "Permission denied")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(reader.Path, "read_bytes", refused)
        assert build_pairs([str(folders)], out).datasheet["skipped"]["count"] == 1
    with pytest.raises(VesaliusError, match="exists already"):
        build_pairs([str(folders)], out)


def test_too_few_groups_for_a_split_are_told(folders, tmp_path):
    options = PairsSettings(
        split="val=0.2,test=0.2", reading=ReaderOptions(group_pattern=r"\w+(?=\.png)|healthy|ill")
    )
    document = build_pairs([str(folders)], tmp_path / "pairs.parquet", options).datasheet
    assert any("too few groups" in warning for warning in document["warnings"])


def test_a_table_without_rows_is_told(tmp_path):
    table = pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.string())})
    pq.write_table(table, tmp_path / "none.parquet")
    with pytest.raises(VesaliusError, match="there is no row"):
        build_pairs([str(tmp_path / "none.parquet")], tmp_path / "pairs.parquet")


@pytest.mark.parametrize("known", [True, False])
def test_where_no_patient_is_known_the_datasheet_says_so(tmp_path, known):
    for number in range(4):
        (tmp_path / "set" / f"p{number % 2}").mkdir(parents=True, exist_ok=True)
        picture(number).save(tmp_path / "set" / f"p{number % 2}" / f"{number}.png")
    reading = ReaderOptions(group_pattern=r"p\d" if known else None)
    document = build_pairs(
        [str(tmp_path / "set")], tmp_path / "out.parquet", PairsSettings(reading=reading)
    ).datasheet
    unknown = "unknown number of patients" in str(document["findings"])
    assert document["groups"]["count"] == (2 if known else 0)
    assert unknown is not known


def test_a_table_of_before_loses_metadata_and_keeps_its_groups(folders, tmp_path):
    old = tmp_path / "old.parquet"
    build_pairs([str(folders)], old)
    table = pq.read_table(old).to_pylist()
    first, copy = table[0], table[1]
    data = first["image"]["bytes"]
    text = (10).to_bytes(4) + b"tEXtID\0Doe^Jan"
    text += zlib.crc32(text[4:]).to_bytes(4)
    data = data[:33] + text + data[33:]
    sha1 = hashlib.sha1(data).hexdigest()
    first |= {"image": {"bytes": data, "path": "x"}, "sha1": sha1, "group": f"source/{sha1}"}
    copy["group"] = first["group"]
    pq.write_table(pa.Table.from_pylist(table, pq.read_schema(old)), old)
    build_pairs([str(old)], tmp_path / "new.parquet", PairsSettings(duplicates="keep"))
    assert b"Doe" not in (tmp_path / "new.parquet").read_bytes()
    new = rows(tmp_path / "new.parquet")
    assert len(new) == 20 and new[0]["sha1"] != sha1
    assert new[0]["group"] == new[1]["group"] == f"source/{new[0]['sha1']}"


def test_a_build_killed_between_its_two_renames_goes_on(tmp_path, monkeypatch):
    for number in range(6):
        (tmp_path / "source" / "cells").mkdir(parents=True, exist_ok=True)
        picture(number).save(tmp_path / "source" / "cells" / f"{number}.png")
    out, whole = tmp_path / "out" / "pairs.parquet", tmp_path / "whole" / "pairs.parquet"
    build_pairs([str(tmp_path / "source")], whole)
    script = (
        "import os, sys\n"
        "from vesalius.core import atomic\n"
        "real = atomic._replace\n"
        "def replace(temporary, final):\n"
        "    if final.suffix == '.parquet':\n"
        "        os._exit(9)\n"
        "    real(temporary, final)\n"
        "atomic._replace = replace\n"
        "from vesalius.pairs.build import build_pairs\n"
        "build_pairs([sys.argv[1]], sys.argv[2])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "source"), str(out)]
    assert subprocess.run(command, check=False).returncode == 9
    assert "pairs.datasheet.json" in files_in(out.parent)
    assert not out.exists()
    build_pairs([str(tmp_path / "source")], out)
    for name in ("pairs.parquet", "pairs.datasheet.json"):
        assert (out.parent / name).read_bytes() == (whole.parent / name).read_bytes()
    assert len(files_in(out.parent)) == 3


def test_a_row_number_that_is_none_costs_its_row(tmp_path):
    (tmp_path / "set").mkdir()
    for number in range(3):
        picture(number).save(tmp_path / "set" / f"{number}.png")
    build_pairs([str(tmp_path / "set")], tmp_path / "one.parquet")
    table = pq.read_table(tmp_path / "one.parquet")
    rows = pa.array(["0", "9" * 20, "2"])
    at = table.column_names.index("row")
    pq.write_table(table.set_column(at, "row", rows), tmp_path / "odd.parquet")
    sheet = build_pairs([str(tmp_path / "odd.parquet")], tmp_path / "two.parquet").datasheet
    assert sheet["images"] == 2
    assert "no place in a source" in str(sheet["skipped"])
