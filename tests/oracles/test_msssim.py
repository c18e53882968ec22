"""MS-SSIM against torchmetrics."""

import pytest
import torch
from torch.nn import functional as F

from vesalius.images.ms_ssim import ms_ssim


@pytest.mark.parametrize("size", [(176, 200), (256, 256)])
def test_torchmetrics(size):
    image = pytest.importorskip("torchmetrics.functional.image")
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 1, 12, 12, generator=generator)
    x = F.interpolate(coarse, size, mode="bilinear")
    y = 0.6 * x + 0.4 * torch.rand(4, 1, *size, generator=generator)
    y[3] = 1 - x[3]  # an image and its negative: contrasts below 0
    for k in range(4):
        theirs = image.multiscale_structural_similarity_index_measure(
            x[k : k + 1], y[k : k + 1], data_range=1.0
        )
        assert float(ms_ssim(x[k : k + 1], y[k : k + 1])) == pytest.approx(float(theirs), abs=1e-5)
