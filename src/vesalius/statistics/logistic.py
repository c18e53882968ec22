"""Logistic regression with an L2 penalty, and its cross-validated scores, for small tables of numbers."""

import numpy as np

_STEPS = 50
_FAR = 8.0  # standard deviations: what is further away counts as that far


def logistic(x: np.ndarray, positive: np.ndarray, l2: float = 1.0) -> np.ndarray:
    """The weights (D + 1,), intercept last, that minimise log loss + l2 / 2 * |weights|^2.

    `x` (N, D) is of about unit scale, `positive` (N,) bool. By Newton's method; the intercept is free.
    """
    design = np.column_stack([x, np.ones(len(x))])
    penalty = np.full(design.shape[1], l2)
    penalty[-1] = 1e-9
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (p - positive) + penalty * weights
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def cross_validated(
    x: np.ndarray, positive: np.ndarray, groups: np.ndarray, folds: int, rng: np.random.Generator
) -> np.ndarray:
    """The logit (N,) of each row by a regression that saw no row of its group.

    Columns of `x` (N, D) are standardised by the rows that a regression learns from; `groups` (N,) are
    whole numbers from 0, divided into at most so many folds at random.
    """
    several = int(groups.max()) + 1
    folds = min(folds, several)
    fold = rng.permutation(np.arange(several) % folds)[groups]
    scores = np.zeros(len(x))
    for number in range(folds):
        out = fold == number
        mean, scale = x[~out].mean(0), x[~out].std(0)
        scale[scale < 1e-9 * (1 + np.abs(mean))] = np.inf  # a constant tells nothing
        some = np.clip((x - mean) / scale, -_FAR, _FAR)
        weights = logistic(some[~out], positive[~out])
        scores[out] = some[out] @ weights[:-1] + weights[-1]
    return scores
