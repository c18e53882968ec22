import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from torch import nn

from vesalius.errors import VesaliusError
from vesalius.models.networks.extractors import Extractor
from vesalius.models.networks.features import ahead, extract, folder_name
from vesalius.models.networks.resize import View
from vesalius.pairs.open_images import open_images


class Mean(nn.Module):
    """Channel means, and a note of how many images it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return x.mean((2, 3))


def extractor(name: str = "mean", way: str = "squash", side: int = 8) -> tuple[Extractor, Mean]:
    network = Mean()
    view = View(way, side)  # pyright: ignore[reportArgumentType]
    return Extractor(name, view, (0.0,) * 3, (1.0,) * 3, 3, "0" * 16, lambda: network), network


@pytest.fixture
def folder(tmp_path):
    """Class folders with five flat pictures, grey levels 0, 20, ..., 80."""
    path = tmp_path / "set" / "cells"
    path.mkdir(parents=True)
    for k in range(5):
        Image.new("RGB", (20 + k, 20), (20 * k,) * 3).save(path / f"{k}.png")
    return path.parent


def test_one_pass_serves_every_network_and_the_store_the_next_run(folder, tmp_path, monkeypatch):
    from vesalius.models.networks import features

    opened = []
    real = features.open_rgb
    monkeypatch.setattr(features, "open_rgb", lambda data: opened.append(1) or real(data))
    (a, net_a), (b, net_b) = extractor("a"), extractor("b", "bilinear", 16)
    images = open_images(folder)
    found = extract(images, [a, b], tmp_path / "store", batch_size=2)
    assert found.rows.tolist() == [0, 1, 2, 3, 4]
    for values in found.features.values():
        np.testing.assert_allclose(values[:, 0], [0, 20, 40, 60, 80], atol=1e-3)
    assert len(opened) == 5 and net_a.seen == net_b.seen == 5
    # a new picture and a new network: only what is missing is computed
    Image.new("RGB", (20, 20), (99, 99, 99)).save(folder / "cells" / "9.png")
    (a, net_a), (c, net_c) = extractor("a"), extractor("c")
    done = []
    found = extract(
        open_images(folder), [a, c], tmp_path / "store", on_images=lambda *x: done.append(x)
    )
    assert net_a.seen == 1 and net_c.seen == 6 and len(opened) == 11
    assert done[-1] == (6, 6)
    np.testing.assert_allclose(found.features["a"][:, 1], [0, 20, 40, 60, 80, 99], atol=1e-3)


def test_equal_images_are_computed_once(folder):
    (folder / "cells" / "copy.png").write_bytes((folder / "cells" / "3.png").read_bytes())
    one, network = extractor()
    found = extract(open_images(folder), [one])
    assert network.seen == 5
    assert found.features["mean"].shape == (6, 3)
    assert "1 images repeat another" in " ".join(found.survey.warnings())


def test_unreadable_images_are_left_out_and_told(folder, tmp_path):
    whole = (folder / "cells" / "1.png").read_bytes()
    (folder / "cells" / "1.png").write_bytes(whole[:60])  # its header is sound
    (folder / "cells" / "2.png").write_bytes(b"no image")
    for _ in range(2):  # the second time from the store
        one, _network = extractor()
        found = extract(open_images(folder), [one], tmp_path / "store")
        assert found.rows.tolist() == [0, 3, 4]
        np.testing.assert_allclose(found.features["mean"][:, 0], [0, 60, 80], atol=1e-3)
        assert set(found.survey.unreadable) == {1, 2}
        assert "2 of 5 images cannot be read" in found.survey.warnings()[0]


def test_a_square_is_another_view_of_the_image(tmp_path):
    path = tmp_path / "set"
    path.mkdir()
    half = Image.new("RGB", (60, 20))
    half.paste((240, 240, 240), (0, 0, 20, 20))  # white outside of the centre
    half.save(path / "a.png")
    (one, _), store = extractor(), tmp_path / "store"
    whole = extract(open_images(path), [one], store).features["mean"]
    centre = extract(open_images(path), [one], store, side=20).features["mean"]
    assert whole[0, 0] == pytest.approx(80, abs=8)
    assert centre[0, 0] == pytest.approx(0, abs=1)


def test_a_set_without_a_readable_image_gives_no_rows(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    one, _ = extractor()
    found = extract(open_images(tmp_path), [one])
    assert found.features["mean"].shape == (0, 3)


def test_work_ahead_is_bounded_and_in_order():
    with ThreadPoolExecutor(2) as pool:
        begun = []
        stream = ahead(pool, lambda k: begun.append(k) or 2 * k, range(100), 4)
        assert [next(stream), next(stream)] == [(0, 0), (1, 2)]
        assert len(begun) <= 6
        assert list(stream)[-1] == (99, 198)


IDENTITY = {"extractor": "timm:resnet50", "weights": "ab", "resize": "crop 224"}


def test_another_network_or_resize_shares_nothing():
    others = ({"weights": "cd"}, {"resize": "tf1 299"}, {"square": "256"})
    names = {folder_name(IDENTITY), *(folder_name(IDENTITY | other) for other in others)}
    assert len(names) == 4
    assert folder_name(IDENTITY).startswith("timm-resnet50-")


def test_features_of_earlier_versions_are_found(folder, tmp_path):
    keys = [hashlib.sha1((folder / "cells" / f"{k}.png").read_bytes()).digest() for k in range(5)]
    kept = np.arange(15, dtype=np.float32).reshape(5, 3)
    one, network = extractor()
    shard = tmp_path / folder_name(one.identity) / "0a1b.safetensors"
    shard.parent.mkdir()
    key = np.frombuffer(b"".join(keys), np.uint8).reshape(5, 20)
    save_file({"key": key, "features": kept}, shard, one.identity)
    found = extract(open_images(folder), [one], tmp_path)
    np.testing.assert_array_equal(found.features["mean"], kept)
    assert network.seen == 0


def test_features_that_are_no_numbers_are_not_kept(folder, tmp_path):
    one, network = extractor()
    network.forward = lambda x: x.mean((2, 3)) * np.nan
    with pytest.raises(VesaliusError, match="mean gave NaN"):
        extract(open_images(folder), [one], tmp_path)
    assert not list(tmp_path.glob("mean*/*"))
