"""Fréchet inception distance between two sets of features (Heusel et al. 2017, arXiv:1706.08500).

    FID = |mx - my|^2 + Tr Sx + Tr Sy - 2 Tr (Sx Sy)^(1/2)

The last term has two exact forms, and the cheaper one is taken:

- With S = A A^T, where A = Xc^T / sqrt(nx - 1) holds the centred samples, Sx Sy = A A^T B B^T has
  the non-zero eigenvalues of (A^T B)(A^T B)^T. Their roots are the singular values of A^T B, so
  the trace is the nuclear norm of Xc Yc^T / sqrt((nx - 1)(ny - 1)), an (nx, ny) matrix: the Gram
  form, for fewer samples than features.
- Sx Sy is similar to the symmetric R Sy R with R = Sx^(1/2): two symmetric eigendecompositions.

Neither needs SciPy's general matrix root, which is slower and can return complex numbers.
"""

import numpy as np

from vesalius.errors import VesaliusError


def fid(x: np.ndarray, y: np.ndarray) -> float:
    """Fréchet distance of two feature sets (Nx, D) and (Ny, D), computed in float64.

    At least 0 (up to about -1e-3 by rounding), 0 when the two sets agree in mean and covariance.
    It is biased upwards for small sets: compare figures of equal N only, and quote N.
    Raises VesaliusError for sets of under 2 samples, of different D, or with NaN or infinity.
    """
    x, y = checked(x), checked(y)
    if x.shape[1] != y.shape[1]:
        raise VesaliusError(f"features of {x.shape[1]} and {y.shape[1]} dimensions do not compare")
    shift = np.square(x.mean(0) - y.mean(0)).sum()
    # scaled so that the covariance is a.T @ a
    a = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    b = (y - y.mean(0)) / np.sqrt(len(y) - 1)
    overlap = gram_overlap(a, b) if min(len(a), len(b)) < a.shape[1] else eigen_overlap(a, b)
    return float(shift + np.square(a).sum() + np.square(b).sum() - 2 * overlap)


def gram_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Tr (Sx Sy)^(1/2) as a nuclear norm; a (Nx, D) and b (Ny, D) with Sx = a^T a, Sy = b^T b."""
    return float(np.linalg.svd(a @ b.T, compute_uv=False).sum())


def eigen_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The same by symmetric eigendecomposition of (D, D) matrices."""
    values, vectors = np.linalg.eigh(a.T @ a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    # rounding leaves eigenvalues of about -1e-15 where the covariance is singular
    return float(np.sqrt(np.linalg.eigvalsh(root @ (b.T @ b) @ root).clip(min=0)).sum())


def halves_fid(x: np.ndarray, seed: int = 0) -> float:
    """The FID of a random half of `x` (N, D) against the other: what no generator can be below.

    Each half has N // 2 samples, so the bias is that of N // 2: a guide, not a bound, beside the
    FID of N against N.
    """
    x = checked(x)
    order = np.random.default_rng(seed).permutation(len(x))
    half = len(x) // 2
    return fid(x[order[:half]], x[order[half : 2 * half]])


def checked(x: np.ndarray) -> np.ndarray:
    """Features as float64. Raises VesaliusError when no covariance can be taken of them."""
    if x.ndim != 2 or len(x) < 2:
        raise VesaliusError(f"FID needs at least 2 rows of features, not an array {x.shape}")
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        raise VesaliusError("the features hold NaN or infinity: the images or the network are bad")
    return x
