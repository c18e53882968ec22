import numpy as np
import pytest
import torch
from benchmarks.features import inception_features, read_features, resized, write_features

from vesalius.errors import VesaliusError
from vesalius.models.networks.inception import Inception


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Inception(pretrained=False)


def pictures(count: int) -> list[np.ndarray]:
    """uint8 pictures of different sizes."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + 3 * i, 50, 3), np.uint8) for i in range(count)]


def test_rows_follow_the_images_whatever_the_batch(network):
    images = pictures(3)
    whole = inception_features(iter(images), network=network, batch_size=2)
    assert whole.shape == (3, 2048)
    assert whole.dtype == np.float32
    alone = inception_features(images[2:], network=network)
    np.testing.assert_allclose(whole[2], alone[0], rtol=1e-3, atol=1e-5)


def test_no_images_give_no_rows(network):
    assert inception_features([], network=network).shape == (0, 2048)


@pytest.mark.parametrize("resize", ["bilinear", "tf1", "antialias"])
def test_each_resize_keeps_flat_colours_and_the_range(resize):
    # a flat image stays flat; 0 and 255 land on the ends of the range
    for level, low, high in [(0, -1, -1), (255, 127 / 128, 1)]:
        x = resized(np.full((70, 90, 3), level, np.uint8), resize)
        assert x.shape == (3, 299, 299)
        assert low - 1e-5 <= float(x.min()) <= float(x.max()) <= high + 1e-5


def test_only_antialias_sees_every_pixel():
    # one white pixel in four, at the corner of each 2 x 2 block
    image = np.zeros((598, 598, 3), np.uint8)
    image[::2, ::2] = 255
    grey = (255 / 4 - 128) / 128
    np.testing.assert_allclose(resized(image, "antialias")[:, 9:-9, 9:-9].numpy(), grey, atol=0.02)
    np.testing.assert_allclose(resized(image, "tf1").numpy(), 127 / 128, atol=1e-5)


def test_tf1_samples_from_the_corner_and_holds_the_edge():
    # a ramp of half its size: output i reads position i / 2, the last one past the last pixel
    ramp = np.zeros((150, 150, 3), np.uint8)
    ramp += np.arange(150, dtype=np.uint8)[None, :, None]
    expected = np.minimum(np.arange(299) * 150 / 299, 149)
    np.testing.assert_allclose(resized(ramp, "tf1")[0, 0] * 128 + 128, expected, atol=1e-3)


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), "u1")],
)
def test_only_uint8_rgb_is_taken(image, network):
    with pytest.raises(VesaliusError, match="uint8"):
        inception_features([image], network=network)


def test_unknown_resize_is_named():
    with pytest.raises(VesaliusError, match="nearest"):
        resized(np.zeros((8, 8, 3), np.uint8), "nearest")  # pyright: ignore[reportArgumentType]


def test_stored_features_come_back(tmp_path):
    features = np.random.default_rng(0).random((3, 5), np.float32)
    write_features(tmp_path / "new" / "a.safetensors", features=features.T, row=np.arange(5))
    found = read_features(tmp_path / "new" / "a.safetensors")
    np.testing.assert_array_equal(found["features"], features.T)
    assert found["row"].tolist() == [0, 1, 2, 3, 4]


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(VesaliusError, match="compute them first"):
        read_features(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("not safetensors at all")
    with pytest.raises(VesaliusError, match="not a safetensors"):
        read_features(tmp_path / "text.safetensors")
