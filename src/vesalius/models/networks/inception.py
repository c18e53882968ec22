"""Inception-v3 of 2015-12-05, the network that FID is defined on.

Szegedy et al. 2015 (arXiv:1512.00567), Heusel et al. 2017 (arXiv:1706.08500). It differs from
torchvision's: average pools leave the padding out of the mean, the last block pools by maximum, and
batch norm has eps 1e-3 and no scale. The batch norms are folded into the convolutions when the
weights are converted. Names follow the TensorFlow graph's.
"""

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.models.networks import weights

INPUT_SIZE = 299
FEATURES = 2048


class Conv(nn.Conv2d):
    """Convolution and ReLU; "same" padding unless `same` is False."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        same: bool = True,
    ) -> None:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if same else (0, 0)
        super().__init__(inputs, outputs, (height, width), stride=stride, padding=padding)

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(super().forward(input), inplace=True)


class Tower(nn.Sequential):
    """Convolutions in a row, named conv, conv_1, conv_2, ... as in the TensorFlow graph."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        for index, layer in enumerate(layers):
            self.add_module(f"conv_{index}" if index else "conv", layer)


def average_pool(x: Tensor) -> Tensor:
    """3x3 mean over what lies inside the image: TensorFlow leaves the padding out."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class MixedA(nn.Module):
    """35 x 35: branches 1x1 | 5x5 | 3x3 twice | pool."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, 64, 1)
        self.tower = Tower(Conv(inputs, 48, 1), Conv(48, 64, 5))
        self.tower_1 = Tower(Conv(inputs, 64, 1), Conv(64, 96, 3), Conv(96, 96, 3))
        self.tower_2 = Tower(Conv(inputs, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [self.conv(x), self.tower(x), self.tower_1(x), self.tower_2(average_pool(x))], 1
        )


class MixedB(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, 384, 3, stride=2, same=False)
        last = Conv(96, 96, 3, stride=2, same=False)
        self.tower = Tower(Conv(inputs, 64, 1), Conv(64, 96, 3), last)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(x), self.tower(x), F.max_pool2d(x, 3, stride=2)], 1)


class MixedC(nn.Module):
    """17 x 17: branches 1x1 | 7x7 as 1x7 and 7x1 | the same twice | pool."""

    def __init__(self, width: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.conv = Conv(768, 192, 1)
        self.tower = Tower(Conv(768, width, 1), Conv(width, width, row), Conv(width, 192, column))
        self.tower_1 = Tower(
            Conv(768, width, 1),
            Conv(width, width, column),
            Conv(width, width, row),
            Conv(width, width, column),
            Conv(width, 192, row),
        )
        self.tower_2 = Tower(Conv(768, 192, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [self.conv(x), self.tower(x), self.tower_1(x), self.tower_2(average_pool(x))], 1
        )


class MixedD(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = Tower(Conv(768, 192, 1), Conv(192, 320, 3, stride=2, same=False))
        self.tower_1 = Tower(
            Conv(768, 192, 1),
            Conv(192, 192, (1, 7)),
            Conv(192, 192, (7, 1)),
            Conv(192, 192, 3, stride=2, same=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.tower(x), self.tower_1(x), F.max_pool2d(x, 3, stride=2)], 1)


class MixedE(nn.Module):
    """8 x 8: branches 1x1 | 1x3 beside 3x1 | 3x3, then 1x3 beside 3x1 | pool."""

    def __init__(self, inputs: int, *, max_pool: bool) -> None:
        super().__init__()
        self.max_pool = max_pool
        self.conv = Conv(inputs, 320, 1)
        self.tower_conv = Conv(inputs, 384, 1)
        self.tower_mixed_conv = Conv(384, 384, (1, 3))
        self.tower_mixed_conv_1 = Conv(384, 384, (3, 1))
        self.tower_1_conv = Conv(inputs, 448, 1)
        self.tower_1_conv_1 = Conv(448, 384, 3)
        self.tower_1_mixed_conv = Conv(384, 384, (1, 3))
        self.tower_1_mixed_conv_1 = Conv(384, 384, (3, 1))
        self.tower_2_conv = Conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.tower_conv(x)
        b = self.tower_1_conv_1(self.tower_1_conv(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.max_pool else average_pool(x)
        branches = [self.conv(x), self.tower_mixed_conv(a), self.tower_mixed_conv_1(a)]
        branches += [self.tower_1_mixed_conv(b), self.tower_1_mixed_conv_1(b)]
        return torch.cat([*branches, self.tower_2_conv(pooled)], 1)


class Inception(nn.Module):
    """Frozen feature extractor: (N, 3, 299, 299) in [-1, 1] -> (N, 2048), all at least 0.

    Raises VesaliusError when the converted weights are missing (see vesalius.models.networks.weights).
    """

    def __init__(self, *, pretrained: bool = True) -> None:
        super().__init__()
        self.conv = Conv(3, 32, 3, stride=2, same=False)
        self.conv_1 = Conv(32, 32, 3, same=False)
        self.conv_2 = Conv(32, 64, 3)
        self.conv_3 = Conv(64, 80, 1)
        self.conv_4 = Conv(80, 192, 3, same=False)
        self.mixed = MixedA(192, 32)
        self.mixed_1 = MixedA(256, 64)
        self.mixed_2 = MixedA(288, 64)
        self.mixed_3 = MixedB(288)
        self.mixed_4 = MixedC(128)
        self.mixed_5 = MixedC(160)
        self.mixed_6 = MixedC(160)
        self.mixed_7 = MixedC(192)
        self.mixed_8 = MixedD()
        self.mixed_9 = MixedE(1280, max_pool=False)
        self.mixed_10 = MixedE(2048, max_pool=True)
        if pretrained:
            self.load_state_dict(load_file(weights.find("inception-2015-12-05")))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_2(self.conv_1(self.conv(x)))  # (N, 64, 147, 147)
        x = F.max_pool2d(x, 3, stride=2)  # (N, 64, 73, 73)
        x = self.conv_4(self.conv_3(x))  # (N, 192, 71, 71)
        x = F.max_pool2d(x, 3, stride=2)  # (N, 192, 35, 35)
        x = self.mixed_2(self.mixed_1(self.mixed(x)))  # (N, 288, 35, 35)
        x = self.mixed_3(x)  # (N, 768, 17, 17)
        x = self.mixed_7(self.mixed_6(self.mixed_5(self.mixed_4(x))))  # (N, 768, 17, 17)
        x = self.mixed_10(self.mixed_9(self.mixed_8(x)))  # (N, 2048, 8, 8)
        return x.mean((2, 3))
