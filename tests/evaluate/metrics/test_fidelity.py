import numpy as np
import pytest

from vesalius.evaluate.metrics import fidelity as module
from vesalius.evaluate.metrics.fidelity import fidelity, gap_to_trained
from vesalius.statistics.distances import fid, grams

NAMES = {"fid", "kid", "precision", "recall", "density", "coverage"}


def normal(count, seed, shift=0.0, dims=24):
    return np.random.default_rng(seed).normal(size=(count, dims)) + shift


def test_every_figure_has_its_interval_its_n_and_its_floor():
    found = fidelity(normal(120, 0), normal(80, 1, shift=0.3), times=40)
    assert set(found) == NAMES
    for figure in found.values():
        assert figure.n == 80 and figure.n_real == 120 and figure.floor_n == 60
        assert figure.low is not None and figure.high is not None
        assert figure.low <= figure.value <= figure.high
        assert figure.floor is not None and figure.at_floor_n is not None
        assert figure.note == ""
    assert found["fid"].at_floor_n > found["fid"].floor  # shifted: not what real images have
    assert found["kid"].low > 0
    assert found["recall"].low >= 0 and found["recall"].high <= 1
    assert found["kid"].details["subsets"] == 100
    assert fidelity(normal(120, 0), normal(80, 1, shift=0.3), times=40) == found


def test_real_images_in_the_place_of_synthetic_ones_are_at_the_floor():
    found = fidelity(normal(200, 0), normal(100, 1), times=40)
    assert found["fid"].at_floor_n == pytest.approx(found["fid"].floor, rel=0.1)
    assert found["kid"].low < 0 < found["kid"].high


def test_other_real_images_give_the_floor_at_the_very_same_n():
    found = fidelity(normal(60, 0), normal(80, 1), other_real=normal(300, 2), times=20)
    for figure in found.values():
        assert figure.floor_n == 80 and figure.at_floor_n == figure.value
    assert found["fid"].floor == pytest.approx(found["fid"].value, rel=0.15)


def test_the_floor_of_many_images_is_that_of_their_inner_products(monkeypatch):
    # decomposed by dimensions (24) or by images (60 a half): one figure, whatever is cheaper
    whole = fidelity(normal(120, 0), normal(80, 1), times=2)

    def of_products(real, fake, of_real):
        return module._all_of(grams(real, fake))

    monkeypatch.setattr(module, "_of_whole_sets", of_products)
    for name, figure in fidelity(normal(120, 0), normal(80, 1), times=2).items():
        assert whole[name].floor == pytest.approx(figure.floor, rel=1e-9)
        assert whole[name].at_floor_n == pytest.approx(figure.at_floor_n, rel=1e-9)


def test_patients_widen_the_interval():
    # ten patients with twelve images each, all but equal: ten images' worth of knowledge
    rng = np.random.default_rng(0)
    real = np.repeat(rng.normal(size=(10, 8)), 12, axis=0) + 0.01 * rng.normal(size=(120, 8))
    fake = normal(120, 1, dims=8)
    patients = [f"p{k // 12}" for k in range(120)]
    blind = fidelity(real, fake, times=60)["fid"]
    aware = fidelity(real, fake, times=60, real_groups=patients)["fid"]
    assert aware.high - aware.low > 1.3 * (blind.high - blind.low)
    # halves of the same patients would be at a floor that no new patient reaches
    assert aware.floor > 1.5 * blind.floor


def test_too_few_images_say_what_was_given_up():
    found = fidelity(normal(40, 0), normal(4, 1), times=10)
    assert found["precision"].value is None
    assert found["precision"].note == (
        "needs 7 images on each side, there are 4 synthetic ones: left out"
    )
    assert found["fid"].value is not None and found["fid"].low is None
    assert "unreliable: 4 images" in found["fid"].note
    assert "too few images for an interval" in found["fid"].note
    assert "floor" in found["fid"].note
    none = fidelity(normal(40, 0), normal(0, 1), times=10)
    assert all(figure.value is None and "there are 0" in figure.note for figure in none.values())


def test_memorising_shows_beside_held_out_images_and_only_then():
    train, held_out = normal(300, 0), normal(100, 1)
    copies = train[:100] + 0.05 * normal(100, 2)
    # as many of each, so that the larger set is not the nearer one for its size
    found = gap_to_trained(train[:100], held_out, copies, times=60)
    assert found["fid"].low > 0 and found["kid"].low > -1e-2
    expected = fid(held_out, copies) - fid(train[:100], copies)
    assert found["fid"].value == pytest.approx(expected)
    honest = gap_to_trained(train, held_out, normal(100, 3), times=60)
    assert honest["fid"].n_real == honest["recall"].n_real == 100
    assert honest["fid"].low < 0 < honest["fid"].high


def test_patients_of_many_images_widen_the_gap_to_what_was_trained_on():
    rng = np.random.default_rng(0)
    train, held_out = (
        np.repeat(rng.normal(size=(12, 8)), 10, axis=0) + 0.01 * rng.normal(size=(120, 8))
        for _ in range(2)
    )
    patients = [f"p{k // 10}" for k in range(120)]
    fake = normal(120, 1, dims=8)
    blind = gap_to_trained(train, held_out, fake, times=60)["fid"]
    aware = gap_to_trained(train, held_out, fake, groups=(patients, patients), times=60)["fid"]
    assert aware.value == blind.value
    assert aware.high - aware.low > 1.5 * (blind.high - blind.low)


def test_one_patient_has_no_interval():
    found = fidelity(normal(60, 0), normal(60, 1), real_groups=["alone"] * 60, times=10)
    assert found["fid"].low is None and "too few patients" in found["fid"].note


def test_memorising_of_too_few_images_has_no_value():
    found = gap_to_trained(normal(5, 0), normal(5, 1), normal(5, 2), times=10)
    assert found["fid"].value is not None and found["recall"].value is None
    assert all(
        figure.value is None
        for figure in gap_to_trained(*[normal(1, k) for k in range(3)], times=10).values()
    )
