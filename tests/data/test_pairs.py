import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vesalius.data.captions import load_dictionary
from vesalius.data.pairs import build_pairs, read_pairs, square
from vesalius.errors import VesaliusError


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
    assert pairs.table["image"].to_pylist()[:30] == original  # not encoded again
    assert pairs.image(0, 32).shape == (32, 32, 3)


def test_no_patient_is_on_both_sides(tiny_pairs):
    pairs = read_pairs(tiny_pairs)
    sides = set(zip(pairs.column("group"), pairs.column("split"), strict=True))
    assert len(sides) == len({group for group, _ in sides})
    for name in ("lungs", "retinas"):
        own = [
            s
            for n, s in zip(pairs.column("source"), pairs.column("split"), strict=True)
            if n == name
        ]
        assert own.count("val") >= 0.2 * len(own)


def test_building_twice_gives_the_same_bytes(tiny_sets, tiny_pairs, tmp_path):
    dictionary = load_dictionary(str(tiny_sets / "dictionary.yaml"))
    build_pairs(tiny_sets, dictionary, tmp_path / "again.parquet", 0.2)
    assert (tmp_path / "again.parquet").read_bytes() == tiny_pairs.read_bytes()


def test_square_cuts_the_centre_of_either_orientation():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    assert (square(Image.fromarray(wide), 10) == 255).all()
    assert (square(Image.fromarray(wide.transpose(1, 0, 2)), 10) == 255).all()
    assert square(Image.new("L", (7, 9)), 16).shape == (16, 16, 3)


def test_bad_tables_are_refused(tiny_sets, tmp_path):
    with pytest.raises(VesaliusError, match="no pairs table"):
        read_pairs(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(VesaliusError, match="not a Parquet file"):
        read_pairs(tmp_path / "text.parquet")
    with pytest.raises(VesaliusError, match="lacks caption"):
        read_pairs(tiny_sets / "lungs.parquet")
    with pytest.raises(VesaliusError, match="not there"):
        build_pairs(tmp_path, load_dictionary("mini"), tmp_path / "out.parquet")
