import numpy as np
import pytest
from benchmarks.evaluate.planting import KINDS, WHOLE
from diffusers import AutoencoderTiny


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_copy_is_a_picture_of_the_same_size_and_no_other_file(kind):
    image = np.random.default_rng(0).integers(0, 256, (WHOLE, WHOLE, 3), dtype=np.uint8)
    before = image.copy()
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )
    copy = KINDS[kind](image, np.random.default_rng(1), vae)
    assert (copy.shape, copy.dtype) == (image.shape, image.dtype)
    assert np.array_equal(copy, image) == (kind == "same")
    np.testing.assert_array_equal(image, before)
