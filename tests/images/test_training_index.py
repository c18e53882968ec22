"""The bank and its calibration on drawn images: random fields with the spectrum of photographs."""

import io

import numpy as np
import pytest
from PIL import Image
from tests.small import fields

from vesalius.errors import VesaliusError
from vesalius.images.calibration import (
    EVERY,
    FARTHEST,
    Calibration,
    calibrate_index,
    nearest_of,
    some,
)
from vesalius.images.duplicates import turn
from vesalius.images.image_set import ImageSet
from vesalius.images.training_index import REPEAT, WHOLE, look, open_index, traits


class Held(ImageSet):
    """Images as PNG files in memory, each of a group and source of its own."""

    def __init__(self, images, **columns: list[str]) -> None:
        self.images, self.columns, self.read = list(images), columns, 0

    def __len__(self) -> int:
        return len(self.images)

    def encoded(self, index: int) -> bytes:
        self.read += 1
        stream = io.BytesIO()
        Image.fromarray(self.images[index]).save(stream, "PNG")
        return stream.getvalue()

    def column(self, name: str) -> list[str]:
        own = [f"{name}{k}" if name == "group" else "" for k in range(len(self))]
        return self.columns.get(name, own)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    images = fields(60)
    return images, open_index(Held(images), tmp_path_factory.mktemp("bank"))


@pytest.mark.parametrize("symmetry", range(8))
def test_a_copy_is_found_however_it_is_turned(trained, symmetry):
    images, bank = trained
    copied = [5, 31, 59]
    planes = turn(images[copied].transpose(0, 3, 1, 2), symmetry).transpose(0, 2, 3, 1)
    found = bank.nearest(look(list(np.ascontiguousarray(planes))))
    assert found.index[:, 0].tolist() == copied
    assert found.distance[:, 0].max() < 5e-3  # Pillow rounds between rows and columns


def test_a_copy_is_found_after_a_crop_noise_and_brightening(trained):
    images, bank = trained
    rng = np.random.default_rng(1)
    crop = Image.fromarray(images[12]).crop((2, 6, 90, 94)).resize((256, 256))
    noisy = np.clip(images[13] + rng.normal(0, 5, images[13].shape), 0, 255)
    bright = np.clip(images[14] * 1.2, 0, 255)
    found = bank.nearest(look([np.asarray(crop), noisy.astype("u1"), bright.astype("u1")]))
    assert found.index[:, 0].tolist() == [12, 13, 14]
    assert (found.distance[:, 0] < 0.3).all()


def test_other_images_are_far(trained):
    _, bank = trained
    found = bank.nearest(look(list(fields(10, seed=1))))
    assert found.distance.min() > 0.5
    assert (np.diff(found.distance, axis=1) >= 0).all()


def test_what_a_bank_says_of_an_image_is_blind_to_those_beside_it(trained):
    images, bank = trained
    others = [*fields(6, seed=2), images[8]]
    together = bank.nearest(look(others))
    for k, one in enumerate(others):
        alone = bank.nearest(look([one]))
        np.testing.assert_array_equal(alone.index[0], together.index[k])
        np.testing.assert_allclose(alone.distance[0], together.distance[k], atol=1e-5)


