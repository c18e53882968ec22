"""LPIPS, the learned perceptual distance between two images (Zhang et al. 2018, arXiv:1801.03924).

    d(x, y) = sum_l mean_hw sum_c w_lc (x^l_hwc - y^l_hwc)^2

over the unit-normalised activations x^l of five ReLU layers of an ImageNet network, with
non-negative linear weights w fitted to human judgements (version 0.1 of the authors' release).
"""

from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vesalius.models.networks import weights

Network = Literal["alex", "vgg"]

# The authors' scaling layer: ImageNet's mean and std, moved from [0, 1] to [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """Frozen perceptual distance; gradients flow to the images, never to the weights.

    x, y: (N, 3, H, W) in [-1, 1], H and W at least 35 ("alex") or 16 ("vgg"); one of the two may
    be a single image, which is then compared with each of the other's.
    Returns (N,) distances, 0 for equal images; different photographs give about 0.7.
    Raises VesaliusError when the converted weights are missing (see vesalius.models.networks.weights).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: Network = "alex", *, pretrained: bool = True) -> None:
        super().__init__()
        self.stages = alexnet_stages() if network == "alex" else vgg16_stages()
        widths = (64, 192, 384, 256, 256) if network == "alex" else (64, 128, 256, 512, 512)
        self.linear = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in widths)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        if pretrained:
            self.load_state_dict(load_file(weights.find(f"lpips-{network}")))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = (x - self.shift) / self.scale, (y - self.shift) / self.scale
        distance = x.new_zeros(len(x))
        for stage, weight in zip(self.stages, self.linear, strict=True):
            x, y = stage(x), stage(y)  # (N, C_l, H_l, W_l)
            difference = (unit(x) - unit(y)).square()
            distance = distance + torch.einsum("nchw,c->nhw", difference, weight).mean((1, 2))
        return distance


def unit(features: Tensor, eps: float = 1e-10) -> Tensor:
    """Scale the channel vector at every position to length one. (N, C, H, W) -> the same.

    A position where every channel is zero has norm 0, whose derivative does not exist; the tiny
    term under the root keeps training finite there and is far below the authors' `eps`.
    """
    norm = (features.square().sum(1, keepdim=True) + 1e-24).sqrt()
    return features / (norm + eps)


def alexnet_stages() -> nn.ModuleList:
    """AlexNet (Krizhevsky 2014) cut after each of its five convolutions' ReLUs."""
    pool = nn.MaxPool2d(3, stride=2)
    return nn.ModuleList(
        [
            nn.Sequential(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU()),
            nn.Sequential(pool, nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),
            nn.Sequential(pool, nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
        ]
    )


def vgg16_stages() -> nn.ModuleList:
    """VGG-16 (Simonyan and Zisserman 2014) cut after the last ReLU of each of its five blocks."""
    stages, previous = nn.ModuleList(), 3
    for block, (width, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if block else []
        for _ in range(depth):
            layers += [nn.Conv2d(previous, width, 3, padding=1), nn.ReLU()]
            previous = width
        stages.append(nn.Sequential(*layers))
    return stages
