"""A machine finds what is planted in the files of one arm, and accuses no equal ones."""

import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from tests.study.phantoms import jpeg, png, write_pairs, write_set

from vesalius.errors import VesaliusError
from vesalius.study.build import build
from vesalius.study.check import check, compare
from vesalius.study.equalise import encode
from vesalius.study.features import Seen
from vesalius.study.key import KeyItem, read_items
from vesalius.study.layout import Layout
from vesalius.study.settings import BuildSettings, CheckSettings, DesignSettings

QUICK = CheckSettings(repetitions=1, exchanges=100, replicates=200)
DESIGN = BuildSettings(
    DesignSettings(tasks=("turing", "alignment"), trials=60, fakes=2, readers="2")
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A study of two arms of the same kind."""
    folder = tmp_path_factory.mktemp("check")
    pairs = write_pairs(folder / "pairs.parquet", 90)
    made = write_set(folder / "set", 60)
    return build(pairs, {"mine": made}, folder / "study", DESIGN).folder


def as_jpeg(image):
    return jpeg(image, 90)


def through_jpeg(image):
    return encode(Image.open(io.BytesIO(jpeg(image, 50))))


def larger(image):
    return encode(image.resize((image.width + 2, image.height + 2)))


def with_exif(image):
    exif, stream = Image.Exif(), io.BytesIO()
    exif[270] = "Synthetic image"
    image.save(stream, "PNG", compress_level=0, exif=exif)
    return stream.getvalue()


def with_text(image):
    notes, stream = PngInfo(), io.BytesIO()
    notes.add_text("Software", "x")
    image.save(stream, "PNG", compress_level=0, pnginfo=notes)
    return stream.getvalue()


def mirrored(image):
    return encode(ImageOps.mirror(image))


def fewer_levels(image):
    return encode(image.point(lambda value: value // 8 * 8))


def framed(image):
    return encode(ImageOps.expand(image.resize((image.width - 8, image.height - 8)), 4))


LEAKS = {
    as_jpeg: "PNG",
    through_jpeg: "blockiness",
    larger: "width",
    with_exif: "chunks",
    with_text: "chunks",
    png: "bytes",  # compressed: as many bytes as the picture takes
    mirrored: "mirrored",
    fewer_levels: "unused grey levels",
    framed: "border",
}


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
def test_a_planted_leak_is_found(built, tmp_path, leak):
    study = tmp_path / "study"
    shutil.copytree(built, study)
    layout = Layout(study)
    for item in read_items(layout.key):
        if item.arm == "synthetic":
            path = layout.image(item.item)
            with Image.open(path) as image:
                path.write_bytes(leak(image.copy()))
            os.utime(path, (946_684_800, 946_684_800))
    found = check(study, QUICK)
    assert found.reasons
    if leak is mirrored:
        assert "synthetic is mirrored: left and right are exchanged in" in found.reasons[0]
    else:
        assert found.arms[0].auc.low > 0.5
        assert any(clue.name.startswith(LEAKS[leak]) for clue in found.arms[0].clues[:6])
        assert "synthetic is told from real images by" in repr(found)


def test_times_of_files_are_a_leak(built, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(built, study)
    for item in read_items(Layout(study).key):
        if item.arm == "synthetic":
            Layout(study).image(item.item).touch()
    assert "time of the file (1.00)" in check(study, QUICK).reasons[0]


@pytest.mark.parametrize("source", [png, jpeg])
def test_what_build_makes_of_jpeg_against_png_is_not_told(tmp_path, source):
    pairs = write_pairs(tmp_path / "pairs.parquet", 90, encode=source)
    made = write_set(tmp_path / "set", 60, side=64)
    study = build(pairs, {"mine": made}, tmp_path / "study", DESIGN).folder
    found = check(study, QUICK)
    assert found.reasons == []
    document = json.loads(Layout(study).check.read_text())
    assert document["reasons"] == []
    assert {clue["name"] for clue in document["arms"][0]["reported"]} == {"sharpness", "noise"}
    told = {clue["name"] for clue in document["arms"][0]["clues"]}
    assert not told & {"bytes", "chunks", "PNG", "width", "time of the file", "channels"}


def test_a_check_says_what_it_needs(built, tmp_path):
    with pytest.raises(VesaliusError, match="is no study"):
        check(tmp_path)
    study = tmp_path / "study"
    shutil.copytree(built, study)
    image = next(Layout(study).images.iterdir())
    image.write_bytes(b"no image")
    with pytest.raises(VesaliusError, match="cannot be read"):
        check(study, QUICK)
    Layout(study).key.unlink()
    with pytest.raises(VesaliusError, match="nobody knows what the images are"):
        check(study, QUICK)


def equal_arms(number, seed):
    """Features of so many matched images, all of one kind."""
    rng = np.random.default_rng([seed, number])
    seen, arms = {}, ([], [])
    for arm, name in enumerate(("real", "synthetic")):
        for k in range(number):
            container = {f"feature {j}": float(rng.normal()) for j in range(6)}
            container |= {"blockiness": float(rng.normal()), "border": float(max(0, rng.normal()))}
            picture = {"sharpness": float(rng.gamma(2)), "noise": float(rng.gamma(2))}
            grey = rng.normal(size=(16, 16)) + 0.5 * (np.arange(16) > 8)
            seen[f"{arm}-{k}"] = Seen(container, picture, grey - grey[:, ::-1])
            matched = f"{1 - arm}-{k}"
            arms[arm].append(KeyItem(f"{arm}-{k}", name, "", "", "", "", "", "", "", matched))
    return arms, seen


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("number", [20, 50])
def test_equal_arms_are_seldom_accused(number):
    """At most 5 % of the time; 9 of 100 or fewer have a chance of 97 % then."""
    accused = 0
    for seed in range(100):
        (real, other), seen = equal_arms(number, seed)
        accused += bool(compare("synthetic", real, other, seen, QUICK).reasons)
    assert accused <= 9
