"""The test for memorising, on points whose answer is known."""

import warnings

import numpy as np
import pytest

from vesalius.images.nearness import neighbours
from vesalius.statistics.two_sample import log_ratio, memorising_test, tail_test


def nearest(synthetic: np.ndarray, real: np.ndarray, k: int = 40) -> tuple[np.ndarray, np.ndarray]:
    found = neighbours(synthetic[None, :, None].astype("f4"), real[:, None].astype("f4"), k)
    return found.index, found.distance


def draw(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal((n, 6))


def test_p_is_uniform_when_nothing_was_memorised():
    rng, found = np.random.default_rng(0), []
    for trial in range(200):
        real, synthetic = draw(rng, 120), draw(rng, 40)
        held_out = np.arange(120) >= 90
        found.append(
            memorising_test(*nearest(synthetic, real), held_out, permutations=99, seed=trial).p
        )
    observed = [np.mean(np.array(found) <= level) for level in (0.05, 0.1, 0.25, 0.5, 0.9)]
    np.testing.assert_allclose(observed, [0.05, 0.1, 0.25, 0.5, 0.9], atol=0.1)
    assert np.mean(np.array(found) <= 0.05) <= 0.1  # binomial: more has a chance of 1 in 500


def test_p_stays_uniform_when_patients_have_several_images_and_sources_are_held_out_unevenly():
    rng, found = np.random.default_rng(1), []
    for trial in range(150):
        # source b lies elsewhere, is all that is generated, and half of it is held out
        patients = np.repeat(draw(rng, 60), 3, axis=0)
        real = patients + 0.05 * rng.standard_normal(patients.shape)
        strata = np.where(np.arange(180) < 90, "a", "b")
        real[90:] += 8
        of_patient = rng.permutation(30)
        held_patients = [*range(3), *(30 + of_patient[:15])]
        groups = np.repeat(np.arange(60), 3)
        held_out = np.isin(groups, held_patients)
        synthetic = draw(rng, 30) + 8
        test = memorising_test(
            *nearest(synthetic, real, 90), held_out, groups=groups.astype(str).tolist(),
            strata=strata.tolist(), permutations=99, seed=trial,
        )  # fmt: skip
        found.append(test.p)
    assert np.mean(np.array(found) <= 0.05) <= 0.11
    assert np.mean(found) == pytest.approx(0.5, abs=0.09)


def test_few_copies_among_many_images_are_noticed():
    rng = np.random.default_rng(2)
    real = draw(rng, 500)
    held_out = np.arange(500) >= 400
    synthetic = draw(rng, 200)
    clean = memorising_test(*nearest(synthetic, real), held_out)
    synthetic[:20] = real[:20] + 0.01 * draw(rng, 20)
    copied = memorising_test(*nearest(synthetic, real), held_out)
    assert clean.p > 0.05
    assert copied.p <= 0.005
    assert copied.ratio < clean.ratio
    assert (copied.n, copied.n_train, copied.n_held_out) == (200, 400, 100)


def test_a_set_that_is_nearer_to_held_out_images_is_no_memorising():
    rng = np.random.default_rng(3)
    real = draw(rng, 300)
    held_out = np.arange(300) >= 200
    found = memorising_test(*nearest(real[200:240] + 0.01, real), held_out)
    assert found.p > 0.9
    assert found.ratio > 1


def test_exact_copies_have_a_ratio():
    rng = np.random.default_rng(4)
    real = draw(rng, 100)
    found = memorising_test(*nearest(real[:20], real), np.arange(100) >= 50)
    assert 0 < found.ratio < 0.1
    assert found.p == 1 / 1000


def ratios(rng, n, copies=0):
    found = rng.normal(0.1, 0.2, n)
    found[:copies] = -3
    return found


def test_the_tail_of_honest_images_is_called_as_seldom_as_is_asked_for():
    rng, found = np.random.default_rng(5), []
    for trial in range(300):
        # source b is spread wider, and has other numbers of both kinds
        synthetic = np.concatenate([ratios(rng, 60), 2 * ratios(rng, 20)])
        honest = np.concatenate([ratios(rng, 30), 2 * ratios(rng, 50)])
        strata = ["a"] * 60 + ["b"] * 20, ["a"] * 30 + ["b"] * 50
        test = tail_test(synthetic, honest, strata, permutations=99, seed=trial)
        found.append(test.p)
    assert np.mean(np.array(found) <= 0.05) <= 0.085  # binomial: more has a chance of 1 in 200
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.09)


def test_a_few_copies_show_in_the_tail_though_almost_all_real_images_were_trained_on():
    rng = np.random.default_rng(6)
    real = draw(rng, 900)
    held_out = np.arange(900) >= 800
    synthetic = draw(rng, 100)
    synthetic[:8] = real[:8] + 0.01 * draw(rng, 8)
    assert memorising_test(*nearest(synthetic, real), held_out).p > 0.05  # 0.89^8 by chance
    to_train, to_new = (nearest(synthetic, part, 1)[1][:, 0] for part in (real[:800], real[800:]))
    own = nearest(real[800:], real[:800], 1)[1][:, 0]
    others = nearest(real[800:], real[800:], 2)[1][:, 1]
    found = tail_test(log_ratio(to_train, to_new), log_ratio(own, others), ([""] * 100, [""] * 100))
    assert found.p <= 0.05
    assert found.share > found.honest


def test_images_nearer_to_new_ones_are_no_tail():
    rng = np.random.default_rng(7)
    found = tail_test(ratios(rng, 50) + 1, ratios(rng, 50), (["a"] * 50, ["a"] * 50))
    assert found.p > 0.9
    assert found.share < found.honest


def test_sources_of_one_kind_alone_tell_nothing():
    rng = np.random.default_rng(8)
    assert tail_test(ratios(rng, 9), ratios(rng, 9), (["a"] * 9, ["b"] * 9)) is None
    both = tail_test(ratios(rng, 9), ratios(rng, 9), (["a"] * 5 + ["c"] * 4, ["a"] * 9))
    assert (both.n, both.n_honest) == (5, 9)


def test_no_images_have_no_ratio_and_no_warning():
    with np.errstate(all="raise"), warnings.catch_warnings(action="error"):
        assert log_ratio(np.empty(0), np.empty(0)).shape == (0,)
