"""How alike two small grey images are in structure, whatever their brightness and contrast."""

import numpy as np


def structure_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How alike the local structure of images is, once `b` is shifted and stretched onto `a`.

    (N, S, S) and (N, S, S) grey -> (N,) in -1..1. Each pixel is taken against its neighbourhood's
    mean and standard deviation, so that brightness and shading do not decide. Half of the figure
    leaves out the quarter with the strongest contrast: it is the outline, as any patient's.
    """
    if not len(a):
        return np.empty(0, np.float32)
    a, b = a.astype(np.float32), b.astype(np.float32)
    inside = slice(a.shape[-1] // 20, -(a.shape[-1] // 20))
    b = _laid_on(a, b, inside)
    (one, contrast), (other, contrast_b) = (
        (part[:, inside, inside].reshape(len(a), -1) for part in local_structure(images))
        for images in (a, b)
    )
    contrast = contrast * contrast_b
    weak = contrast <= np.quantile(contrast, 0.75, axis=1, keepdims=True)
    return (_cosine(one, other) + _cosine(one * weak, other * weak)) / 2


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return (a * b).sum(axis=1) / np.maximum(norm, 1e-6)


def _laid_on(a: np.ndarray, b: np.ndarray, inside: slice) -> np.ndarray:
    """`b` shifted and stretched along both axes by a few pixels to fit `a`: Gauss and Newton."""
    size = a.shape[-1]
    place = np.linspace(-1, 1, size, dtype=np.float32)
    move = np.zeros((len(a), 4), np.float32)  # pixels: shift in x and y, stretch in x and y
    warped = b
    for _ in range(3):
        target, current = _unit(a), _unit(warped)
        down, right = np.gradient((target + current) / 2, axis=(1, 2))
        slopes = np.stack([right, down, right * place, down * place[:, None]], axis=-1)
        slopes = slopes[:, inside, inside].reshape(len(a), -1, 4)
        rest = (target - current)[:, inside, inside].reshape(len(a), -1, 1)
        normal = slopes.swapaxes(1, 2) @ slopes
        damping = 1e-3 * np.trace(normal, axis1=1, axis2=2) / 4 + 1e-6
        normal += damping[:, None, None] * np.eye(4, dtype=np.float32)
        move += np.linalg.solve(normal, slopes.swapaxes(1, 2) @ rest)[..., 0]
        move = np.clip(move, -size / 16, size / 16)
        rows, columns = (
            _sampling(np.arange(size) + move[:, [k]] + move[:, [k + 2]] * place) for k in (1, 0)
        )
        warped = rows @ b @ columns.swapaxes(1, 2)
    return warped


def _sampling(position: np.ndarray) -> np.ndarray:
    """(N, S, S) matrices that read a line of S pixels at `position`, (N, S), linearly."""
    size = position.shape[1]
    position = np.clip(position, 0, size - 1)[..., None]
    return np.maximum(1 - np.abs(position - np.arange(size)), 0).astype(np.float32)


def local_structure(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel of (N, S, S) against the mean and deviation of its neighbourhood, and the latter."""
    size = images.shape[-1]
    near = np.abs(np.subtract.outer(np.arange(size), np.arange(size))) <= size // 16
    mean = (near / near.sum(axis=1, keepdims=True)).astype(np.float32)
    rest = images - mean @ images @ mean.T
    contrast = np.sqrt(np.maximum(mean @ rest**2 @ mean.T, 0))
    # the share of the whole image's contrast keeps the noise of empty regions from counting
    floor = 0.025 * images.std(axis=(1, 2), keepdims=True) + 1e-6
    return rest / (contrast + floor), contrast


def _unit(images: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1; an image of one value becomes zeros."""
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    return centred / np.maximum(centred.std(axis=(1, 2), keepdims=True), 1e-6)


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of (N, S, S) images, pair by pair: (N,); 0 where one is blank."""
    return (_unit(a) * _unit(b)).mean(axis=(1, 2))
