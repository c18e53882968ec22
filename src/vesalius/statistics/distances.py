"""How far two sets of features are from each other: FID, KID, precision, recall, density, coverage.

Fréchet distance between two sets of features (Heusel et al. 2017, arXiv:1706.08500):

    FID = |mx - my|^2 + Tr Sx + Tr Sy - 2 Tr (Sx Sy)^(1/2)

The last term has two exact forms, and the cheaper one is taken:

- With S = A A^T, where A = Xc^T / sqrt(nx - 1) holds the centred samples, Sx Sy = A A^T B B^T has
  the non-zero eigenvalues of (A^T B)(A^T B)^T. Their roots are the singular values of A^T B, so
  the trace is the nuclear norm of Xc Yc^T / sqrt((nx - 1)(ny - 1)), an (nx, ny) matrix: the Gram
  form, for fewer samples than features.
- Sx Sy is similar to the symmetric R Sy R with R = Sx^(1/2): two symmetric eigendecompositions.

Neither needs SciPy's general matrix root, which is slower and can return complex numbers.

All figures are functions of inner products alone. `Grams` holds them, so that a replicate for an
interval selects rows and columns and never touches the features again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from vesalius.errors import VesaliusError

K = 5  # neighbours, as Naeem et al. recommend
SUBSETS, SUBSET_SIZE = 100, 1000  # of KID, as is usual
_BLOCK = 2048  # rows that are taken at a time, at most
_HELD = 2**23  # numbers that are held at once, for each of the few arrays in use: 64 MB


@dataclass(frozen=True)
class Grams:
    """Inner products of x (Nx, D) and y (Ny, D): xx (Nx, Nx), yy (Ny, Ny), xy (Nx, Ny), float64."""

    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray
    dims: int

    def take(self, i: np.ndarray, j: np.ndarray) -> "Grams":
        """Those of the rows `i` of x and `j` of y, which may repeat."""
        return Grams(self.xx[np.ix_(i, i)], self.yy[np.ix_(j, j)], self.xy[np.ix_(i, j)], self.dims)


def grams(x: np.ndarray, y: np.ndarray) -> Grams:
    """The inner products of two sets of features (Nx, D) and (Ny, D), in float64."""
    x, y = (each.astype(np.float64) for each in compared(x, y))
    return Grams(x @ x.T, y @ y.T, x @ y.T, x.shape[1])


def fid(x: np.ndarray, y: np.ndarray) -> float:
    """Fréchet distance of two feature sets (Nx, D) and (Ny, D), computed in float64.

    At least 0 (up to about -1e-3 by rounding), 0 when the two sets agree in mean and covariance.
    It is biased upwards for small sets: compare figures of equal N only, and quote N.
    Raises VesaliusError for sets of under 2 samples, of different D, or with NaN or infinity.
    """
    x, y = compared(x, y)
    if min(len(x), len(y)) < x.shape[1]:
        # scaled so that the covariance is a.T @ a
        a, b = (_centred(each) / np.sqrt(len(each) - 1) for each in (x, y))
        spread, overlap = np.square(a).sum() + np.square(b).sum(), gram_overlap(a, b)
    else:
        of_x, of_y = _covariance(x), _covariance(y)
        spread, overlap = np.trace(of_x) + np.trace(of_y), root_trace(of_x, of_y)
    shift = np.square(_mean(x) - _mean(y)).sum()
    return float(shift + spread - 2 * overlap)


def _mean(x: np.ndarray) -> np.ndarray:
    return x.mean(0, dtype=np.float64)


def _centred(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) - _mean(x)


def _covariance(x: np.ndarray) -> np.ndarray:
    """(D, D) of (N, D), a block of rows at a time."""
    mean, total = _mean(x), np.zeros((x.shape[1],) * 2)
    for rows in _blocks(len(x), x.shape[1]):
        part = x[rows] - mean
        total += part.T @ part
    return total / (len(x) - 1)


def gram_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Tr (Sx Sy)^(1/2) as a nuclear norm; a (Nx, D) and b (Ny, D) with Sx = a^T a, Sy = b^T b."""
    return float(np.linalg.svd(a @ b.T, compute_uv=False).sum())


def root_trace(first: np.ndarray, second: np.ndarray) -> float:
    """The same of two covariances (D, D), by symmetric eigendecompositions."""
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    # rounding leaves eigenvalues of about -1e-15 where the covariance is singular
    return float(np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(min=0)).sum())


def fid_of(g: Grams) -> float:
    """The same FID from inner products: centring them is centring the samples."""
    nx, ny = g.xy.shape
    xx, yy, xy = g.xx.mean(), g.yy.mean(), g.xy.mean()  # |mx|^2, |my|^2, mx . my
    spread = (np.trace(g.xx) - nx * xx) / (nx - 1) + (np.trace(g.yy) - ny * yy) / (ny - 1)
    centred = g.xy - g.xy.mean(0) - g.xy.mean(1, keepdims=True) + xy
    overlap = np.linalg.svd(centred, compute_uv=False).sum() / np.sqrt((nx - 1) * (ny - 1))
    return float(xx + yy - 2 * xy + spread - 2 * overlap)


