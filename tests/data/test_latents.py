import json

import pytest
import torch

from vesalius.data.latents import cached_latents, turn
from vesalius.data.pairs import read_pairs
from vesalius.models.generator import load_generator
from vesalius.models.text import encode_prompts


@pytest.fixture(scope="module")
def parts(tiny_flow):
    return load_generator(tiny_flow, "cpu", "float32")


def cache(parts, pairs, folder, views=1, told=None):
    return cached_latents(
        pairs,
        parts.vae,
        parts.tokenizer,
        parts.text_encoder,
        32,
        folder,
        views,
        (lambda done, total: told.append((done, total))) if told is not None else lambda *_: None,
    )


def test_latents_are_the_encoders_and_captions_their_own(parts, tiny_pairs, tmp_path):
    pairs = read_pairs(tiny_pairs)
    latents = cache(parts, pairs, tmp_path / "cache")
    row = torch.tensor([7])
    image = torch.from_numpy(pairs.image(7, 32).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = parts.vae.encode(image).latents.float()
    drawn = latents.sample(row, torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        drawn, expected * latents.scaling_factor, atol=0.05, rtol=0.05
    )  # bfloat16, another batch
    states = encode_prompts(parts.tokenizer, parts.text_encoder, [pairs.column("caption")[7], ""])
    kept, dropped = (
        latents.text(row, torch.tensor([False])),
        latents.text(row, torch.tensor([True])),
    )
    torch.testing.assert_close(kept[0], states[0], atol=2e-3, rtol=2e-3)  # stored in half
    torch.testing.assert_close(dropped[0], states[1], atol=2e-3, rtol=2e-3)
    assert latents.mean[
        latents.first[pairs.rows("train")]
    ].float().std() * latents.scaling_factor == pytest.approx(1)


def test_a_cache_is_read_when_fresh_and_rebuilt_when_stale(parts, tiny_pairs, tmp_path):
    pairs, told = read_pairs(tiny_pairs), []
    cache(parts, pairs, tmp_path / "cache", told=told)
    assert told[-1] == (50, 50)
    told.clear()
    cache(parts, pairs, tmp_path / "cache", told=told)
    assert told == []
    stored = tmp_path / "cache" / "fingerprint.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"models": "another"}))
    cache(parts, pairs, tmp_path / "cache", told=told)
    assert told[-1] == (50, 50)


def test_only_symmetric_training_rows_get_views(parts, tiny_pairs, tmp_path):
    pairs = read_pairs(tiny_pairs)
    latents = cache(parts, pairs, tmp_path / "cache", views=8)
    sources, splits = pairs.column("source"), pairs.column("split")
    for row, count in enumerate(latents.views.tolist()):
        assert count == (8 if (sources[row], splits[row]) == ("lungs", "train") else 1)
    assert len(latents.mean) == latents.views.sum() == latents.first[-1] + latents.views[-1]


def test_the_eight_turns_are_the_square_s_symmetries():
    image = torch.arange(9).view(1, 3, 3)
    views = {tuple(turn(image, k).flatten().tolist()) for k in range(8)}
    assert len(views) == 8
    assert torch.equal(turn(image, 0), image)
