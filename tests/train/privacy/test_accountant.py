"""The accountant against published figures, and sigma against the table of docs/privacy.md."""

import math

import pytest

from vesalius.train.privacy.accountant import Mechanism, calibrated, noise_over_signal

pytest.importorskip("dp_accounting")


@pytest.mark.parametrize(
    ("steps", "pld", "rdp"), [(3515, 1.1337, 1.2811), (14_062, 2.3817, 2.5966)]
)
def test_epsilon_of_known_trainings(steps, pld, rdp):
    mechanism = Mechanism(1.1, 256 / 60_000, steps)
    assert mechanism.epsilon(1e-5) == pytest.approx(pld, abs=1e-4)
    assert mechanism.epsilon(1e-5, "rdp") == pytest.approx(rdp, abs=1e-4)


@pytest.mark.parametrize(
    ("patients", "batch", "steps", "sigma"),
    [(200, 100, 300, 4.38), (1000, 256, 500, 3.21), (10_000, 1024, 1000, 2.10)],
)
def test_sigma_of_known_trainings(patients, batch, steps, sigma):
    delta = 1 / (10 * patients)
    found = calibrated(batch / patients, steps, 8.0, delta)
    assert found.sigma == pytest.approx(sigma, abs=0.012)
    assert 7.9 < found.epsilon(delta) <= 8


def test_sigma_of_one_sum():
    # one Gaussian over 200 patients, as for aggregated embeddings
    assert calibrated(1.0, 1, 8.0, 1 / 2000).sigma == pytest.approx(0.50, abs=0.01)
    strict = calibrated(1.0, 1, 1.0, 1 / 2000)
    assert noise_over_signal(strict, 768, 200) == pytest.approx(0.38, abs=0.01)


def test_no_noise_is_no_guarantee():
    assert calibrated(0.1, 10, math.inf, 1e-5).sigma == 0
    assert Mechanism(0.0, 0.1, 10).epsilon(1e-5) == math.inf


def test_noise_over_signal_of_a_lora():
    assert noise_over_signal(Mechanism(4.38, 0.5, 300), 8 * 768, 100) == pytest.approx(
        3.4, abs=0.05
    )
