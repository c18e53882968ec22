import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.pairs.datasheet import describe, write_datasheet

FACTS = {"pairs": "pairs.parquet", "command": "vesalius pairs x", "version": "1", "options": {}}


def table(n=60, **columns):
    """`n` good images of two balanced classes, three in four in train, and what a test changes."""
    good = {
        "source": ["set"] * n,
        "key": [f"{i}.png" for i in range(n)],
        "label": [("cyst", "tumour")[i % 2] for i in range(n)],
        "caption": [f"scan {i // 2} of a {('cyst', 'tumour')[i % 2]}" for i in range(n)],
        "group": [f"p{i // 2}" for i in range(n)],
        "split": [("train", "train", "train", "val")[i // 2 % 4] for i in range(n)],
        "width": [256] * n,
        "height": [200] * n,
        "mode": ["RGB"] * n,
        "bits": [8] * n,
        "notes": [""] * n,
        "bytes": [1000] * n,
    }
    columns = good | columns
    return pa.table({name: _typed(name, values) for name, values in columns.items()})


def _typed(name, values):
    numbers = {"width", "height", "bits", "bytes"}
    return pa.array(values, pa.int64() if name in numbers else pa.string())


def findings(given_table, skipped=(), **facts):
    document = describe(given_table, skipped, facts=FACTS | facts)
    return [(one["severity"], one["message"]) for one in document["findings"]]


def told(found, severity, pattern):
    return any(s == severity and re.search(pattern, message) for s, message in found)


class Page(HTMLParser):
    """Tags, attributes and text of a page as a browser sees them."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def page(tmp_path, given_table, image=None, skipped=(), samples=6, **facts):
    document = describe(given_table, skipped, facts=FACTS | facts)
    image = image or (lambda row: Image.new("RGB", (300, 200), (row, 90, 90)))
    out = tmp_path / "sheet.html"
    write_datasheet(document, image, out, tmp_path / "sheet.json", samples=samples)
    return out.read_text("utf-8")


def test_a_good_table_has_nothing_against_it():
    document = describe(table(), [], facts=FACTS)
    assert document["findings"] == []
    assert document["verdict"] == "Nothing speaks against its use."
    assert document["splits"] == {"train": 46, "val": 14, "test": 0, "unused": 0}
    assert document["groups"]["splits"] == {"train": 23, "val": 7, "test": 0, "unused": 0}
    assert document["labels"][0] == {
        "name": "cyst",
        "images": 30,
        "train": 23,
        "val": 7,
        "test": 0,
        "unused": 0,
    }


def test_counts_agree_with_counting_row_by_row():
    rng = np.random.default_rng(0)
    n = 500
    label = [("a", "b", "c", None, "")[i] for i in rng.integers(0, 5, n)]
    notes = [("", "x", "x; y")[i] for i in rng.integers(0, 3, n)]
    width = rng.integers(16, 900, n).tolist()
    age = [(None, "63", "7.5", "90+")[i] for i in rng.choice(4, n, p=[0.1, 0.5, 0.39, 0.01])]
    document = describe(table(n, label=label, notes=notes, width=width, age=age), [], facts=FACTS)
    images = {row["name"]: row["images"] for row in document["labels"]}
    assert images == {name: label.count(name) for name in "abc"} | {
        None: label.count(None) + label.count("")
    }
    assert {row["name"]: row["images"] for row in document["notes"]} == {
        "x": n - notes.count(""),
        "y": notes.count("x; y"),
    }
    bins = document["sizes"]["widths"]
    for low, high, count in zip(bins["edges"], bins["edges"][1:], bins["counts"], strict=False):
        assert count == sum(low <= value < high for value in width)
    assert sum(bins["counts"]) == n
    assert document["captions"]["words"] == {"min": 5, "median": 5, "max": 5}
    (described,) = document["attributes"]
    assert described["missing"] == age.count(None)
    assert described["numbers"]["min"] == 7.5 and described["numbers"]["max"] == 63


def test_what_stands_in_the_way_comes_first():
    leaks = [
        {"kind": "near", "severity": "warning", "message": "rows look alike", "rows": [0, 1]},
        {"kind": "group", "severity": "error", "message": "p1 is on two sides", "rows": [2, 3]},
        {"kind": "group", "severity": "error", "message": "p2 is on two sides", "rows": [4, 5]},
    ]
    found = findings(table(caption=[""] * 60), leaks=leaks, warnings=["a set is missing"])
    assert found[0] == (
        "error",
        "2 groups (patients or lesions) have images in more than one split.",
    )
    assert told(found, "warning", "^Rows look alike.$")
    assert told(found, "warning", "^A set is missing.$")
    assert told(found, "warning", "Images without a caption: 60")
    order = ["error", "warning", "note"]
    assert [s for s, _ in found] == sorted((s for s, _ in found), key=order.index)


def test_classes_that_cannot_be_learnt_or_measured_are_named():
    label = ["rare"] * 2 + ["common"] * 58
    found = findings(table(label=label))
    assert told(found, "warning", "Fewer than 10 images in train: rare 2")
    assert told(found, "warning", "No image in val: rare")
    assert told(found, "warning", "22 times .* common 44, rare 2")
    assert told(findings(table(split=["unused"] * 60)), "error", "No image is in train")


def test_an_attribute_that_gives_the_label_away_is_found():
    width = [512 if i % 2 else 256 for i in range(60)]
    assert told(
        findings(table(width=width)),
        "warning",
        r"In set, image size goes .*1\.00.* 100 % of .* 0 %",
    )
    site = ["north" if i % 2 else "south" for i in range(60)]
    assert told(findings(table(site=site)), "warning", "site goes with the label")
    assert told(findings(table(label_name=site)), "note", "label_name goes with the label")
    unrelated = ["north" if i // 2 % 2 else "south" for i in range(60)]
    assert findings(table(site=unrelated)) == []


def test_a_native_size_that_only_some_classes_have_is_found():
    # as in a public fundus set: two classes always 400x400, the others only half of the time
    label = [("normal", "retinopathy", "glaucoma", "cataract")[i % 4] for i in range(400)]
    native = ["256x256" if i % 4 > 1 and i % 8 > 3 else "400x400" for i in range(400)]
    found = findings(table(400, label=label, native=native))
    assert told(found, "warning", "native goes with the label .* 100 % of .* 50 % of")


def test_labels_of_different_sources_are_not_called_confounded_by_size():
    source = ["skin"] * 30 + ["chest"] * 30
    label = ["mole", "melanoma"] * 15 + ["clear", "effusion"] * 15
    width = [224] * 30 + [512] * 30
    found = findings(table(source=source, label=label, width=width))
    assert not told(found, "warning", "image size")


def test_privacy_is_reported_without_values():
    tags = ["PatientName|PatientBirthDate"] * 3 + [None] * 57
    found = findings(table(identity_tags=tags, burned_in=["YES"] * 2 + [None] * 58))
    assert told(found, "warning", r"\(PatientBirthDate; PatientName\): 3\.")
    assert told(found, "warning", "text burned in: 2")
    names = [f"only of patient {i}" for i in range(60)]
    twice = [f"only of patient {i // 2}" for i in range(60)]
    document = describe(table(remark=names, PatientID=twice), [], facts=FACTS)
    assert "only of patient" not in json.dumps(document)


def test_cut_captions_low_resolution_and_missing_groups_are_told():
    tokens = {
        "encoder": "mini",
        "window": 77,
        "captions": 60,
        "cut": 6,
        "longest": 99,
        "lost_words": [],
        "examples": [],
    }
    found = findings(table(width=[100] * 60, group=[None] * 60), tokens=tokens)
    assert told(found, "warning", r"longer than the 77 tokens .*: 6 \(10 %\)")
    assert told(found, "warning", r"under 128 pixels .*: 60 \(100 %\)")
    assert told(found, "warning", "No image says whose it is: these are 60 images")


def test_a_missing_group_is_one_warning_with_what_the_reader_knows():
    hint = "the column 'case' may name patients: give --group-column 'case'"
    found = findings(table(group=[None] * 60), warnings=[hint, "two tables say the same"])
    about = [message for _, message in found if "group" in message or "whose" in message]
    assert len(about) == 1
    assert "No image says whose it is" in about[0] and "give --group-column 'case'" in about[0]
    assert told(found, "warning", "^Two tables say the same")


def test_a_synthetic_set_is_of_no_patient_and_that_is_no_fault():
    all_of_them = findings(table(group=[None] * 60, synthetic=["true"] * 60))
    assert told(all_of_them, "note", "These images are synthetic: no patient is named")
    assert not told(all_of_them, "warning", "whose")
    some = findings(table(group=[None] * 60, synthetic=["true"] * 59 + [None]))
    assert told(some, "warning", "No image says whose it is")
    assert not told(some, "note", "no patient is named")


def test_copies_are_counted_in_pairs():
    counts = {"near": 2, "bytes": 1, "pixels": 0}
    found = findings(table(), duplicates={"counts": counts, "clusters": []})
    assert told(found, "note", "2 pairs nearly the same, 1 pair the same file")


def test_values_that_are_all_the_same_are_a_sentence_and_no_chart(tmp_path):
    same = Page(page(tmp_path, table()))
    assert "Width: 256 pixels in all of them" in " ".join(same.text.split())
    titles = [value for _, value in same.attributes if value and value.startswith("Histogram of")]
    assert not any("Width" in title or "Height" in title for title in titles)
    varied = Page(page(tmp_path, table(width=list(range(200, 260)))))
    titles = [value for _, value in varied.attributes if value and value.startswith("Histogram of")]
    assert any("Width" in title for title in titles)


def test_everything_skipped_is_counted_and_named(tmp_path):
    skipped = [("set", f"bad{i}.png", "empty file") for i in range(1200)]
    document = describe(table(), [*skipped, ("set", "x", "too small")], facts=FACTS)
    assert document["skipped"]["count"] == 1201
    assert document["skipped"]["reasons"][0] == {"name": "empty file", "rows": 1200}
    assert len(document["skipped"]["listed"]) == 1000
    html = page(tmp_path, table(), skipped=skipped)
    assert "bad99.png" in html and "bad100.png" not in html


def test_the_same_table_gives_the_same_bytes_and_samples_stay_as_rows_are_added(tmp_path):
    assert page(tmp_path, table()) == page(tmp_path, table())
    before = describe(table(), [], facts=FACTS)["samples"][0]["images"][:6]
    after = describe(table(66), [], facts=FACTS)["samples"][0]["images"]
    assert len({image["key"] for image in before} & {image["key"] for image in after}) >= 5


def test_the_page_needs_no_other_file_and_no_script(tmp_path):
    html = page(tmp_path, table())
    parsed = Page(html)
    assert "script" not in parsed.tags and "link" not in parsed.tags
    sources = [value for name, value in parsed.attributes if name in ("src", "href")]
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in sources)
    assert parsed.tags.count("img") == 12  # six of each class
    anchors = {value for name, value in parsed.attributes if name == "id"}
    assert {source[1:] for source in sources if source[0] == "#"} <= anchors
    assert "contains real images" in html


def test_without_samples_no_picture_is_even_opened(tmp_path):
    def image(row):
        raise AssertionError("opened")

    leaks = [{"kind": "near", "severity": "warning", "message": "alike", "rows": [0, 1]}]
    html = page(tmp_path, table(), image, samples=0, leaks=leaks)
    assert "<img" not in html and "made without pictures" in html


def test_text_of_the_source_cannot_become_markup(tmp_path):
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
    columns = {
        name: [evil] * 60 for name in ("label", "caption", "source", "key", "group", "notes")
    }
    leaks = [{"kind": evil, "severity": "error", "message": evil, "rows": [0]}]
    cluster = {"kind": evil, "similarity": 1.0, "rows": [0, 1], "size": 2}
    html = page(
        tmp_path,
        table(**columns, **{evil: [evil] * 60}),
        skipped=[(evil, evil, evil)],
        leaks=leaks,
        duplicates={"counts": {evil: 1}, "clusters": [cluster]},
        command=evil,
        options={evil: evil},
    )
    parsed = Page(html)
    assert "script" not in parsed.tags
    assert all(name != "onerror" for name, _ in parsed.attributes)
    assert evil in parsed.text


def test_what_a_photograph_says_about_its_patient_does_not_reach_the_page(tmp_path):
    def image(row):
        picture = Image.new("RGB", (64, 64))
        picture.info["comment"] = b"Jane Doe"
        return picture

    plain = page(tmp_path, table(), lambda row: Image.new("RGB", (64, 64)))
    assert page(tmp_path, table(), image) == plain


def test_a_picture_that_cannot_be_read_leaves_a_blank(tmp_path):
    def image(row):
        raise VesaliusError("an image cannot be read")

    assert "cannot be shown" in page(tmp_path, table(), image)


def test_many_long_labels_are_counted_rather_than_shown(tmp_path):
    label = [f"{'very' * 30} long {i:03}" for i in range(100)]
    html = page(tmp_path, table(100, label=label), samples=1)
    assert html.count("<img") == 60
    assert "40 more" in html


def test_a_file_name_that_is_not_utf8_can_be_written(tmp_path):
    html = page(tmp_path, table(), skipped=[("set", "caf\udce9.png", "empty file")])
    assert "caf\\udce9.png" in html
    read = json.loads((tmp_path / "sheet.json").read_text("utf-8"))
    assert read["skipped"]["listed"][0]["key"] == "caf\udce9.png"


def test_nothing_is_left_half_written(tmp_path):
    def image(row):
        raise RuntimeError("pulled out")

    with pytest.raises(RuntimeError):
        page(tmp_path, table(), image)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n=st.integers(0, 40))
def test_any_table_can_be_described_and_shown(data, n, tmp_path_factory):
    text = st.one_of(st.none(), st.sampled_from(["", "a", "b", "a|b"]), st.text(max_size=8))

    def column(values):
        return data.draw(st.lists(values, min_size=n, max_size=n))

    given_table = table(
        n,
        **{
            name: column(text)
            for name in ("label", "caption", "group", "notes", "age", "burned_in")
        },
        key=column(st.text(max_size=5)),
        split=column(st.sampled_from(["train", "val", "test", "unused"])),
        width=column(st.integers(16, 100_000)),
    )
    folder = tmp_path_factory.mktemp("any")
    html = page(folder, given_table, lambda row: Image.new("L", (16, 16)), samples=1)
    assert "script" not in Page(html).tags
    document = json.loads((folder / "sheet.json").read_text("utf-8"))
    assert sum(row["images"] for row in document["labels"]) == n
