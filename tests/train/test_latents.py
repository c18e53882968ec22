import copy
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from vesalius.errors import VesaliusError
from vesalius.models.generator import load_generator
from vesalius.models.text import encode_prompts
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.train.latents import CacheSettings, Encoders, cached_latents, turn
from vesalius.train.session import Session


@pytest.fixture(scope="module")
def parts(tiny_flow):
    return load_generator(tiny_flow, "cpu", "float32")


def cache(parts, pairs, folder, views=1, size=32, told=None, **options):
    """The cache, after saying in `told` how many images were encoded and every message."""
    done = [0]
    encoders = Encoders(parts.vae, parts.tokenizer, parts.text_encoder)
    session = Session(
        progress=lambda what: nullcontext(lambda count, total: done.append(count)),
        on_message=told.append if told is not None else lambda message: None,
    )
    settings = CacheSettings(size, views, **options)
    latents = cached_latents(pairs, encoders, settings, folder, session)
    if told is not None:
        told.append(done[-1])
    return latents


def edited(path, out, rows=None, **columns):
    """The pairs table at `path` with some rows alone, or other columns, written to `out`."""
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table if rows is None else table.take(rows), out)
    return read_pairs(out)


def changed(module):
    """The same network with other weights."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    return other


def test_latents_are_the_encoders_and_captions_their_own(parts, tiny_pairs, tmp_path):
    pairs = read_pairs(tiny_pairs)
    latents = cache(parts, pairs, tmp_path)
    row = torch.tensor([7])
    image = torch.from_numpy(pairs.image(7, 32).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = parts.vae.encode(image).latents
    drawn = latents.sample(row, torch.Generator().manual_seed(0)) / latents.scaling_factor
    torch.testing.assert_close(drawn, expected, atol=2e-3, rtol=2e-3)  # stored in half
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


def test_held_out_rows_that_nothing_reads_are_not_encoded(parts, tiny_pairs, tmp_path):
    pairs, told = read_pairs(tiny_pairs), []
    some, train = pairs.rows("val")[1:3], pairs.rows("train")
    every = cache(parts, pairs, tmp_path / "every", views=4)
    few = cache(parts, pairs, tmp_path / "few", views=4, told=told, held_out=frozenset(some))
    unread = sorted({*pairs.rows("val")} - {*some})
    assert told[-1] == int(every.views.sum()) - len(unread)
    rows = torch.tensor([*train, *some])
    draws = [one.sample(rows, torch.Generator().manual_seed(0)) for one in (every, few)]
    torch.testing.assert_close(*draws, atol=2e-3, rtol=2e-3)  # of other batches
    with pytest.raises(IndexError):
        few.sample(torch.tensor(unread[:1]), torch.Generator())
    told.clear()
    cache(parts, pairs, tmp_path / "few", views=4, told=told)
    assert told[-1] == len(unread)  # asked for later, they are encoded then


def test_hits_are_told_and_nothing_is_encoded_twice(parts, tiny_pairs, tmp_path):
    pairs, told = read_pairs(tiny_pairs), []
    captions = len(set(pairs.column("caption")))
    one = cache(parts, pairs, tmp_path, told=told)
    none = f"latents: 0 of 50 images and 0 of {captions} captions from the cache"
    assert told == [none, 50]
    told.clear()
    two = cache(parts, pairs, tmp_path, told=told)
    every = f"latents: 50 of 50 images and {captions} of {captions} captions from the cache"
    assert told == [every, 0]
    assert one.scaling_factor == two.scaling_factor


def test_only_what_is_new_in_a_table_is_encoded(parts, tiny_pairs, tmp_path):
    pairs, told = read_pairs(tiny_pairs), []
    cache(parts, edited(tiny_pairs, tmp_path / "part", rows=list(range(10, 40))), tmp_path)
    cache(parts, pairs, tmp_path, told=told)
    assert told[0].startswith("latents: 30 of 50 images")
    assert told[-1] == 20
    told.clear()
    captions = [f"lung {k % 3}" for k in range(50)]
    rewritten = edited(tiny_pairs, tmp_path / "rewritten", caption=captions)
    latents = cache(parts, rewritten, tmp_path, told=told)
    assert told == ["latents: 50 of 50 images and 0 of 3 captions from the cache", 0]
    assert latents.caption.tolist() == [k % 3 for k in range(50)]


def test_another_model_rebuilds_only_its_own_part(parts, tiny_pairs, tmp_path):
    pairs, told = read_pairs(tiny_pairs), []
    captions = len(set(pairs.column("caption")))
    cache(parts, pairs, tmp_path)
    parts = replace(parts, vae=changed(parts.vae))
    cache(parts, pairs, tmp_path, told=told)
    assert told == [
        f"latents: {tmp_path / 'images'} was made with another autoencoder; it is made anew",
        f"latents: 0 of 50 images and {captions} of {captions} captions from the cache",
        50,
    ]
    told.clear()
    parts = replace(parts, text_encoder=changed(parts.text_encoder))
    cache(parts, pairs, tmp_path, told=told)
    assert told == [
        f"latents: {tmp_path / 'text'} was made with another text encoder; it is made anew",
        f"latents: 50 of 50 images and 0 of {captions} captions from the cache",
        0,
    ]
    told.clear()
    cache(parts, pairs, tmp_path, size=48, told=told)
    assert "another image size" in told[0]
    told.clear()
    tokenizer = copy.deepcopy(parts.tokenizer)
    tokenizer.model_max_length = 8
    cache(replace(parts, tokenizer=tokenizer), pairs, tmp_path, size=48, told=told)
    assert "another token window" in told[0]


def test_captions_in_chunks_are_states_of_their_own(parts, tiny_pairs, tmp_path):
    pairs, told = read_pairs(tiny_pairs), []
    one = cache(parts, pairs, tmp_path)
    two = cache(parts, pairs, tmp_path, chunks=2, told=told)
    text = f"latents: {tmp_path / 'text'} was made with another caption chunks; it is made anew"
    assert told[0] == text and told[-1] == 0
    assert two.text_states[torch.tensor([0])].shape == (1, 32, 8)
    assert two.empty_state.shape == (32, 8)
    row, kept = torch.tensor([7]), torch.tensor([False])
    torch.testing.assert_close(two.text(row, kept)[:, :16], one.text(row, kept))
    told.clear()
    cache(parts, pairs, tmp_path, chunks=2, told=told)
    assert told[0].count(" of ") == 2 and told[-1] == 0
    told.clear()
    cache(parts, pairs, tmp_path, told=told)
    assert told[0] == text  # back again: states of two windows are never read as those of one


def test_a_pooler_drawn_anew_at_each_loading_keeps_the_captions(parts, tiny_pairs, tmp_path):
    pairs, told = read_pairs(tiny_pairs), []
    cache(parts, pairs, tmp_path)
    encoder = copy.deepcopy(parts.text_encoder)
    encoder.pooler = changed(encoder.pooler)
    cache(replace(parts, text_encoder=encoder), pairs, tmp_path, told=told)
    assert len(told) == 2 and told[-1] == 0


def test_batches_are_the_same_to_the_bit_whatever_the_shards(parts, tiny_sd, tiny_pairs, tmp_path):
    pairs = read_pairs(tiny_pairs)
    rows = torch.tensor([49, 3, 3, 20, 0, 31])
    dropped = torch.tensor([True, False, False, False, True, False])
    for name, some in (("point", parts), ("posterior", load_generator(tiny_sd, "cpu", "float32"))):
        batches = []
        for shard_bytes in (1, 2000, 10**9):
            folder = tmp_path / name / str(shard_bytes)
            latents = cache(some, pairs, folder, views=4, shard_bytes=shard_bytes)
            x = latents.sample(rows, torch.Generator().manual_seed(5))
            batches.append((x, latents.text(rows, dropped), latents.scaling_factor))
            assert (latents.std is not None) == (name == "posterior")
        for x, text, factor in batches[1:]:
            assert torch.equal(x, batches[0][0])
            assert torch.equal(text, batches[0][1])
            assert factor == batches[0][2]


def test_the_scaling_factor_is_of_the_training_rows(parts, tiny_pairs, tmp_path):
    pairs = read_pairs(tiny_pairs)
    latents = cache(parts, pairs, tmp_path, views=2)
    train = latents.mean[latents.first[pairs.rows("train")]].double()
    assert latents.scaling_factor == pytest.approx(1 / train.std().item(), rel=1e-12)
    (tmp_path / "images" / "scaling.json").write_text("{")  # damaged: computed again
    assert cache(parts, pairs, tmp_path, views=2).scaling_factor == latents.scaling_factor
    splits = ["train"] * 10 + ["val"] * 40
    other = edited(tiny_pairs, tmp_path / "other", split=splits)
    few = latents.mean[latents.first[:10]].double()
    assert cache(parts, other, tmp_path, views=2).scaling_factor == pytest.approx(
        1 / few.std().item(), rel=1e-12
    )


def test_an_image_that_fails_leaves_the_finished_ones_in_the_cache(
    parts, tiny_pairs, tmp_path, monkeypatch
):
    pairs, told, whole = read_pairs(tiny_pairs), [], Pairs.image

    def image(self, index, size):
        if index == 20:
            raise VesaliusError("an image cannot be read")
        return whole(self, index, size)

    with monkeypatch.context() as patch:
        patch.setattr(Pairs, "image", image)
        with pytest.raises(VesaliusError, match="cannot be read"):
            cache(parts, pairs, tmp_path)
    cache(parts, pairs, tmp_path, told=told)
    assert told[0].startswith("latents: 16 of 50 images")
    assert told[-1] == 34


def test_tables_that_latents_cannot_be_made_of_are_told(parts, tiny_pairs, tmp_path):
    pairs = read_pairs(tiny_pairs)
    hashes = [None if row == 4 else sha1 for row, sha1 in enumerate(pairs.column("sha1"))]
    with pytest.raises(VesaliusError, match="row 4 of the pairs table has no sha1"):
        cache(parts, edited(tiny_pairs, tmp_path / "nameless", sha1=hashes), tmp_path)
    with pytest.raises(VesaliusError, match="no rows in the split train"):
        cache(parts, edited(tiny_pairs, tmp_path / "val", rows=pairs.rows("val")), tmp_path)
    one_image = np.zeros((32, 32, 3), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pairs, "image", lambda self, index, size: one_image)
        constant = copy.deepcopy(parts.vae)
        for parameter in constant.encoder.parameters():
            parameter.data.zero_()
        with pytest.raises(VesaliusError, match="do not vary"):
            cache(replace(parts, vae=constant), pairs, tmp_path)


@pytest.mark.gpu
def test_latents_on_a_gpu_are_those_on_disk(parts, tiny_pairs, tmp_path):
    latents = cache(parts, read_pairs(tiny_pairs), tmp_path, views=4, shard_bytes=1)
    held, rows = latents.to("cuda"), torch.tensor([49, 3, 3, 20])
    kept = torch.zeros(4, dtype=torch.bool)
    assert isinstance(held.mean, torch.Tensor) and isinstance(held.text_states, torch.Tensor)
    chosen = latents.first[rows]
    assert torch.equal(held.mean[chosen.cuda()].cpu(), latents.mean[chosen])
    assert torch.equal(held.text(rows.cuda(), kept.cuda()).cpu(), latents.text(rows, kept))
    assert held.sample(rows.cuda(), torch.Generator("cuda")).shape == (4, 4, 4, 4)


def test_only_symmetric_training_rows_get_views(parts, tiny_pairs, tmp_path):
    pairs = read_pairs(tiny_pairs)
    latents = cache(parts, pairs, tmp_path, views=8)
    sources, splits = pairs.column("source"), pairs.column("split")
    for row, count in enumerate(latents.views.tolist()):
        assert count == (8 if (sources[row], splits[row]) == ("lungs", "train") else 1)
    assert len(latents.mean) == latents.views.sum() == latents.first[-1] + latents.views[-1]


def test_the_eight_turns_are_the_square_s_symmetries():
    image = torch.arange(9).view(1, 3, 3)
    views = {tuple(turn(image, k).flatten().tolist()) for k in range(8)}
    assert len(views) == 8
    assert torch.equal(turn(image, 0), image)


def test_the_views_of_an_image_are_decoded_once(parts, tiny_pairs, tmp_path, monkeypatch):
    rows = list(range(6))
    edited(tiny_pairs, tmp_path / "few.parquet", rows)
    square = {"split": ["train"] * len(rows), "symmetry": ["square"] * len(rows)}
    pairs = edited(tmp_path / "few.parquet", tmp_path / "square.parquet", **square)
    asked = []
    image = Pairs.image

    def counting(self, index, size):
        asked.append(index)
        return image(self, index, size)

    monkeypatch.setattr(Pairs, "image", counting)
    latents = cache(parts, pairs, tmp_path / "cache", views=8)
    assert len(latents.mean) == 8 * len(rows)
    assert sorted(asked) == rows  # a batch is of eight, all of them one image's
