import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vesalius.images import duplicates
from vesalius.images.duplicates import (
    Duplicate,
    clusters,
    embedding_duplicates,
    find_duplicates,
    perceptual_hash,
    turn,
)
from vesalius.images.pixels import THUMB, prepare
from vesalius.images.similarity import structure_similarity


def picture(seed, size=128, outline=True):
    """A smooth random grey picture inside a disc that all of them share, as scans do."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    values = np.zeros((size, size))
    for _ in range(60):
        fy, fx = rng.uniform(-25, 25, 2)
        phase = rng.uniform(0, 2 * np.pi)
        values += np.cos(fy * y + fx * x + phase) / (3 + np.hypot(fy, fx))
    values = 120 + 45 * values / values.std()
    return np.clip(values * ((x**2 + y**2 < 0.9) if outline else 1), 0, 255).astype(np.uint8)


def jpeg(pixels, quality):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def resized(pixels, size, box=None):
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box))


def thumbs_of(images):
    thumbs = [np.frombuffer(prepare(image).thumb, np.uint8) for image in images]
    return np.stack(thumbs).reshape(-1, THUMB, THUMB)


def search(images, pixels=True, digests=None):
    return find_duplicates(
        thumbs_of(images),
        digests or [str(row) for row in range(len(images))],
        lambda a, b: np.array_equal(images[a], images[b]),
        (lambda row: images[row]) if pixels else None,
        threads=2,
    )


CHANGES = {
    "JPEG of quality 50": lambda pixels: jpeg(pixels, 50),
    "70 % of the size": lambda pixels: resized(pixels, 90),
    "cropped by 3 %": lambda pixels: resized(pixels, 124, (2, 2, 126, 126)),
    "brighter": lambda pixels: np.clip(pixels * 1.1, 0, 255).astype(np.uint8),
    "noisy": lambda pixels: np.clip(
        pixels + np.random.default_rng(1).normal(0, 5, pixels.shape), 0, 255
    ).astype(np.uint8),
    "mirrored": lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
    "rotated and saved again": lambda pixels: jpeg(np.ascontiguousarray(np.rot90(pixels)), 50),
}


@pytest.mark.parametrize("symmetry", range(8))
def test_the_hash_of_a_turned_image_needs_no_second_transform(symmetry):
    thumbs = np.random.default_rng(0).integers(0, 256, (50, 32, 32), np.uint8)
    direct = perceptual_hash(turn(thumbs, symmetry))[:, 0]
    differing = np.bitwise_count(direct ^ perceptual_hash(thumbs)[:, symmetry]).sum(axis=1)
    assert differing.max() <= 2  # a frequency that is almost absent may round to the other sign


def test_the_eight_symmetries_are_all_different_and_all_there():
    square = np.arange(9).reshape(3, 3)
    ours = {turn(square, symmetry).tobytes() for symmetry in range(8)}
    rotated = [np.rot90(base, k).tobytes() for base in (square, square.T) for k in range(4)]
    assert len(ours) == 8 and ours == set(rotated)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("pixels", [True, False])
def test_a_copy_is_found_however_it_was_changed_and_nothing_else(change, pixels):
    images = [picture(seed) for seed in range(12)]
    images += [CHANGES[change](image) for image in images[:6]]
    found = search(images, pixels)
    assert [(pair.a, pair.b) for pair in found] == [(row, row + 12) for row in range(6)]
    assert {pair.kind for pair in found} == {"near"}
    assert all(pair.turned == (change in ("mirrored", "rotated and saved again")) for pair in found)


def test_equal_files_and_equal_pixels_are_told_from_near_ones():
    one, other = picture(0), picture(1)
    images = [one, other, one, other, jpeg(other, 60)]
    found = search(images, digests=["a", "b", "a", "c", "d"])
    assert [(pair.a, pair.b, pair.kind) for pair in found] == [
        (0, 2, "bytes"),
        (1, 3, "pixels"),
        (1, 4, "near"),
    ]
    assert found[0].similarity == found[1].similarity == 1 > found[2].similarity > 0.9


def test_images_that_share_only_their_outline_and_shading_are_no_copies():
    base = picture(0, outline=False).astype(float)
    images = [np.clip(picture(seed) * 0.5 + base * 0.5, 0, 255).astype(np.uint8) for seed in (1, 2)]
    assert not search(images)


def test_blank_images_are_copies_only_where_they_are_equal():
    flat = [np.full((64, 64), grey, np.uint8) for grey in (0, 0, 1, 255)]
    assert [(pair.a, pair.b, pair.kind) for pair in search(flat)] == [(0, 1, "pixels")]
    assert not find_duplicates(thumbs_of(flat), list("abcd"))


def test_many_copies_of_a_picture_are_joined_by_one_pair_less_than_there_are():
    image = picture(3)
    images = [
        np.clip(image + np.random.default_rng(k).normal(0, 3, image.shape), 0, 255)
        for k in range(300)
    ]
    found = search([each.astype(np.uint8) for each in images])
    assert len(found) == 299
    assert set(clusters(300, found)) == {0}


def test_a_set_of_one_picture_takes_no_time_that_grows_with_its_square():
    thumbs = np.repeat(thumbs_of([picture(4)]), 20_000, axis=0)
    found = find_duplicates(thumbs, [str(row) for row in range(len(thumbs))])
    assert len(found) == len(thumbs) - 1


def test_thumbnails_may_lie_on_disk(tmp_path):
    thumbs = thumbs_of([picture(0), picture(1), picture(0)])
    np.save(tmp_path / "thumbs.npy", thumbs)
    mapped = np.load(tmp_path / "thumbs.npy", mmap_mode="r")
    assert [(pair.a, pair.b) for pair in find_duplicates(mapped, list("abc"))] == [(0, 2)]


def test_no_images_and_one_image_have_no_copies():
    assert find_duplicates(np.empty((0, 32, 32), np.uint8), []) == []
    assert find_duplicates(thumbs_of([picture(0)]), ["a"]) == []


def test_every_pair_is_compared_wherever_the_blocks_of_the_search_end(monkeypatch):
    thumbs = thumbs_of([picture(seed) for seed in range(20)])
    monkeypatch.setattr(duplicates, "_COLUMNS", 8)
    monkeypatch.setattr(duplicates, "_SPAN", 24)
    for gap in (1, 15, 16, 17, 30, 39):
        rows = list(range(20)) * 3
        rows = [*rows[:10], 10, *rows[11 : 10 + gap], 10, *rows[11 + gap :]]
        many = thumbs[rows]
        expected = clusters(len(rows), [Duplicate(a, b, "near", 1) for a, b in equal_pairs(rows)])
        found = find_duplicates(many, [str(k) for k in range(len(rows))], threads=3)
        assert (clusters(len(rows), found) == expected).all()


def equal_pairs(values):
    pairs = itertools.combinations(enumerate(values), 2)
    return [(a, b) for (a, one), (b, other) in pairs if one == other]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 12))
def test_any_thumbnails_are_searched_and_pairs_form_a_forest(seed, n):
    rng = np.random.default_rng(seed)
    thumbs = rng.integers(0, 256, (n, 32, 32), np.uint8) * rng.integers(0, 2, (n, 1, 1), np.uint8)
    thumbs = thumbs[rng.integers(0, n, n)] if n else thumbs
    found = find_duplicates(thumbs, [str(k % 5) for k in range(n)])
    assert all(0 <= pair.a < pair.b < n and -1 <= pair.similarity <= 1.0001 for pair in found)
    cluster = clusters(n, found)
    alone, together = (cluster < 0).sum(), len(set(cluster[cluster >= 0]))
    assert len(found) == n - alone - together


@settings(max_examples=30, deadline=None)
@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
def test_a_picture_that_moved_by_a_pixel_is_laid_back(right, down):
    image = Image.fromarray(picture(5, outline=False).astype(np.float32))
    box = (8.0, 8.0, 120.0, 120.0)
    moved = (8 + 1.75 * right, 8 + 1.75 * down, 120 + 1.75 * right, 120 + 1.75 * down)
    one, other = (
        np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR, b)) for b in (box, moved)
    )
    assert structure_similarity(one[None], other[None])[0] > 0.95


def test_clusters_are_numbered_by_their_first_row():
    found = [Duplicate(1, 4, "near", 0.9), Duplicate(2, 3, "near", 0.9), Duplicate(3, 5, "near", 1)]
    assert clusters(7, found).tolist() == [-1, 0, 1, 1, 0, 1, -1]
    assert clusters(0, []).tolist() == []


def test_features_that_point_the_same_way_are_copies():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((600, 16)).astype(np.float32)
    features[570] = 3 * features[20] + 0.01
    features[7] = 0
    found = embedding_duplicates(features, 0.99)
    assert [(pair.a, pair.b, pair.kind) for pair in found] == [(20, 570, "embedding")]
