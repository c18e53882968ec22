"""A small patch discriminator, trained from scratch, and the loss between it and a decoder.

It has no pretrained features: those are what FID is measured with, or near to it.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (64, 128, 256)
# Its opponent changes with each step, so what it learned before must not carry it on: with a first
# beta of 0.9 it cannot recognise the reconstructions of a decoder that has just begun.
BETAS = (0.5, 0.99)


class PatchDiscriminator(nn.Module):
    """How real each patch of 54 x 54 pixels looks (Isola et al. 2017, arXiv:1611.07004).

    (N, 3, H, W) in [-1, 1] -> (N, 1, H / 8, W / 8), without bounds. Nothing bounds its slope: a
    blur differs from its image by little, and with spectral normalisation the discriminator could
    not learn to distinguish them as fast as the decoder changed. There is no normalisation over
    images and no buffer: the parameters say everything.
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
            x = layer(functional.leaky_relu(x, 0.2) if number else x)
        return x


def hinge(winner: Tensor, loser: Tensor) -> Tensor:
    """Relativistic hinge loss (Jolicoeur-Martineau 2018, arXiv:1807.00734): mean max(0, 1 - w + l).

    Discriminator: hinge(D(x), D(y)); decoder: hinge(D(y), D(x)), with y the reconstruction of x, so
    that what a patch shows cancels out and what makes it look made is left.
    """
    return functional.relu(1 - winner + loser).mean()


def balance(first: Tensor, second: Tensor) -> Tensor:
    """What a second gradient is multiplied by to be as long as a first one: |first| / |second|.

    A zero second gradient stays one. Esser et al. 2021 (arXiv:2012.09841), equation 7, take the
    ratio at the weights of the last layer; here it is taken at the image.
    """
    return first.norm() / second.norm().clamp_min(1e-12)
