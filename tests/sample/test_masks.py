"""Masks cover what they say, and one that cannot be meant is told plainly."""

import numpy as np
import pytest
from PIL import Image

from vesalius.core.manifest import file_sha256
from vesalius.errors import VesaliusError
from vesalius.sample.masks import (
    Ellipse,
    draw_ellipse,
    feathered,
    make_mask,
    parse_ellipse,
)


def test_an_ellipse_covers_its_area_where_it_should():
    pixels = draw_ellipse(Ellipse(0.25, 0.5, 0.1, 0.3), (400, 200))
    assert pixels.shape == (200, 400)
    assert pixels.sum() == pytest.approx(np.pi * 40 * 60, rel=0.01)
    rows, columns = np.nonzero(pixels)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 159, 60, 139)


def test_an_angle_turns_clockwise_and_keeps_lengths():
    size = (300, 200)
    turned = draw_ellipse(Ellipse(0.5, 0.5, 0.2, 0.1, 90), size)
    rows, columns = np.nonzero(turned)
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (40, 120)  # 60 and 20 pixels of radius
    slanted = draw_ellipse(Ellipse(0.5, 0.5, 0.2, 0.05, 30), size)
    rows, columns = np.nonzero(slanted)
    assert rows[columns > 170].mean() > 100  # the right end goes down, as an image's rows do


def test_ellipses_are_written_as_they_are_read():
    for text in ("0.5,0.4,0.1,0.2", "0.5,0.4,0.1,0.2,30"):
        assert str(parse_ellipse(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not CX,CY,RX,RY"),
        ("1,2,3", "is not CX,CY,RX,RY"),
        ("a,b,c,d", "is not CX,CY,RX,RY"),
        ("0.5,0.5,nan,0.1", "is not CX,CY,RX,RY"),
        ("128,128,20,30", "fractions of the image"),
        ("0.5,0.5,0,0.1", "fractions of the image"),
        ("0.5,-0.5,0.1,0.1", "fractions of the image"),
    ],
)
def test_ellipses_that_cannot_be_meant_are_refused(text, message):
    with pytest.raises(VesaliusError, match=message):
        parse_ellipse(text)


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_a_mask_is_what_is_white_and_all_ellipses(tmp_path):
    pixels = np.zeros((40, 60), np.uint8)
    pixels[5:9, 5:9] = 255
    pixels[0, 0] = 3  # JPEG's ringing, or an editor's
    file = save(tmp_path / "mask.png", pixels)
    mask = make_mask((60, 40), file, [parse_ellipse("0.75,0.5,0.1,0.1")])
    assert mask.pixels[:, :30].sum() == 16
    assert mask.pixels[:, 30:].any()
    assert mask.origin == {"mask": file_sha256(file), "ellipses": "0.75,0.5,0.1,0.1"}
    red = np.zeros((40, 60, 3), np.uint8)
    red[2, 3, 0] = 255
    assert make_mask((60, 40), save(tmp_path / "red.png", red)).pixels.sum() == 1


def test_masks_that_cannot_be_meant_are_told(tmp_path):
    labels = np.zeros((40, 60), np.uint8)
    labels[5:9, 5:9] = 1
    file = save(tmp_path / "labels.png", labels)
    with pytest.raises(VesaliusError, match=r"labels\.png is 60x40 and the image 40x60: make them"):
        make_mask((40, 60), file)
    with pytest.raises(VesaliusError, match=r"is black \(its brightest pixel is 1 of 255\): make"):
        make_mask((60, 40), file)
    with pytest.raises(VesaliusError, match="give --mask or --ellipse"):
        make_mask((60, 40))
    with pytest.raises(VesaliusError, match="covers no pixel"):
        make_mask((60, 40), ellipses=[Ellipse(0.5, 0.5, 1e-4, 1e-4)])
    with pytest.raises(VesaliusError, match=r"gone\.png cannot be read"):
        make_mask((60, 40), tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(VesaliusError, match=r"text\.png cannot be read: .*not an image file"):
        make_mask((60, 40), tmp_path / "text.png")


def test_a_feather_rises_inside_the_mask_only():
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:] = True
    share = feathered(mask, 3)
    assert not share[~mask].any()
    assert share[10, 5:10].tolist() == [0.25, 0.5, 0.75, 1, 1]
    assert share[10, 15:].tolist() == [1] * 5  # the image's border is no edge
    assert np.array_equal(feathered(mask, 0), mask)
    assert feathered(np.ones((20, 20), bool), 9).min() == 1
    for wrong in (-1, 300):
        with pytest.raises(VesaliusError, match="feather"):
            feathered(mask, wrong)
