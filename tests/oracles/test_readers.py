"""Agreement and equivalence against statsmodels and krippendorff; ORH's parts by brute force."""

import itertools

import numpy as np
import pytest

from vesalius.statistics.agreement import cohen, fleiss, krippendorff
from vesalius.statistics.readers import Readings, auc, means, over_readers
from vesalius.statistics.share import exact_interval

FLEISS = np.array(
    [
        "0",
        "0",
        "0",
        "0",
        "14",
        "0",
        "2",
        "6",
        "4",
        "2",
        "0",
        "0",
        "3",
        "5",
        "6",
        "0",
        "3",
        "9",
        "2",
        "0",
        "2",
        "2",
        "8",
        "1",
        "1",
        "7",
        "7",
        "0",
        "0",
        "0",
        "3",
        "2",
        "6",
        "3",
        "0",
        "2",
        "5",
        "3",
        "2",
        "2",
        "6",
        "5",
        "2",
        "1",
        "0",
        "0",
        "2",
        "2",
        "3",
        "7",
    ],
    int,
).reshape(10, 5)


def test_fleiss_published_table():
    rater = pytest.importorskip("statsmodels.stats.inter_rater")
    ratings = np.array([np.repeat(np.arange(5), row) for row in FLEISS], float)
    assert fleiss(ratings).value == pytest.approx(rater.fleiss_kappa(FLEISS), abs=1e-12)


def test_cohens_kappa_is_statsmodels():
    rater = pytest.importorskip("statsmodels.stats.inter_rater")
    counts = np.random.default_rng(0).integers(0, 20, (5, 5))
    kinds = {"nominal": None, "linear": "linear", "quadratic": "quadratic"}
    for ours, theirs in kinds.items():
        found, expected = cohen(counts, ours), rater.cohens_kappa(counts, wt=theirs)
        assert found.value == pytest.approx(expected.kappa, abs=1e-12)
        assert found.se == pytest.approx(expected.std_kappa, abs=1e-12)
        assert (found.low, found.high) == pytest.approx(
            (expected.kappa_low, expected.kappa_upp), abs=1e-6
        )


@pytest.mark.parametrize("scale", ["nominal", "ordinal", "interval"])
def test_alpha_is_krippendorffs(scale):
    theirs = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(1)
    ratings = np.clip(rng.integers(1, 6, (40, 1)) + rng.integers(-1, 2, (40, 4)), 1, 5).astype(
        float
    )
    ratings[rng.random(ratings.shape) < 0.2] = np.nan
    expected = theirs.alpha(ratings.T, level_of_measurement=scale)
    assert krippendorff(ratings, scale).value == pytest.approx(expected, abs=1e-12)


def test_exact_equivalence_is_statsmodels():
    """Counts whose exact 90 % interval lies inside 0.5 to 0.7, of 500."""
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    inside = [
        count
        for count in range(501)
        if exact_interval(count, 500, 0.9)[0] > 0.5 and exact_interval(count, 500, 0.9)[1] < 0.7
    ]
    assert (inside[0], inside[-1]) == (269, 332)
    assert (inside[0], inside[-1]) == proportion.binom_tost_reject_interval(0.5, 0.7, 500)


def test_the_parts_are_the_covariances():
    """Of an AUC DeLong's, of a mean the sample's by arm, and the jackknife's by leaving cases out."""
    rng = np.random.default_rng(2)
    positive = np.arange(24) < 10
    answers = rng.integers(1, 6, (3, 24)) + positive
    table = Readings(answers, positive)
    figures = auc(table)
    psi = [
        (np.sign(row[positive][:, None] - row[~positive][None]) + 1) / 2 for row in table.answers
    ]
    for i, j in itertools.product(range(3), repeat=2):
        of_positives = np.cov(psi[i].mean(1), psi[j].mean(1))[0, 1] / 10
        of_negatives = np.cov(psi[i].mean(0), psi[j].mean(0))[0, 1] / 14
        assert figures.parts[i] @ figures.parts[j] == pytest.approx(of_positives + of_negatives)
    accuracy = means(Readings(answers > 3, positive), (0.4, 0.6))
    said = (answers > 3).astype(float)
    expected = sum(
        w**2 * np.cov(said[:, arm]) / arm.sum() for w, arm in ((0.6, positive), (0.4, ~positive))
    )
    assert accuracy.parts @ accuracy.parts.T == pytest.approx(expected)
    for function in (auc, lambda t, **k: means(t, (0.4, 0.6), **k)):
        left_out = [
            function(Readings(np.delete(answers, k, 1), np.delete(positive, k))).values
            for k in range(24)
        ]
        apart = np.array(left_out) - np.mean(left_out, axis=0)
        found = function(table, jackknife=True).parts
        assert found @ found.T == pytest.approx(23 / 24 * apart.T @ apart)


def test_the_published_form_of_two_modalities():
    """Obuchowski-Rockette's F with Cov2 - Cov3 is that of the differences."""
    rng = np.random.default_rng(3)
    positive = np.arange(60) < 25
    shared = rng.normal(size=60) + positive
    first, second = (auc(Readings(shared + rng.normal(size=(4, 60)), positive)) for _ in range(2))
    values = np.stack([first.values, second.values])
    apart = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    ms_tr, ms_t = (apart**2).sum() / 3, 4 * values.mean(1).var(ddof=1)
    off = ~np.eye(4, dtype=bool)
    cov2 = np.mean([(x.parts @ x.parts.T)[off].mean() for x in (first, second)])
    cov3 = (first.parts @ second.parts.T)[off].mean()
    down = ms_tr + 4 * max(cov2 - cov3, 0)
    found = over_readers(first - second)
    assert (found.value / found.se) ** 2 == pytest.approx(ms_t / down)
    assert found.df == pytest.approx(down**2 / (ms_tr**2 / 3))
