import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vesalius.images import nearness
from vesalius.images.duplicates import turn
from vesalius.images.nearness import (
    as_tiles,
    calibrate,
    crowding_ratio,
    neighbours,
    tile_distance,
    turned,
)

RNG = np.random.default_rng(0)


def brute_force(views: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Distances of (V, N, T, D) to (M, T, D) one pair at a time: (N, M)."""
    return np.array(
        [[min(tile_distance(view[n], row) for view in views) for row in bank]
         for n in range(views.shape[1])]
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 40), st.integers(1, 4), st.integers(1, 9)
)
def test_neighbours_are_those_of_a_plain_search(views, n, m, tiles, k):
    rng = np.random.default_rng(views * n * m)
    queries = rng.random((views, n, tiles, 6), np.float32)
    bank = rng.random((m, tiles, 6), np.float32)
    found, every = neighbours(queries, bank, k), brute_force(queries, bank)
    assert found.index.shape == (n, min(k, m))
    np.testing.assert_array_equal(found.index, np.argsort(every, axis=1, kind="stable")[:, :k])
    np.testing.assert_allclose(found.distance, np.sort(every, axis=1)[:, :k], rtol=1e-5)


def test_small_blocks_change_nothing(monkeypatch):
    queries, bank = RNG.random((2, 7, 3, 5), np.float32), RNG.random((50, 3, 5), np.float32)
    whole = neighbours(queries, bank, 4)
    monkeypatch.setattr(nearness, "_QUERIES", 2)
    monkeypatch.setattr(nearness, "_BLOCK", 12)
    cut = neighbours(queries, bank, 4)
    np.testing.assert_array_equal(whole.index, cut.index)
    np.testing.assert_array_equal(whole.distance, cut.distance)


def test_the_distance_of_a_copy_is_not_the_rounding_of_products():
    # one bright picture three hundred times, each with noise of a grey level
    bank = (0.9 + RNG.normal(0, 1 / 255, (300, 1, 64))).astype(np.float32)
    found = neighbours(bank[None, [7, 123]], bank, 1)
    assert found.index[:, 0].tolist() == [7, 123]
    assert (found.distance == 0).all()


def test_views_say_which_of_them_was_nearest():
    images = RNG.integers(0, 256, (4, 16, 16, 3), np.uint8)
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    found = neighbours(as_tiles(turned(mirrored)), as_tiles(images), 1)
    assert found.index[:, 0].tolist() == [0, 1, 2, 3]
    assert (found.view == 1).all()
    assert (found.distance == 0).all()


def test_rows_may_be_read_when_needed():
    bank = RNG.random((30, 2, 4), np.float32)

    class OnDisk:
        def __len__(self) -> int:
            return len(bank)

        def __getitem__(self, rows):
            return torch.from_numpy(bank)[rows]

    queries = bank[None, 5:8]
    np.testing.assert_array_equal(
        neighbours(queries, OnDisk(), 3).index, neighbours(queries, bank, 3).index
    )


@pytest.mark.parametrize("symmetry", range(8))
def test_turned_agrees_with_the_symmetries_of_the_duplicate_search(symmetry):
    images = RNG.integers(0, 256, (2, 8, 8), np.uint8)
    np.testing.assert_array_equal(turned(images)[symmetry], turn(images, symmetry))
    colour = np.stack([images] * 3, -1)
    np.testing.assert_array_equal(turned(colour)[symmetry][..., 1], turn(images, symmetry))


def test_bytes_do_not_wrap_around():
    black, white = np.zeros((8, 8, 1), np.uint8), np.full((8, 8, 1), 255, np.uint8)
    assert tile_distance(as_tiles(black), as_tiles(white)) == 1
    assert tile_distance(as_tiles(white), as_tiles(black)) == 1


def test_the_most_different_tile_decides():
    a = np.zeros((16, 16, 1), np.uint8)
    b = a.copy()
    b[12:, :4] = 51  # one of sixteen tiles, a fifth of the range
    assert tile_distance(as_tiles(a), as_tiles(b)) == pytest.approx(0.2)


def test_tiles_lie_row_by_row():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    tiles = as_tiles(image) * 255
    assert tiles.shape == (16, 4)
    np.testing.assert_allclose(tiles[1], [2, 3, 10, 11])
    np.testing.assert_allclose(tiles[4], [16, 17, 24, 25])


def test_crowding_tells_one_near_image_from_many():
    one = np.array([[0.01] + [0.5] * 49])
    many = np.array([[0.4] + [0.5] * 49])
    assert crowding_ratio(one)[0] < 0.1
    assert crowding_ratio(many)[0] > 1


def test_a_threshold_flags_its_quantile_of_new_images_on_average():
    rng = np.random.default_rng(1)
    rates = [(rng.random(500) <= calibrate(rng.random(150)).value).mean() for _ in range(400)]
    # r = 2 of 151: 1.3 % is what can be had of 150 images
    assert np.mean(rates) == pytest.approx(2 / 151, abs=1.5e-3)


def test_the_interval_of_the_rate_holds_it():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        found = calibrate(rng.random(300))
        held += found.low <= found.value <= found.high  # uniform: the rate is the threshold
    assert 0.92 <= held / 400 <= 0.98


def test_a_large_calibration_set_is_no_trouble():
    found = calibrate(np.linspace(0, 1, 20_000))
    assert found.low < 0.01 < found.high
    assert found.high - found.low < 0.003


def test_a_training_image_is_flagged_even_where_held_out_images_repeat_training_ones():
    assert calibrate(np.zeros(200)).value > 0
