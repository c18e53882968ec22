import pytest
import torch

from vesalius.errors import VesaliusError
from vesalius.models.networks.inception import Inception


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Inception(pretrained=False)


def test_features_are_2048_not_negative_and_one_row_an_image(network):
    x = torch.rand(2, 3, 299, 299, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = network(x)
    assert features.shape == (2, 2048)
    assert (features >= 0).all()
    # frozen, and no image may influence another's features
    assert not features.requires_grad
    torch.testing.assert_close(network(x[1:])[0], features[1], atol=1e-5, rtol=1e-4)


def test_it_has_inceptions_convolutions(network):
    convolutions = [name for name in network.state_dict() if name.endswith(".weight")]
    assert len(convolutions) == 94
    assert sum(value.numel() for value in network.parameters()) == 21_768_352


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("VESALIUS_WEIGHTS", str(tmp_path))
    with pytest.raises(VesaliusError, match="vesalius info --get inception"):
        Inception()
