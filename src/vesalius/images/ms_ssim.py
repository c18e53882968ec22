"""MS-SSIM of pairs of grey images (Wang et al. 2003)."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.errors import VesaliusError

_BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


@torch.inference_mode()
def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of pairs of images (B, 1, H, W) in [0, 1]: (B,), 1 for equal ones.

    Five scales, a Gaussian window of 11 pixels, negative parts taken for 0. The window stays inside
    the image for the contrast and is reflected at its border for the last scale's luminance, as in
    torchmetrics, to which this is equal; where it stays inside throughout, figures differ by 0.001.
    Raises VesaliusError for sides under 176 pixels, whose last scale the window does not fit.
    """
    if min(x.shape[-2:]) < _WINDOW * 2 ** (len(_BETAS) - 1):
        raise VesaliusError(f"MS-SSIM needs sides of 176 pixels or more, not {tuple(x.shape[-2:])}")
    found = torch.ones(len(x), device=x.device)
    for beta in _BETAS[:-1]:
        found = found * _contrast(x, y).mean((1, 2, 3)).clamp(min=0) ** beta
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    x, y = (F.pad(each, (_WINDOW // 2,) * 4, mode="reflect") for each in (x, y))
    mean_x, mean_y = _blurred(x), _blurred(y)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x * mean_x + mean_y * mean_y + _C1)
    last = (luminance * _contrast(x, y)).mean((1, 2, 3))
    return found * last.clamp(min=0) ** _BETAS[-1]


def _contrast(x: Tensor, y: Tensor) -> Tensor:
    """The contrast and structure part of SSIM, (B, 1, H - 10, W - 10)."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x = (_blurred(x * x) - mean_x * mean_x).clamp(min=0)
    var_y = (_blurred(y * y) - mean_y * mean_y).clamp(min=0)
    return (2 * (_blurred(x * y) - mean_x * mean_y) + _C2) / (var_x + var_y + _C2)


def _blurred(x: Tensor) -> Tensor:
    """Gaussian means where the window fits: (B, 1, H - 10, W - 10)."""
    rows, columns = (_band(side).to(x.device) for side in x.shape[-2:])
    return rows @ x @ columns.T  # on a CPU many times faster than a convolution of one channel


@lru_cache(maxsize=16)
def _band(side: int) -> Tensor:
    """(side - 10, side): the window at each place where it fits."""
    at = torch.arange(_WINDOW) - (_WINDOW - 1) / 2
    window = torch.exp(-(at**2) / (2 * _SIGMA**2))
    band = torch.zeros(side - _WINDOW + 1, side)
    for k, weight in enumerate(window / window.sum()):
        band.diagonal(k).fill_(float(weight))
    return band
