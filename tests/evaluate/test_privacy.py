import numpy as np
import pytest
import torch

from vesalius.evaluate.privacy import near_copy_threshold, nearest, shortlist
from vesalius.models.lpips import LPIPS


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


def test_threshold_leaves_its_quantile_below():
    distances = np.random.default_rng(0).random(10_000)
    assert (distances < near_copy_threshold(distances, 0.01)).mean() == pytest.approx(
        0.01, abs=2e-4
    )
