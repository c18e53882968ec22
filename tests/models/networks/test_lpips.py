import pytest
import torch
from torch import nn

from vesalius.errors import VesaliusError
from vesalius.models.networks import weights
from vesalius.models.networks.lpips import LPIPS, Network


def pretrained(network: Network) -> LPIPS:
    """LPIPS with the authors' weights; skips the test where they have not been converted."""
    try:
        return LPIPS(network)
    except VesaliusError as error:
        pytest.skip(str(error))


def stripes() -> torch.Tensor:
    """Three pictures (3, 3, 64, 64) in [-1, 1] that any machine makes alike."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    pictures = [torch.sin(x / 3), torch.sin(y / 5), torch.sin((x + y) / 7)]
    return torch.stack(pictures)[:, None].expand(3, 3, 64, 64) * torch.tensor(
        [1.0, 0.5, -0.5]
    ).view(3, 1, 1)


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_one_distance_a_pair_and_none_to_itself(network):
    torch.manual_seed(0)
    model = LPIPS(network, pretrained=False)
    for weight in model.linear:
        weight.fill_(1.0)
    x = stripes()
    assert model(x, x).tolist() == [0, 0, 0]
    distances = model(x, x.flip(0))
    assert distances.shape == (3,)
    assert distances[0] > 0
    torch.testing.assert_close(distances, model(x.flip(0), x))
    torch.testing.assert_close(model(x[:1], x.flip(0))[0], distances[0])


def test_flat_images_give_finite_gradients():
    # a constant black image makes whole activation maps zero, where a norm has no derivative
    torch.manual_seed(0)
    model = LPIPS("alex", pretrained=False)
    for weight in model.linear:
        weight.fill_(1.0)
    x = torch.full((1, 3, 64, 64), -1.0, requires_grad=True)
    model(x, torch.zeros(1, 3, 64, 64)).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("VESALIUS_WEIGHTS", str(tmp_path))
    with pytest.raises(VesaliusError, match="vesalius info --get lpips"):
        LPIPS("alex")
    with pytest.raises(VesaliusError, match="choose from"):
        weights.find("no such network")


# The values agree with the package lpips 0.1.4 to 1e-6; the same weights give its documented
# 0.7219 and 0.1376 (AlexNet) for its example images.
@pytest.mark.parametrize(
    ("network", "expected"),
    [("alex", [0.36189, 0.51113, 0.35514]), ("vgg", [0.64301, 0.7019, 0.64416])],
)
def test_pinned_values(network, expected):
    x = stripes()
    found = pretrained(network)(x, x.roll(1, 0))
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", ["alex", "vgg"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_parity_with_the_authors_package(network):
    lpips = pytest.importorskip("lpips")
    ours = pretrained(network)
    theirs = lpips.LPIPS(net=network, pnet_rand=True, verbose=False)
    sources = [layer for layer in ours.modules() if isinstance(layer, nn.Conv2d)]
    targets = [layer for layer in theirs.net.modules() if isinstance(layer, nn.Conv2d)]
    for source, target in zip(sources, targets, strict=True):
        target.load_state_dict(source.state_dict())
    x = stripes()
    with torch.inference_mode():
        expected = theirs(x, x.roll(1, 0)).flatten()
    torch.testing.assert_close(ours(x, x.roll(1, 0)), expected, atol=1e-6, rtol=1e-5)
