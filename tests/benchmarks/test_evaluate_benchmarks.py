"""What the benchmarks of evaluation measure by, beside the figures of the package."""

import numpy as np
import pytest
import torch
from benchmarks.evaluate.floors import halves_fid
from benchmarks.evaluate.perceptual import nearest, shortlist

from vesalius.models.networks.lpips import LPIPS


def test_halves_come_from_one_distribution():
    x = np.random.default_rng(0).normal(size=(4000, 4))
    assert 0 <= halves_fid(x) < 0.02
    assert halves_fid(x, seed=1) == halves_fid(x, seed=1)


@pytest.fixture(scope="module")
def images():
    """Smooth random pictures, (20, 64, 64, 3) uint8."""
    coarse = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    fine = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    return fine.permute(0, 2, 3, 1).byte().numpy()


@pytest.fixture(scope="module")
def distance():
    """LPIPS with random weights: zero for equal images, which is all that is asked here."""
    torch.manual_seed(0)
    network = LPIPS("alex", pretrained=False)
    for weight in network.linear:
        weight.fill_(1.0)
    return network


def test_shortlist_is_ordered_by_cosine_and_blind_to_length():
    training = np.array([[1.0, 0], [0, 1], [1, 1], [0, 0]])
    found = shortlist(np.array([[0, 5.0], [3, 3]]), training, 2)
    assert found.tolist() == [[1, 2], [2, 0]]


def test_shortlist_of_a_small_set_holds_all_of_it():
    assert shortlist(np.eye(3), np.eye(3), 10).shape == (3, 3)


def test_copies_are_found_whatever_the_order(images, distance):
    training_features = np.random.default_rng(0).random((20, 16))
    copied = np.array([7, 3, 11])
    found = nearest(
        lambda i: images[copied[i]],
        training_features[copied],
        lambda i: images[i],
        training_features,
        size=5,
        distance=distance,
    )
    assert found.index.tolist() == copied.tolist()
    np.testing.assert_allclose(found.distance, 0, atol=1e-6)


def test_lpips_decides_within_the_shortlist(images, distance):
    # by features row 0 is the most alike, by pixels row 1 is
    training_features = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    found = nearest(
        lambda _: images[1],
        np.array([[1.0, 0.0]]),
        lambda i: images[i],
        training_features,
        size=2,
        distance=distance,
    )
    assert found.index.tolist() == [1]
