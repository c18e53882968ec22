"""Features of a frozen network: taken once, the same to the bit whenever they are taken."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from safetensors.torch import save_file

from vesalius.errors import VesaliusError
from vesalius.images.pixels import open_rgb
from vesalius.models.networks.extractors import Extractor, find_extractor
from vesalius.pairs.table import read_pairs
from vesalius.train import image_inputs
from vesalius.train.image_inputs import Features, cached_features
from vesalius.train.session import Session

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "weights.safetensors"
    save_file(timm.create_model("test_convnext").state_dict(), path)
    return find_extractor(f"timm:test_convnext={path}")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(image_inputs, "BLOCK", 4)


def unloadable(extractor):
    def load():
        raise AssertionError("the network is not needed")

    return Extractor(**{**vars(extractor), "load": load, "_network": None})


def test_features_are_those_of_the_network_and_taken_once(extractor, tiny_pairs, tmp_path):
    pairs = read_pairs(tiny_pairs)
    rows = [7, 2, 2, 30]
    found = cached_features(pairs, rows, extractor, tmp_path, Session())
    for row, features in zip(rows, found, strict=True):
        image = np.asarray(open_rgb(pairs.encoded(row)))
        from_file = extractor.view.batch([extractor.view.prepare(image)])
        np.testing.assert_allclose(features, extractor(from_file)[0], rtol=1e-4, atol=1e-5)
    again = cached_features(pairs, rows[::-1], unloadable(extractor), tmp_path, Session())
    np.testing.assert_array_equal(again, found[::-1])


def test_a_stopped_run_has_the_features_of_one_that_was_not(
    extractor, tiny_pairs, tmp_path, monkeypatch
):
    pairs, rows = read_pairs(tiny_pairs), list(range(20))
    whole = cached_features(pairs, rows, extractor, tmp_path / "whole", Session())
    calls = []

    def stopped(pixels):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(pixels))
        return extractor(pixels)

    monkeypatch.setattr("vesalius.core.tensor_store.SHARD_SECONDS", -1)  # each block at once
    part = Extractor(**vars(extractor))
    part.__class__ = type("Stopping", (Extractor,), {"__call__": lambda self, x: stopped(x)})
    with pytest.raises(KeyboardInterrupt):
        cached_features(pairs, rows, part, tmp_path / "twice", Session())
    assert calls == [4, 4]
    resumed = cached_features(pairs, rows, extractor, tmp_path / "twice", Session())
    np.testing.assert_array_equal(resumed, whole)


def test_training_rows_decide_what_is_usual(extractor, tiny_pairs):
    pairs = read_pairs(tiny_pairs)
    train, held_out = list(range(0, 40, 2)), [41, 43]
    features = Features(pairs, extractor, train, held_out, None, Session())
    seen = features.whole(train)
    assert seen.shape == (20, features.dims)
    torch.testing.assert_close(seen.mean(0), torch.zeros(features.dims), atol=1e-4, rtol=0)
    deviation = seen.std(0, unbiased=False)
    assert ((deviation - 1).abs() < 1e-3).logical_or(deviation == 0).all()
    draw = torch.Generator()
    assert torch.equal(features.drawn([43, 0], draw), features.whole([43, 0]))
    assert not torch.equal(features.whole([43]), features.whole([41]))


def test_a_table_without_hashes_is_told(extractor, tiny_pairs, tmp_path):
    table = pq.read_table(tiny_pairs)
    index = table.column_names.index("sha1")
    blank = pa.array([None] * len(table), pa.string())
    pq.write_table(table.set_column(index, "sha1", blank), tmp_path / "pairs.parquet")
    pairs = read_pairs(tmp_path / "pairs.parquet")
    with pytest.raises(VesaliusError, match="without sha1"):
        cached_features(pairs, [0], extractor, None, Session())
