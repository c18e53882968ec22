"""Files of all arms are equal in everything but the picture."""

import io

import numpy as np
import pytest
from PIL import Image
from tests.study.phantoms import jpeg, phantom, png

from vesalius.errors import VesaliusError
from vesalius.study.equalise import (
    chunks,
    decide,
    encode,
    fit,
    is_grey,
    jpeg_quality,
    look,
    picture,
    write_images,
)
from vesalius.study.fakes import gross_fake
from vesalius.study.protocol import Pixels

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("lossy", [True, False])
def test_files_of_one_size_have_as_many_bytes_and_no_chunk_too_many(grey, lossy):
    pixels = Pixels(width=40, height=32, grey=grey, lossy=lossy, quality=80 if lossy else None)
    exif = Image.Exif()
    exif[270] = "Synthetic image"
    stream = io.BytesIO()
    phantom("normal", RNG).save(stream, "PNG", exif=exif)
    sources = [png(phantom("normal", RNG)), jpeg(phantom("effusion", RNG)), stream.getvalue()]
    noise = Image.fromarray(RNG.integers(0, 255, (70, 50, 3), dtype=np.uint8))
    files = [encode(fit(picture(source), pixels)) for source in (*sources, png(noise))]
    assert len({len(file) for file in files}) == 1
    assert {tuple(chunks(file)) for file in files} == {("IHDR", "IDAT", "IEND")}
    for file in files:
        with Image.open(io.BytesIO(file)) as image:
            assert (image.size, image.mode) == ((40, 32), "L" if grey else "RGB")
            assert not image.info


def test_every_file_has_one_time_whatever_the_order(tmp_path):
    write_images(tmp_path / "images", [("b", b"1"), ("a", b"2")])
    assert len({path.stat().st_mtime for path in (tmp_path / "images").iterdir()}) == 1


def test_the_common_size_enlarges_nothing():
    assert decide([(64, 64)] * 3, [(64, 64)], [], None) == Pixels(width=64, height=64)
    # all are resized or none, and none by a ratio whose pattern repeats within 8 pixels
    assert decide([(100, 80), (64, 64)], [(64, 64)], [], None) == Pixels(width=60, height=60)
    assert decide([(100, 48), (64, 64)], [(64, 64)], [], None).width == 45
    wide = decide([(100, 80), (96, 64)], [(96, 64)], [], None)
    assert (wide.width, wide.height) == (90, 60)
    asked = decide([(100, 80)], [(64, 64)], [], "40x30")
    assert (asked.width, asked.height, asked.lossy) == (40, 30, False)
    with pytest.raises(VesaliusError, match="--size 'large': give pixels"):
        decide([(100, 80)], [(64, 64)], [], "large")


def test_where_one_arm_is_lossy_all_get_the_same_jpeg_and_leave_its_grid():
    lossy = decide([(64, 64)], [(64, 64)], [95, 70], None)
    assert (lossy.lossy, lossy.quality, lossy.width) == (True, 70, 60)
    assert decide([(64, 64)], [(64, 64)], [100], None).quality == 90
    assert decide([(64, 64)], [(64, 64)], [5], None).quality == 30


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_the_quality_of_a_jpeg_is_read_from_it(quality):
    assert jpeg_quality(jpeg(phantom("normal", RNG), quality)) == quality
    assert jpeg_quality(png(phantom("normal", RNG))) is None


def test_grey_is_told_from_colour_in_spite_of_a_jpeg():
    grey = phantom("normal", RNG).convert("RGB")
    assert is_grey(grey)
    assert is_grey(picture(jpeg(grey)))
    tinted = np.asarray(grey).copy()
    tinted[..., 0] //= 2
    assert not is_grey(Image.fromarray(tinted))


def test_borders_and_markers_are_seen_and_borders_cut():
    plain = phantom("normal", RNG)
    assert look(plain).border == 0
    assert not look(plain).marker
    framed = Image.new("L", (60, 68))
    framed.paste(plain, (12, 10))
    assert look(framed).border == pytest.approx(0.2, abs=0.02)
    assert picture(png(framed), crop_borders=True).size == plain.size
    marked = np.asarray(plain).copy()
    marked[2:8, 2:9:2] = 255
    marked[2:8, 3:9:2] = 0
    assert look(Image.fromarray(marked)).marker
    assert picture(png(Image.new("L", (32, 32))), crop_borders=True).size == (32, 32)  # all dark


def test_gross_fakes_are_far_from_their_image_and_the_same_each_time():
    image = phantom("normal", RNG).convert("RGB")
    made = [gross_fake(image, k, 7) for k in range(5)]
    assert all(one.size == image.size for one in made)
    original = np.asarray(image.convert("L"), float)
    for k, one in enumerate(made):
        assert np.array_equal(np.asarray(one), np.asarray(gross_fake(image, k, 7)))
        alike = np.corrcoef(original.ravel(), np.asarray(one.convert("L"), float).ravel())[0, 1]
        assert alike < 0.85, k
    assert not np.array_equal(np.asarray(made[0]), np.asarray(gross_fake(image, 0, 8)))
