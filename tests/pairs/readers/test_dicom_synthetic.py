"""A set that was generated as DICOM comes back without a patient: its images are not one group."""

from types import SimpleNamespace

import numpy as np
import pytest

from vesalius.images.dicom_header import attributes, identity_tags
from vesalius.images.encode import encode_image
from vesalius.pairs.build import PairsSettings, build_pairs
from vesalius.pairs.table import read_pairs

pytest.importorskip("pydicom")


def test_no_patient_is_made_of_what_stands_in_for_one(tmp_path):
    (tmp_path / "set").mkdir()
    draw = np.random.default_rng(0)
    for k in range(12):
        pixels = draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        told = {"synthetic": True, "prompt": "chest x-ray", "seed": k, "model_hash": "abc"}
        (tmp_path / "set" / f"{k}.dcm").write_bytes(
            encode_image(pixels, told, "dicom", number=k + 1)
        )
    document = build_pairs(
        [str(tmp_path / "set")], tmp_path / "p.parquet", PairsSettings(split="val=0.25")
    ).datasheet
    pairs = read_pairs(tmp_path / "p.parquet")
    assert len(set(pairs.column("group"))) == 12
    assert set(pairs.column("synthetic")) == {"true"}
    assert pairs.rows("val")
    assert "PatientName" not in str(document)


def test_a_real_header_keeps_its_patient():
    class Header(SimpleNamespace):
        def get(self, keyword):
            return getattr(self, keyword, None)

        def __contains__(self, keyword):
            return hasattr(self, keyword)

    real = Header(PatientID="17", Modality="CT")
    assert attributes(real) == {"patient_id": "17", "modality": "CT"}
    assert identity_tags(real) == ["PatientID"]
    made = Header(PatientID="SYNTHETIC-1", Modality="CT", SyntheticData="YES")
    assert attributes(made) == {"modality": "CT", "synthetic": "true"}
    assert identity_tags(made) == []
