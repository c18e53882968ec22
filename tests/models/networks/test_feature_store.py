import hashlib

import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.models.networks import feature_store as store
from vesalius.models.networks.feature_store import FeatureStore, folder_name

IDENTITY = {"extractor": "timm:resnet50", "weights": "ab", "resize": "crop 224"}
KEYS = [hashlib.sha1(bytes([k])).hexdigest() for k in range(6)]
FEATURES = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def test_features_come_back_in_any_order_from_any_run(tmp_path):
    first = FeatureStore(tmp_path, IDENTITY)
    first.add(KEYS[:2], FEATURES[:2])
    first.close()
    first.add(KEYS[2:4], FEATURES[2:4])
    first.close()
    second = FeatureStore(tmp_path, IDENTITY)
    assert second.missing([*KEYS, KEYS[5]]) == [4, 5]
    np.testing.assert_array_equal(second.take([KEYS[3], KEYS[0], KEYS[3]]), FEATURES[[3, 0, 3]])


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    memory = FeatureStore(None, IDENTITY)
    memory.add(KEYS, FEATURES)
    np.testing.assert_array_equal(memory.take(KEYS[::-1]), FEATURES[::-1])
    assert not list(tmp_path.iterdir())


def test_a_full_shard_is_on_disk_before_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_BYTES", 64)
    stopped = FeatureStore(tmp_path, IDENTITY)
    stopped.add(KEYS[:5], FEATURES[:5])  # never closed: the run was killed
    assert FeatureStore(tmp_path, IDENTITY).missing(KEYS) == [5]


def test_another_network_or_resize_shares_nothing(tmp_path):
    ours = FeatureStore(tmp_path, IDENTITY)
    ours.add(KEYS, FEATURES)
    ours.close()
    for other in ({"weights": "cd"}, {"resize": "tf1 299"}, {"square": "256"}):
        assert FeatureStore(tmp_path, IDENTITY | other).missing(KEYS) == [0, 1, 2, 3, 4, 5]


def test_features_of_another_extractor_are_refused(tmp_path):
    ours = FeatureStore(tmp_path, IDENTITY)
    ours.add(KEYS, FEATURES)
    ours.close()
    other = IDENTITY | {"weights": "cd"}
    (tmp_path / folder_name(IDENTITY)).rename(tmp_path / folder_name(other))
    with pytest.raises(VesaliusError, match=r"another extractor \(weights differ\)"):
        FeatureStore(tmp_path, other)


def test_a_damaged_shard_is_told_and_computed_again(tmp_path):
    ours = FeatureStore(tmp_path, IDENTITY)
    ours.add(KEYS, FEATURES)
    ours.close()
    (path,) = (tmp_path / folder_name(IDENTITY)).glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    told: list[str] = []
    assert len(FeatureStore(tmp_path, IDENTITY, told.append).missing(KEYS)) == 6
    assert "damaged" in told[0]


def test_features_that_are_no_numbers_are_not_kept(tmp_path):
    with pytest.raises(VesaliusError, match="NaN"):
        FeatureStore(tmp_path, IDENTITY).add(KEYS[:1], np.full((1, 4), np.nan, np.float32))
    assert not list(tmp_path.iterdir())
