"""Decoders of another shape: what is taken over, and that it stays a stock AutoencoderTiny."""

import pytest
import torch
from diffusers import AutoencoderTiny
from tests.small import write_taesd

from vesalius.errors import VesaliusError
from vesalius.train.tiny import build_from, build_tiny, load_tiny, take_over

SMALL = {
    "encoder_block_out_channels": [8, 8, 8, 8],
    "decoder_block_out_channels": [8, 8, 8, 8],
    "num_encoder_blocks": [1, 1, 1, 1],
    "num_decoder_blocks": [2, 2, 2, 1],
}


def pair(**other):
    torch.manual_seed(0)
    return build_tiny(SMALL), build_tiny(SMALL | other)


def layers(model):
    """The type of each layer, in order."""
    return [type(layer).__name__ for layer in model.decoder.layers]


def test_another_number_of_blocks_takes_over_each_level_whatever_its_place():
    base, model = pair(num_decoder_blocks=[3, 2, 1, 0])
    take_over(model, base)
    old, new = base.decoder.layers, model.decoder.layers
    # by hand: first conv, activation, then of each level its blocks, an upsampling and a conv
    moved = {0: 0, 2: 2, 3: 3, 6: 5, 7: 6, 8: 7, 10: 9, 11: 10, 13: 13, 14: 15}
    assert layers(model)[4] == "AutoencoderTinyBlock"  # the one that is added
    for there, here in moved.items():
        for name, value in new[there].state_dict().items():
            assert torch.equal(value, old[here].state_dict()[name]), (there, here)
    x = torch.rand(2, 8, 4, 4)
    assert torch.equal(new[4](x), x)  # starts without effect on what an activation gives


def test_equal_shapes_are_taken_over_whole_and_other_widths_not_at_all():
    base, model = pair()
    assert take_over(model, base) == sum(p.numel() for p in base.decoder.parameters())
    z = torch.randn(1, 4, 4, 4)
    assert torch.equal(model.decode(z).sample, base.decode(z).sample)
    base, model = pair(decoder_block_out_channels=[6, 6, 6, 6])
    before = [p.clone() for p in model.decoder.parameters()]
    assert take_over(model, base) == 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.decoder.parameters(), strict=True))
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(model.encode(x).latents, base.encode(x).latents)


def test_published_weights_go_into_a_decoder_of_another_shape(tmp_path):
    torch.manual_seed(0)
    published = AutoencoderTiny()
    file = write_taesd(published, tmp_path)
    model = build_tiny({"num_decoder_blocks": [3, 3, 1, 0]})
    load_tiny(model, file)
    assert torch.equal(model.decoder.layers[-1].weight, published.decoder.layers[-1].weight)
    with pytest.raises(VesaliusError, match="no TAESD of 16 channels"):
        load_tiny(build_tiny({"latent_channels": 16}), file)
    decoder = tmp_path / "taesd_decoder.safetensors"
    decoder.write_bytes(decoder.read_bytes()[:-8])
    with pytest.raises(VesaliusError, match="get it again"):
        load_tiny(model, file)


def test_what_does_not_go_with_the_encoder_is_told(tiny_flow, tiny_sd):
    for arguments, told in (
        ({"decoder_block_out_channels": [8, 8, 4, 4]}, "all of one width"),
        ({"num_encoder_blocks": [1, 2, 1, 1]}, "only the decoder may have another shape"),
        ({"scaling_factor": 2.0}, "scaling_factor would change the latents"),
        ({"decoder_blocks": [1]}, "autoencoder.arguments"),
    ):
        with pytest.raises(VesaliusError, match=told):
            build_from(str(tiny_flow), arguments)
    with pytest.raises(VesaliusError, match="AutoencoderKL"):
        build_from(str(tiny_sd), {})