def test_images_of_the_same_group_can_be_left_out(tmp_path):
    images = fields(20)
    groups = [f"patient {k // 2}" for k in range(20)]
    bank = open_index(Held(images, group=groups), tmp_path)
    found = nearest_of(bank, bank, range(20), leave_group_out=True)
    assert (found.index[:, 0] // 2 != np.arange(20) // 2).all()
    assert (nearest_of(bank, bank, range(20)).index[:, 0] == np.arange(20)).all()


def test_a_lone_group_has_no_other_to_compare_with(tmp_path):
    bank = open_index(Held(fields(3), group=["one"] * 3), tmp_path)
    assert np.isinf(nearest_of(bank, bank, range(3), leave_group_out=True).distance).all()


def test_a_second_start_reads_no_image_and_new_ones_alone(tmp_path):
    images = Held(fields(12), sha1=[f"{k:040x}" for k in range(12)])
    open_index(images.take(range(8)), tmp_path)
    assert images.read == 8
    again = open_index(images.take(range(12)), tmp_path)
    assert images.read == 12
    fresh = open_index(images.take(range(12)), tmp_path / "other")
    np.testing.assert_array_equal(again.look(range(12)).thumbs, fresh.look(range(12)).thumbs)
    np.testing.assert_array_equal(again.layouts, fresh.layouts)


def test_a_part_of_a_bank_is_the_bank_of_the_part(trained, tmp_path):
    images, bank = trained
    rows = np.array([40, 3, 17])
    part, made = bank.part(rows), open_index(Held(images[rows]), tmp_path)
    assert part.keys == made.keys
    for one, other in zip(vars(part.look([2, 0])).values(), vars(made.look([2, 0])).values(),
                          strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, other)


def test_an_image_that_cannot_be_read_is_told(tmp_path):
    class Torn(Held):
        def encoded(self, index: int) -> bytes:
            return super().encoded(index)[:100]

    with pytest.raises(VesaliusError, match="cannot be read"):
        open_index(Torn(fields(2)), tmp_path)


def test_traits_tell_static_from_pictures():
    rng = np.random.default_rng(0)
    static = rng.integers(0, 256, (WHOLE, WHOLE, 3), dtype=np.uint8)
    coarse = np.kron(static[:32, :32], np.ones((8, 8, 1), np.uint8))
    picture = fields(1, side=WHOLE)[0]
    assert traits(static)[2] > 1 > 2 * traits(picture)[2]
    assert traits(coarse)[3] > 1 > 1.3 * traits(picture)[3]
    assert traits(np.full((WHOLE, WHOLE, 3), 7, np.uint8))[0] == 0


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory):
    """160 training images; 142 held out of one source, 20 of the other; two are duplicates."""
    cache = tmp_path_factory.mktemp("bank")
    train = fields(160)
    held = np.concatenate([fields(160, seed=1), train[:2]])
    # the second source is dark above, so that each finds its own kind
    train[80:, :48] //= 8
    held[140:160, :48] //= 8
    sources = ["a"] * 80 + ["b"] * 80
    kinds = ["a"] * 140 + ["b"] * 20 + ["a"] * 2
    bank = open_index(Held(train, source=sources), cache)
    return bank, open_index(Held(held, source=kinds), cache)


def test_each_source_has_its_threshold_and_duplicates_say_nothing(two_sources):
    bank, held = two_sources
    found = calibrate_index(bank, nearest_of(bank, held, range(len(held))), 0.01)
    assert found.repeats == {"a": 2}
    assert found.thresholds["a"].n >= 100
    assert found.thresholds["a"].on == "held-out images"
    assert "held-out images, and 80 of training" in found.thresholds["b"].on
    assert found.threshold("unheard of") is found.thresholds[EVERY]
    assert all(each.value > REPEAT for each in found.thresholds.values())
    assert Calibration.from_dict(found.as_dict()) == found


def test_without_held_out_images_training_images_calibrate(two_sources):
    bank, _ = two_sources
    found = calibrate_index(bank, nearest_of(bank, bank, []))
    assert set(found.thresholds) == {EVERY}  # 80 a source are under 100, together they are not
    assert found.thresholds[EVERY].n == 160
    assert found.farthest == FARTHEST


def test_too_few_images_to_calibrate_on_leave_the_threshold_of_duplicates(tmp_path):
    bank = open_index(Held(fields(4), group=["one"] * 4), tmp_path)
    found = calibrate_index(bank, nearest_of(bank, bank, []))
    assert found.threshold("").value == REPEAT
    assert "0 real images are too few" in found.threshold("").on
    one = open_index(Held(fields(1, seed=7)), tmp_path)
    assert calibrate_index(bank, nearest_of(bank, one, [0])).threshold("").value == REPEAT


def test_some_are_drawn_once_and_for_all():
    assert some(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert some(100, 10).tolist() == some(100, 10).tolist()
    assert len(set(some(100, 10).tolist())) == 10
