import numpy as np
import pytest
from PIL import Image

from vesalius.utility.views import augment, view_rng


@pytest.mark.parametrize("size", [(40, 30), (12, 40), (5, 3), (1, 1)])
def test_a_view_has_the_size_of_its_image_however_small(size):
    image = Image.new("RGB", size, "teal")
    for view in range(8):
        made = augment(image, view_rng("0" * 40, view))
        assert made.size == size
    turned = augment(image, view_rng("0" * 40, 0), "square")
    assert set(turned.size) == set(size)


def test_a_view_is_a_function_of_content_and_number():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)

    def made(key, view):
        return np.asarray(augment(image, view_rng(key, view)))

    assert (made("a1" * 20, 0) == made("a1" * 20, 0)).all()
    assert (made("a1" * 20, 0) != made("a1" * 20, 1)).any()
    assert (made("a1" * 20, 0) != made("b2" * 20, 0)).any()
