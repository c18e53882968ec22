import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vesalius.core import parquet
from vesalius.errors import VesaliusError
from vesalius.pairs import table as module
from vesalius.pairs.table import REQUIRED, read_pairs


def test_the_table_holds_captions_groups_and_the_images_own_bytes(tiny_sets, tiny_pairs):
    pairs = read_pairs(tiny_pairs)
    assert len(pairs) == 50
    assert set(pairs.column("caption")) == {
        "chest x-ray, nodule",
        "chest x-ray, effusion",
        "retina of the left nodule",
        "retina of the left effusion",
        "retina of the nodule",
    }
    original = pq.read_table(tiny_sets / "lungs.parquet")["image"].to_pylist()
    assert [pairs.encoded(row) for row in range(30)] == [image["bytes"] for image in original]
    assert pairs.image(0, 32).shape == (32, 32, 3)


def test_no_patient_is_on_both_sides(tiny_pairs):
    pairs = read_pairs(tiny_pairs)
    sides = set(zip(pairs.column("group"), pairs.column("split"), strict=True))
    assert len(sides) == len({group for group, _ in sides})
    for name in ("lungs", "retinas"):
        rows = zip(pairs.column("source"), pairs.column("split"), strict=True)
        own = [side for source, side in rows if source == name]
        assert own.count("val") >= 0.2 * len(own)


def test_any_row_can_be_read_in_any_order_from_several_threads(tiny_pairs, tmp_path, monkeypatch):
    table = pq.read_table(tiny_pairs)
    pq.write_table(table, tmp_path / "small.parquet", row_group_size=7)
    monkeypatch.setattr(module, "_HELD_BYTES", 1)  # hold as little as can be
    pairs = read_pairs(tmp_path / "small.parquet")
    expected = [image["bytes"] for image in table["image"].to_pylist()]
    wrong = []

    def look(seed: int) -> None:
        for row in np.random.default_rng(seed).permutation(50).tolist():
            if pairs.encoded(row) != expected[row]:
                wrong.append(row)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_bad_tables_are_refused(tiny_sets, tmp_path):
    with pytest.raises(VesaliusError, match="no pairs table"):
        read_pairs(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(VesaliusError, match="not a Parquet file"):
        read_pairs(tmp_path / "text.parquet")
    with pytest.raises(VesaliusError, match="lacks caption"):
        read_pairs(tiny_sets / "lungs.parquet")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("caption", [["a"], ["b"]], "caption is list"),
        ("image", [b"a", b"b"], "image is binary"),
        ("group", [1, 2], "group is int64"),
        ("image", [{"bytes": "a"}, {"bytes": "b"}], "image is string"),
    ],
)
def test_columns_of_another_type_are_refused(name, values, message, tmp_path):
    columns = {column: ["a", "b"] for column in REQUIRED} | {"image": [{"bytes": b"a"}] * 2}
    pq.write_table(pa.table(columns | {name: values}), tmp_path / "x.parquet")
    with pytest.raises(VesaliusError, match=message):
        read_pairs(tmp_path / "x.parquet")


def test_a_large_table_with_as_much_text_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MOST_BYTES", 10_000)
    image, report = {"bytes": bytes(1000)}, "x" * 500
    columns = {column: ["a"] * 64 for column in REQUIRED} | {"image": [image] * 64}
    path, text = tmp_path / "x.parquet", pa.table(columns | {"note": [report] * 64})
    pq.write_table(text, path, compression="none", use_dictionary=False)
    assert read_pairs(path).column("note") == [report] * 64
    pq.write_table(text, path, compression="zstd")
    with pytest.raises(VesaliusError, match="would take more than"):
        read_pairs(path)


def test_a_small_table_of_large_cells_is_refused_and_not_read(tmp_path):
    columns = {column: ["a"] * 64 for column in REQUIRED} | {"image": [{"bytes": b"a"}] * 64}
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(columns | {"note": ["x" * 30_000_000] * 64}), path, compression="zstd")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(VesaliusError, match="would take more than"):
        read_pairs(path)
