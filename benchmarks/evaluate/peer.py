"""torch-fidelity and clean-fid with the very weights that we use: they know them from a URL only."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch_fidelity import (
    calculate_metrics,
    feature_extractor_inceptionv3,
    register_feature_extractor,
)

from vesalius.models.networks.inception import Conv, Inception

NAME = "inception-2015-12-05-converted"


class ConvertedInception(feature_extractor_inceptionv3.FeatureExtractorInceptionV3):
    """Their network, resize and code; the weights are copied from ours, layer by layer."""

    def __init__(self, name: str, features_list: list[str], **_settings: Any) -> None:
        with patch.object(torch, "load", return_value={}):
            super().__init__(name, features_list, feature_extractor_weights_path="not read")
        kind = feature_extractor_inceptionv3.BasicConv2d
        targets: list[Any] = [layer for layer in self.modules() if isinstance(layer, kind)]
        sources = [layer for layer in Inception().modules() if isinstance(layer, Conv)]
        with torch.no_grad():
            for source, target in zip(sources, targets, strict=True):
                target.conv.weight.copy_(source.weight)
                # ours has the batch norm folded in: leave theirs only the bias to add
                target.bn.bias.copy_(source.bias)
                target.bn.running_var.fill_(1 - target.bn.eps)

    def load_state_dict(self, *_args: Any, **_options: Any) -> Any:
        """Keep what the constructor would fill: the weights come afterwards."""


def peer_metrics(synthetic: str, real: str, **settings: Any) -> dict[str, float]:
    """`calculate_metrics` on two folders of images, without its cache."""
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    if NAME not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(NAME, ConvertedInception)
    layers = {f"feature_layer_{metric}": "2048" for metric in ("fid", "kid", "prc")}
    about = {"feature_extractor": NAME, "cache": False, "verbose": False, **layers} | settings
    return calculate_metrics(input1=synthetic, input2=real, **about)


def on_resized(device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same network for images that are resized already, as clean-fid gives them."""
    network = ConvertedInception(NAME, ["2048"]).to(device).eval()

    def features(x: torch.Tensor) -> torch.Tensor:  # (B, 3, 299, 299), 0 to 255
        as_it_is = {
            "interpolate_bilinear_2d_like_tensorflow1x": lambda x, **_: x,
            "vassert": lambda *_: None,
        }
        with patch.multiple(feature_extractor_inceptionv3, **as_it_is):
            return network(x.float())[0]

    return features
