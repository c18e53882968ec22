"""Image-to-image: an image is started from as far as was said, and leaves its name."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from vesalius.core.manifest import file_sha256
from vesalius.errors import VesaliusError
from vesalius.sample.start import Start, read_start

HEALTHY, ILL = "a chest x-ray", "lung nodule"


def arrays(samples):
    return [np.asarray(sample.image).astype(int) for sample in samples]


def test_an_image_is_fitted_to_what_is_drawn(texture):
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, 45:55] = 255
    fitted = Start(Image.fromarray(wide)).fitted((32, 32))
    assert fitted.shape == (32, 32, 3)
    assert fitted[16, 16].min() > 200  # the centre is the centre
    assert fitted[16, 0].max() < 50  # and keeps its proportions: the bar has not become broad
    same = texture(32, 48, 3)
    assert np.array_equal(Start(Image.fromarray(same)).fitted((48, 32)), same)


def test_strength_decides_how_far_an_image_changes(each_kind, texture, saved):
    file = saved("image.png", texture(40, 60, 3))
    results = {}
    for strength in (0.0, 0.5, 1.0):
        [sample] = each_kind.generate(ILL, seed=3, start=read_start(file, strength))
        results[strength] = arrays([sample])[0]
        assert sample.provenance["start_image"] == file_sha256(file)
        assert sample.provenance["strength"] == strength
        assert sample.image.size == (32, 32)
    assert np.abs(results[0.5] - results[0.0]).max() > 1
    assert np.abs(results[1.0] - results[0.5]).max() > 1
    # what a strength of 0 gives is what the autoencoder makes of the image, and no noise enters
    again = each_kind.generate(HEALTHY, seed=4, start=read_start(file, 0.0))
    assert np.array_equal(arrays(again)[0], results[0.0])


def test_an_image_that_is_started_from_has_no_say_in_its_neighbours(flow, texture, saved):
    starts = [read_start(saved(f"{k}.png", texture(32 + k, 32, 3)), 0.5) for k in range(2)]
    requests = [flow.request(ILL, k, start=start) for k, start in enumerate((*starts, None))]
    together = arrays(flow.draw(requests, batch_size=3))
    for request, image in zip(requests, together, strict=True):
        assert np.abs(arrays(flow.draw([request]))[0] - image).max() <= 1
    assert "strength" not in list(flow.draw(requests))[2].provenance


def test_what_cannot_be_started_from_is_told(flow, tmp_path):
    for strength in (-0.1, 1.5, float("nan")):
        with pytest.raises(VesaliusError, match=r"strength is .* between 0 and 1"):
            read_start(b"", strength)
    with pytest.raises(VesaliusError, match=r"gone\.png cannot be read"):
        read_start(tmp_path / "gone.png")
    with pytest.raises(VesaliusError, match="not an image file"):
        read_start(b"text")
    start = Start(Image.new("RGB", (32, 32)), 1.0, np.ones((32, 48), bool))
    with pytest.raises(VesaliusError, match="mask is 48x32 and the image to draw 32x32"):
        flow.request(ILL, 0, start=start)


def test_the_sha256_of_an_image_is_that_of_its_file(texture):
    stream = io.BytesIO()
    Image.fromarray(texture(32, 32, 3)).save(stream, "PNG")
    data = stream.getvalue()
    assert read_start(data, 0.5).origin["start_image"] == hashlib.sha256(data).hexdigest()