@dataclass(frozen=True)
class Kid:
    """Kernel distance: mean and deviation over random subsets of `size` images each."""

    mean: float
    std: float
    size: int
    subsets: int


def kid(
    x: np.ndarray, y: np.ndarray, *, subsets: int = SUBSETS, size: int | None = None, seed: int = 0
) -> Kid:
    """Kernel inception distance (Bińkowski et al. 2018, arXiv:1801.01401) of (Nx, D) and (Ny, D).

    The unbiased squared MMD under (x . y / D + 1)^3 in each of `subsets` random subsets of `size`
    images, drawn without replacement. By default 1,000, or half of the smaller set: subsets that
    are the whole set would all be the same one, and their deviation nothing.
    Raises VesaliusError as `fid` does, and where a subset would be larger than a set.
    """
    x, y = compared(x, y)
    least = min(len(x), len(y))
    size = min(SUBSET_SIZE, max(2, least // 2)) if size is None else size
    if not 2 <= size <= least:
        raise VesaliusError(f"KID in subsets of {size} needs 2 to {least} images in each")
    rng = np.random.default_rng(seed)
    rows = [(_some(rng, len(x), size), _some(rng, len(y), size)) for _ in range(subsets)]
    if len(x) * len(y) > subsets * size**2:  # subsets are fewer products than the whole
        found = [kid_of(grams(x[i], y[j])) for i, j in rows]
        return Kid(float(np.mean(found)), float(np.std(found)), size, subsets)
    x, y = x.astype(np.float64), y.astype(np.float64)
    # the sum of a subset's kernel is i^T k j with 0/1 vectors: all subsets in one product
    inside = [np.zeros((subsets, len(each))) for each in (x, y)]
    for k, pair in enumerate(rows):
        for members, chosen in zip(inside, pair, strict=True):
            members[k, chosen] = 1
    u, v = inside
    xx = _subset_sums(x, x, u, u) - u @ kernel(np.square(x).sum(1), x.shape[1])
    yy = _subset_sums(y, y, v, v) - v @ kernel(np.square(y).sum(1), y.shape[1])
    found = (xx + yy) / (size * (size - 1)) - 2 * _subset_sums(x, y, u, v) / size**2
    return Kid(float(found.mean()), float(found.std()), size, subsets)


def kid_of(g: Grams) -> float:
    """The unbiased squared MMD of the whole sets."""
    nx, ny = g.xy.shape
    kx, ky, kxy = (kernel(each, g.dims) for each in (g.xx, g.yy, g.xy))
    within = (kx.sum() - np.trace(kx)) / (nx * (nx - 1)) + (ky.sum() - np.trace(ky)) / (
        ny * (ny - 1)
    )
    return float(within - 2 * kxy.mean())


def kernel(products: np.ndarray, dims: int) -> np.ndarray:
    """KID's polynomial kernel of inner products."""
    base = products / dims + 1
    return base * base * base  # a power of floats is many times slower


def _some(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    return rng.permutation(count)[:size]


def _subset_sums(x: np.ndarray, y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Sums of the kernel over subsets u (S, Nx) and v (S, Ny) of 0 and 1: (S,)."""
    total = np.zeros(len(u))
    for rows in _blocks(len(x), len(y)):
        total += np.einsum("sn,sn->s", u[:, rows] @ kernel(x[rows] @ y.T, x.shape[1]), v)
    return total


@dataclass(frozen=True)
class Prdc:
    """Improved precision and recall, density and coverage; all but density in [0, 1]."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: np.ndarray, fake: np.ndarray, k: int = K) -> Prdc:
    """Which images lie within whose `k` nearest neighbours; real (N, D), fake (M, D).

    Precision and recall: Kynkäänniemi et al. 2019 (arXiv:1904.06991), the fraction of fake images
    in the neighbourhood of some real one, and the reverse. Density and coverage: Naeem et al. 2020
    (arXiv:2002.09797), how many real neighbourhoods hold a fake image on average, over `k`, and the
    fraction of real images with a fake one in their neighbourhood.
    Memory is bounded: distances are taken a block at a time. Raises VesaliusError for sets of under k + 1.
    """
    real, fake = compared(real, fake, least=k + 1)
    lengths = _lengths(real), _lengths(fake)
    r_real, r_fake = (
        np.concatenate(
            [_kth(_apart(p, of_x[rows], of_x), k) for rows, p in _products_by_block(x, x)]
        )
        for x, of_x in zip((real, fake), lengths, strict=True)
    )
    apart = (
        (rows, _apart(p, lengths[0][rows], lengths[1]))
        for rows, p in _products_by_block(real, fake)
    )
    return _tally(apart, r_real, r_fake, k)


@dataclass(frozen=True)
class Within:
    """What a set (N, D) has by itself, for comparisons with several others."""

    kernel: float  # KID's, the mean over pairs of different rows
    lengths: np.ndarray  # (N,) squared
    radii: np.ndarray  # (N,) squared distance to the k-th neighbour


def within(x: np.ndarray, k: int = K) -> Within:
    """See `Within`. Raises VesaliusError for a set of under k + 1."""
    x, total = checked(x, least=k + 1), 0.0
    lengths, radii = _lengths(x), []
    for rows, products in _products_by_block(x, x):
        total += float(kernel(products, x.shape[1]).sum())
        radii.append(_kth(_apart(products, lengths[rows], lengths), k))
    total -= float(kernel(lengths, x.shape[1]).sum())
    return Within(total / (len(x) * (len(x) - 1)), lengths, np.concatenate(radii))


def mmd_and_prdc(
    sets: tuple[np.ndarray, np.ndarray], of_sets: tuple[Within, Within], k: int = K
) -> tuple[float, Prdc]:
    """`kid_of` and `prdc` of two whole sets, real (N, D) and fake (M, D), in one pass over their distances."""
    real, fake = compared(*sets, least=k + 1)
    of_real, of_fake = of_sets
    between = 0.0

    def apart() -> Iterator[tuple[slice, np.ndarray]]:
        nonlocal between
        for rows, products in _products_by_block(real, fake):
            between += float(kernel(products, real.shape[1]).sum())
            yield rows, _apart(products, of_real.lengths[rows], of_fake.lengths)

    found = _tally(apart(), of_real.radii, of_fake.radii, k)
    return of_real.kernel + of_fake.kernel - 2 * between / (len(real) * len(fake)), found


def prdc_of(g: Grams, k: int = K) -> Prdc:
    """The same from inner products; x is real, y fake."""
    x, y = np.diagonal(g.xx), np.diagonal(g.yy)
    r_real = _kth(x[:, None] + x - 2 * g.xx, k)
    r_fake = _kth(y[:, None] + y - 2 * g.yy, k)
    return _tally([(slice(0, len(x)), x[:, None] + y - 2 * g.xy)], r_real, r_fake, k)


def _tally(
    blocks: Iterable[tuple[slice, np.ndarray]], r_real: np.ndarray, r_fake: np.ndarray, k: int
) -> Prdc:
    """From blocks of real rows: squared distances to all fake images, and squared radii."""
    precise = np.zeros(len(r_fake), bool)
    recalled, covered, neighbours = 0, 0, 0
    for rows, squared in blocks:
        within = squared <= r_real[rows, None]  # (b, M)
        precise |= within.any(0)
        neighbours += int(within.sum())
        covered += int(within.any(1).sum())
        recalled += int((squared <= r_fake).any(1).sum())
    n, m = len(r_real), len(r_fake)
    return Prdc(float(precise.mean()), recalled / n, neighbours / (k * m), covered / n)


def _apart(products: np.ndarray, of_x: np.ndarray, of_y: np.ndarray) -> np.ndarray:
    """Squared distances from inner products (b, N), which are overwritten, and squared lengths (b,), (N,)."""
    products *= -2
    products += of_x[:, None] + of_y
    return products


def _products_by_block(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Inner products of some rows of (Nx, D) with all of (Ny, D), in float64, as many as may be held."""
    for rows in _blocks(len(x), len(y)):
        part, products = (
            x[rows].astype(np.float64, copy=False),
            np.empty((rows.stop - rows.start, len(y))),
        )
        for columns in _blocks(len(y), y.shape[1]):
            theirs = y[columns].astype(np.float64, copy=False)
            np.matmul(part, theirs.T, out=products[:, columns])
        yield rows, products


def _lengths(x: np.ndarray) -> np.ndarray:
    """Squared, (N,) float64."""
    blocks = (x[rows].astype(np.float64, copy=False) for rows in _blocks(len(x), x.shape[1]))
    return np.concatenate([np.square(part).sum(1) for part in blocks])


def _kth(squared: np.ndarray, k: int) -> np.ndarray:
    """The squared distance of each row to its k-th neighbour; the nearest of all is itself."""
    return np.partition(squared, k, axis=1)[:, k].copy()  # a view would hold all of the block


def _blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of `count` rows of `width` numbers, as many as may be held."""
    step = max(1, min(_BLOCK, _HELD // max(1, width)))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def compared(x: np.ndarray, y: np.ndarray, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features. Raises VesaliusError when they cannot be compared."""
    x, y = checked(x, least), checked(y, least)
    if x.shape[1] != y.shape[1]:
        raise VesaliusError(f"features of {x.shape[1]} and {y.shape[1]} dimensions do not compare")
    return x, y


def checked(x: np.ndarray, least: int = 2) -> np.ndarray:
    """Features. Raises VesaliusError when there are under `least` or some not finite."""
    if x.ndim != 2 or len(x) < least:
        raise VesaliusError(
            f"the distance needs at least {least} rows of features, not an array {x.shape}"
        )
    if not np.isfinite(x).all():
        raise VesaliusError("the features hold NaN or infinity: the images or the network are bad")
    return x
