import io

import numpy as np
import pytest
from PIL import Image

from vesalius.evaluate.sets import ComparedSet
from vesalius.evaluate.validity import (
    compare_sets,
    near_duplicates,
    same_numbers,
    shared_files,
    synthetic_among,
)
from vesalius.images.encode import encode_image
from vesalius.images.image_set import ImageSet, survey


def encoded(k, *, size=(40, 40), mode="RGB", kind="PNG", colour=True):
    pixels = np.random.default_rng(k).integers(0, 255, (*size[::-1], 3), np.uint8)
    if not colour:
        pixels[:] = pixels[..., :1]
    image = Image.fromarray(pixels).convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def side(name, files, labels=None):
    images = ImageSet([lambda data=data: data for data in files], {})
    classes = [frozenset({label}) for label in labels or ["cell"] * len(files)]
    columns = {key: [""] * len(files) for key in ("label", "caption", "group", "source")}
    return ComparedSet(name, images, survey(images), {}, columns, classes)


def unfair(real, fake, **options):
    return [f.message for f in compare_sets(real, fake, **options) if f.severity == "unfair"]


def test_sets_of_one_kind_are_fair():
    real = side("real", [encoded(k) for k in range(6)])
    assert compare_sets(real, side("a", [encoded(10 + k) for k in range(6)])) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "JPEG"}, "100% of the real and 0% of the synthetic files are JPEG"),
        ({"size": (80, 80)}, "shorter side is 80 px for real images and 40 for synthetic"),
        ({"size": (80, 40)}, "2.00 times as wide as high, synthetic ones 1.00"),
        ({"colour": False}, "0% of the real and 100% of the synthetic images are in colour"),
    ],
)
def test_what_a_network_sees_in_the_files_is_unfair(change, told):
    # a figure would measure the files instead of the generator
    real = side("real", [encoded(k, **change) for k in range(6)])
    messages = unfair(real, side("a", [encoded(10 + k) for k in range(6)]))
    assert len(messages) == 1
    assert told in messages[0]


def test_sixteen_bits_against_eight_are_unfair():
    deep = Image.fromarray(np.zeros((40, 40), np.uint16))
    stream = io.BytesIO()
    deep.save(stream, "PNG")
    real = side("real", [stream.getvalue()] * 4)
    assert "16 bits" in " ".join(unfair(real, side("a", [encoded(k) for k in range(4)])))


def test_grey_files_of_one_channel_compare_with_grey_files_of_three():
    # the mode differs, the pixels that a network sees do not
    real = side("real", [encoded(k, mode="L") for k in range(4)])
    assert unfair(real, side("a", [encoded(10 + k, colour=False) for k in range(4)])) == []


def test_cut_to_one_square_other_sizes_are_only_noted():
    real = side("real", [encoded(k, size=(80, 60)) for k in range(4)])
    found = compare_sets(real, side("a", [encoded(k) for k in range(4)]), side=40)
    assert [f.severity for f in found] == ["note"]
    assert "squares of 40 px" in found[0].message


def test_other_numbers_of_a_class_are_unfair_and_so_is_another_mix():
    real = side("real", [encoded(k) for k in range(9)], ["a"] * 3 + ["b"] * 6)
    fake = side("set", [encoded(20 + k) for k in range(9)], ["a"] * 7 + ["b"] * 2)
    told = " ".join(unfair(real, fake))
    assert "2 of 2 classes" in told
    assert "a 3 to 7" in told
    assert "mix the classes differently (by 44%)" in told


def test_classes_of_one_side_are_named():
    real = side("real", [encoded(k) for k in range(4)], ["a", "a", "b", "b"])
    fake = side("set", [encoded(20 + k) for k in range(4)], ["a", "a", "c", "c"])
    told = " ".join(f.message for f in compare_sets(real, fake))
    assert "no synthetic image is of b" in told
    assert "no real image is of c" in told


def test_a_real_set_that_holds_the_synthetic_one_is_found():
    files = [encoded(k) for k in range(6)]
    found = shared_files([side("real", files)], side("set", [*files[:2], encoded(50)]))
    assert found[0].severity == "unfair"
    assert "2 of 3 synthetic files are among the real ones" in found[0].message
    assert shared_files([side("real", files)], side("set", [encoded(50)])) == []


def test_synthetic_images_among_the_real_ones_are_found_by_their_provenance():
    made = encode_image(np.zeros((20, 20, 3), np.uint8), {"synthetic": True, "seed": 1})
    word = encode_image(np.zeros((20, 20, 3), np.uint8), {"note": "not synthetic"})
    found = synthetic_among(side("real", [encoded(0), made, word, b"broken synthetic"]))
    assert [f.message for f in found] == ["1 of the real images say inside that they are synthetic"]


def test_a_set_of_near_duplicates_is_no_set_of_new_images():
    assert near_duplicates(0.4, "train", "set") == []
    assert near_duplicates(0.6, "train", "set")[0].severity == "unfair"


def test_sets_of_other_sizes_do_not_compare():
    first, second = (side(str(n), [encoded(k) for k in range(n)]) for n in (2, 3))
    assert "2 2, 3 3" in same_numbers([first, second])[0].message
    assert same_numbers([first, first]) == []
