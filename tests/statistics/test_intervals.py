import numpy as np
import pytest

from vesalius.statistics.distances import fid_of, grams
from vesalius.statistics.intervals import halves, interval, replicate, subsample


def test_a_subsample_repeats_nothing_and_keeps_patients_whole():
    rng = np.random.default_rng(0)
    rows = subsample(40, 0.5, rng)
    assert len(rows) == len(set(rows.tolist())) == 20
    patients = [f"p{k // 4}" for k in range(40)]
    for _ in range(20):
        rows = subsample(40, 0.5, rng, patients)
        assert len(rows) == 20
        assert len({patients[k] for k in rows}) == 5


def test_halves_share_no_row_and_no_patient():
    rng = np.random.default_rng(0)
    first, second = halves(40, 15, rng)
    assert len(first) == len(second) == 15 and not set(first) & set(second)
    patients = np.array([f"p{k // 4}" for k in range(40)])
    first, second = halves(40, 15, rng, patients.tolist())
    assert len(first) == 15 and not set(patients[first]) & set(patients[second])


def test_too_few_images_give_no_replicates():
    assert replicate(lambda rows: {"a": 1.0}, (9,)) == ({}, 0.0)
    assert replicate(lambda a, b: {"a": 1.0}, (12, 10_000), least=5) == ({}, 0.0)


def test_many_images_of_few_patients_give_no_replicates():
    """One patient would be in every replicate whole, and the interval of no width."""
    of_nine = [f"p{k % 9}" for k in range(90)]
    for patients in (["alone"] * 90, of_nine):
        found = replicate(lambda a, b: {"a": 1.0}, (90, 90), groups=(None, patients))
        assert found == ({}, 0.0)
    of_ten = [f"p{k % 10}" for k in range(90)]
    assert replicate(lambda a: {"a": 1.0}, (90,), groups=(of_ten,))[0]


def test_a_mean_gets_the_interval_of_the_textbook():
    x = np.random.default_rng(0).normal(size=2000)
    for most in (1000, 200):  # halves, and smaller subsamples that are scaled
        found, fraction = replicate(
            lambda rows: {"m": x[rows].mean()}, (2000,), times=2000, most=most
        )
        low, high = interval(x.mean(), found["m"], fraction)
        assert high - low == pytest.approx(2 * 1.96 * x.std() / np.sqrt(2000), rel=0.08)
        assert (low + high) / 2 == pytest.approx(x.mean(), abs=0.1 * (high - low))


def test_a_mean_of_patients_gets_the_interval_of_the_textbook():
    """Half of 15 patients are 8: more than half of the images, which a replicate's spread must know."""
    of_patient = np.random.default_rng(3).normal(size=15)
    x, patients = np.repeat(of_patient, 8), np.repeat(np.arange(15), 8).astype(str).tolist()
    found, fraction = replicate(
        lambda rows: {"m": x[rows].mean()}, (120,), times=4000, groups=(patients,)
    )
    assert fraction == pytest.approx(64 / 120)
    spread = found["m"].std() * np.sqrt(fraction / (1 - fraction))
    assert spread == pytest.approx(of_patient.std(ddof=1) / np.sqrt(15), rel=0.04)


def gaussians(rng, n, dims, shift, scale):
    spectrum = 1 / np.sqrt(1 + np.arange(dims))
    x, y = rng.normal(size=(n, dims)) * spectrum, rng.normal(size=(n, dims)) * spectrum * scale
    y[:, 0] += shift
    return x, y


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("dims", "shift", "scale", "n", "trials"),
    [
        pytest.param(16, 0.0, 1.5, 30, 30, id="quick-few-dimensions"),
        pytest.param(80, 0.0, 1.3, 30, 30, id="quick-many"),
        pytest.param(16, 1.0, 1.0, 60, 150, id="few-shifted", marks=SLOW),
        pytest.param(16, 0.0, 1.5, 60, 150, id="few-wider", marks=SLOW),
        pytest.param(120, 0.0, 1.3, 60, 150, id="many-wider", marks=SLOW),
        pytest.param(120, 1.0, 1.0, 60, 150, id="many-shifted", marks=SLOW),
    ],
)
def test_intervals_of_fid_hold_what_they_promise_and_the_usual_bootstrap_does_not(
    dims, shift, scale, n, trials
):
    # the truth: what FID is on average at this n, from many draws of both sets
    rng = np.random.default_rng(0)
    truth = np.mean([fid_of(grams(*gaussians(rng, n, dims, shift, scale))) for _ in range(200)])
    ours, usual = 0, 0
    for trial in range(trials):
        g = grams(*gaussians(rng, n, dims, shift, scale))
        value = fid_of(g)

        def statistic(i, j, g=g):
            return {"fid": fid_of(g.take(i, j))}

        found, fraction = replicate(statistic, (n, n), times=40, seed=trial)
        low, high = interval(value, found["fid"], fraction)
        ours += low <= truth <= high
        with_repeats = [
            fid_of(g.take(rng.integers(0, n, n), rng.integers(0, n, n))) for _ in range(40)
        ]
        low, high = np.quantile(with_repeats, (0.025, 0.975))
        usual += low <= truth <= high
    assert ours / trials >= 0.85  # 95 % is promised; 30 trials tell it to 8 %
    assert usual < ours
