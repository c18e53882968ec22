"""The bundled model's record names images by their hash: tables made today give the same ones."""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from vesalius.images.pixels import prepare
from vesalius.models.locate import bundled_models

DATA = Path(__file__).parents[3] / "shared" / "data"
TEST_ROWS = Path(__file__).parents[2] / "benchmarks" / "mini" / "test_rows.txt"


@pytest.mark.skipif(not DATA.is_dir(), reason="shared/data, the real images, is not here")
@pytest.mark.parametrize("name", ["blood_cells", "endoscopy", "chest_ct", "brain_mri", "fundus"])
def test_what_mini_has_seen_is_found_by_its_hash(name):
    rows = json.loads((bundled_models()["mini"] / "training_rows.json").read_text())
    known = {row["sha1"] for row in rows if row["source"] == name}
    (batch, *_) = pq.ParquetFile(DATA / f"{name}.parquet").iter_batches(200, columns=["image"])
    images = [row["bytes"] for row in batch.column("image").to_pylist()]
    hashes = [hashlib.sha1(prepare(data).data).hexdigest() for data in images]
    found = sum(sha1 in known for sha1 in hashes) / len(hashes)
    assert found > 0.4  # 70 % of the rows were trained on


def test_the_listed_test_rows_are_none_that_mini_has_seen():
    rows = json.loads((bundled_models()["mini"] / "training_rows.json").read_text())
    listed = {line for line in TEST_ROWS.read_text().splitlines() if line and line[0] != "#"}
    assert len(listed) == 1416
    assert not listed & {row["sha1"] for row in rows}
