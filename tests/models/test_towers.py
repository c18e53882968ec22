"""Text and image encoder side by side: CLIP's own are CLIP's, timm's are read and refused rightly."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize

from vesalius.errors import VesaliusError
from vesalius.models.generator import load_generator
from vesalius.models.text import tokenize_prompts
from vesalius.models.text_encoder import load_text_encoder
from vesalius.models.towers import clip_towers, timm_towers

PROMPTS = ["lung", "a nodule of the lung"]


@pytest.fixture(scope="module")
def clip(tiny_clip):
    return load_text_encoder(str(tiny_clip), 16)


def pixels(count=2):
    draw = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, 32, 32), generator=draw, dtype=torch.uint8)


@torch.no_grad()
def test_a_clip_s_towers_give_the_cosines_of_the_whole_clip(tiny_clip, clip):
    from transformers import CLIPModel
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    tokenizer, encoder = clip
    towers = clip_towers(encoder, str(tiny_clip), 32).eval()
    inputs = tokenize_prompts(tokenizer, PROMPTS)
    text, image, _ = towers(inputs.input_ids.int(), inputs.attention_mask.bool(), pixels())
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    whole = CLIPModel.from_pretrained(tiny_clip)
    theirs = whole(**inputs, pixel_values=(pixels() / 255 - mean) / std)
    cosines = theirs.logits_per_image / whole.logit_scale.exp()
    torch.testing.assert_close(image @ text.T, cosines, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("folder", ["tiny_sd", "tiny_flow"])
def test_a_caption_is_the_mean_of_its_states_without_the_padding(folder, request):
    parts = load_generator(request.getfixturevalue(folder), "cpu", "float32")
    tokenizer, encoder = parts.tokenizer, parts.text_encoder
    towers = timm_towers(encoder, "test_convnext", None, 32, 6).eval()
    inputs = tokenize_prompts(tokenizer, PROMPTS)
    text, image, scale = towers(inputs.input_ids, inputs.attention_mask.bool(), pixels())
    states = encoder(**inputs).last_hidden_state
    for row, count in enumerate(inputs.attention_mask.sum(1).tolist()):
        mean = towers.text_projection(states[row, :count].mean(0))
        torch.testing.assert_close(text[row], normalize(mean, dim=0))
    torch.testing.assert_close(image.norm(dim=1), torch.ones(2))
    assert scale.item() == pytest.approx(1 / 0.07)


def test_the_temperature_stays_within_bounds(clip):
    towers = timm_towers(clip[1], "test_convnext", None, 32, 6)
    towers.log_scale.data.fill_(9)
    towers.limit_scale()
    assert towers.log_scale.exp().item() == pytest.approx(100, rel=1e-5)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_weights_of_timm_are_read_without_their_classifier(clip, name, tmp_path):
    sized = {"img_size": 32} if name == "test_vit" else {}
    network = timm.create_model(name, num_classes=5, **sized)
    path = tmp_path / "model.safetensors"
    save_file(network.state_dict(), path)
    towers = timm_towers(clip[1], name, str(path), 32, 6)
    ours = dict(towers.image_encoder.named_parameters())
    assert ours
    theirs = network.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    before = {key: value.clone() for key, value in towers.named_buffers()}
    towers.train()(torch.ones(2, 4).long(), torch.ones(2, 4).bool(), pixels())
    assert all(torch.equal(value, before[key]) for key, value in towers.named_buffers())


def test_image_encoders_that_cannot_be_used_are_told(clip, tiny_flow, tmp_path):
    encoder = clip[1]
    for name, weights, told in (
        ("convnext_attu", None, "did you mean convnext_atto"),
        ("test_resnet", None, "batch normalisation"),
        ("test_convnext", str(tmp_path / "none.safetensors"), "do not fit test_convnext"),
    ):
        with pytest.raises(VesaliusError, match=told):
            timm_towers(encoder, name, weights, 32, 6)
    with pytest.raises(VesaliusError, match="not a whole CLIP"):
        clip_towers(encoder, str(tiny_flow / "text_encoder"), 32)


def test_a_clip_s_images_have_its_own_size(tiny_clip, clip):
    with pytest.raises(VesaliusError, match="set size=32"):
        clip_towers(clip[1], str(tiny_clip), 64)
