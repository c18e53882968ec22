"""A small patch discriminator, trained from scratch, and the loss between it and a decoder.

It has no pretrained features: those are what FID is measured with, or near to it.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (64, 128, 256)
# Its opponent changes with each step, so what it learned before must not carry it on: with a first
# beta of 0.9 it cannot tell the reconstructions of a decoder that has just begun.
BETAS = (0.5, 0.99)
SQUARINGS = 6  # of the Gram matrix: 64 steps of a power iteration
# VQGAN allows 1e4, but a discriminator that can tell nothing just now pushes hardly at all, and what
# it pushes to is chance: that must not be made as strong as the other losses.
MOST_BALANCE = 1.0


class PatchDiscriminator(nn.Module):
    """How real each patch of 54 x 54 pixels looks (Isola et al. 2017, arXiv:1611.07004).

    (N, 3, H, W) in [-1, 1] -> (N, 1, H / 8, W / 8), without bounds. Every weight is divided by its
    largest singular value (Miyato et al. 2018, arXiv:1802.05957), which keeps short trainings
    stable. There is no normalisation over images and no buffer: the parameters say everything.
    """

    def __init__(self) -> None:
        super().__init__()
        halvings = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise((3, *WIDTHS))]
        last = WIDTHS[-1]
        level = nn.Conv2d(last, last, 3, padding=1)
        # without a bias: it would cancel out between two images
        judging = nn.Conv2d(last, 1, 3, padding=1, bias=False)
        self.layers = nn.ModuleList([*halvings, level, judging])

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv2d)
            weight = layer.weight / largest_singular_value(layer.weight)
            x = functional.conv2d(
                functional.leaky_relu(x, 0.2) if number else x,
                weight,
                layer.bias,
                layer.stride,
                layer.padding,
            )
        return x


def largest_singular_value(weight: Tensor) -> Tensor:
    """Of a convolution's weight (O, I, k, k) as an (O, I k k) matrix; it has a gradient.

    Usually a power iteration goes on from step to step, and its vector is a state that a resumed
    run would have to know. Here the Gram matrix is squared until only its first eigenvector is
    left, from nothing: the result is a function of the weight alone.
    """
    with torch.autocast(weight.device.type, enabled=False):
        matrix = weight.float().flatten(1)
        with torch.no_grad():
            power = matrix @ matrix.T
            for _ in range(SQUARINGS):
                power = power / power.norm()
                power = power @ power
            # every column is near to the eigenvector, the largest one surely not orthogonal to it
            left = power.index_select(1, power.diagonal().argmax()[None])
            left = left / left.norm()
            right = matrix.T @ left
            right = right / right.norm()
        return (left.T @ matrix @ right).squeeze()


def hinge(winner: Tensor, loser: Tensor) -> Tensor:
    """Relativistic hinge loss (Jolicoeur-Martineau 2018, arXiv:1807.00734): mean max(0, 1 - w + l).

    Discriminator: hinge(D(x), D(y)); decoder: hinge(D(y), D(x)), with y the reconstruction of x, so
    that what a patch shows cancels out and what makes it look made is left.
    """
    return functional.relu(1 - winner + loser).mean()


def balance(first: Tensor, second: Tensor) -> Tensor:
    """What a second gradient is multiplied by to be no longer than a first one: at most 1.

    Esser et al. 2021 (arXiv:2012.09841), equation 7: lambda = |grad L_rec| / |grad L_GAN|.
    """
    return (first.norm() / second.norm().clamp_min(1e-12)).clamp_max(MOST_BALANCE)
