import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics import radiomics
from vesalius.images.image_set import ImageSet
from vesalius.pairs.open_images import open_images


@pytest.fixture
def images(tmp_path):
    for k in range(12):
        noise = np.random.default_rng(k).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{k}.png")
    return open_images(tmp_path)


def test_the_library_gets_two_folders_of_grey_squares(images, monkeypatch):
    def compute_frd(paths, num_workers):
        folders = [sorted(Path(path).glob("*.png")) for path in paths]
        assert [len(files) for files in folders] == [12, 10]
        with Image.open(folders[0][0]) as image:
            assert image.mode == "L" and image.size == (32, 32)
        return np.float64(3.5)

    monkeypatch.setitem(sys.modules, "frd_score", SimpleNamespace(compute_frd=compute_frd))
    monkeypatch.setitem(sys.modules, "radiomics", SimpleNamespace())
    found = radiomics.frd(images, images.take(range(10)), side=32)
    assert (found.value, found.n, found.n_real) == (3.5, 10, 12)
    assert "no interval" in found.note


def test_what_is_missing_is_told_with_how_to_get_it(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "frd_score", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "radiomics", None)
    assert "FRD needs radiomics" in str(radiomics.available())
    with pytest.raises(VesaliusError, match="pip install git"):
        radiomics.frd(images, images)


def test_too_few_images_and_a_failing_library_are_told(images, monkeypatch):
    few = radiomics.frd(images, ImageSet([], {}))
    assert few.value is None and "needs 10 images" in few.note

    def fails(*_args, **_options):
        raise RuntimeError("mask\nis empty")

    monkeypatch.setitem(sys.modules, "frd_score", SimpleNamespace(compute_frd=fails))
    monkeypatch.setitem(sys.modules, "radiomics", SimpleNamespace())
    with pytest.raises(VesaliusError, match="frd-score failed: mask is empty"):
        radiomics.frd(images, images)
