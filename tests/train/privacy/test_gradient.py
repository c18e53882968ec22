"""The private gradient: against an oracle, its sensitivity, its noise, its draws."""

from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from private_gradients import (
    SIZES,
    Rows,
    audited_gradient,
    gradient_of,
    patients_of,
    trained,
    weights_of,
)
from safetensors.torch import load_file
from scipy.stats import binom, chi2
from tests.small import in_two_processes
from torch.func import functional_call, grad, vmap

from vesalius.train.privacy.accountant import Mechanism
from vesalius.train.privacy.gradient import clipped


def oracle(method, clip_norm):
    """The sum of clipped gradients of patients, by torch.func over their padded images."""
    weights = {name: p.detach() for name, p in weights_of(method).items()}
    most = max(SIZES)
    padded = torch.zeros(len(SIZES), most, 6, dtype=torch.float64)
    mask = torch.zeros(len(SIZES), most, dtype=torch.float64)
    for number, rows in enumerate(patients_of(SIZES)):
        padded[number, : len(rows)] = method.x[rows]
        mask[number, : len(rows)] = 1 / len(rows)

    def loss(weights, x, share):
        return (functional_call(method.module, weights, (x,)).square().mean(-1) * share).sum()

    each = vmap(grad(loss), (None, 0, 0))(weights, padded, mask)
    flat = torch.cat([value.flatten(1) for value in each.values()], 1)
    return (flat * (clip_norm / flat.norm(dim=1).clamp_min(clip_norm))[:, None]).sum(0)


@pytest.mark.parametrize("micro", [None, 1, 3, 8])
@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_clipped_sums_equal_the_oracle(micro, draws, ranks, monkeypatch):
    method = Rows(sum(SIZES))
    gradient = gradient_of(method, noise_draws=draws)
    total = 0
    for rank in range(ranks):
        place = SimpleNamespace(rank=lambda rank=rank: rank, world_size=lambda: ranks)
        monkeypatch.setattr("vesalius.train.privacy.gradient.ranks", place)
        total = total + gradient.clipped_sum(weights_of(method), 0, micro)
    torch.testing.assert_close(total, oracle(method, 0.05), rtol=1e-12, atol=1e-14)
    assert all(p.grad is None for p in method.module.parameters())


@pytest.mark.parametrize("patient", range(len(SIZES)))
def test_a_patient_moves_the_sum_by_the_clip_norm_at_most(patient):
    method = Rows(sum(SIZES), torch.float32)
    gradient = gradient_of(method, mechanism=Mechanism(1.0, 0.7, 9), noise_draws=2)
    moved = []
    for step in range(12):
        method.empty = set()
        whole = gradient.clipped_sum(weights_of(method), step)
        method.empty = set(patients_of(SIZES)[patient])
        without = gradient.clipped_sum(weights_of(method), step)
        moved.append(float((whole - without).norm()))
        if patient not in gradient.drawn(step):
            assert moved[-1] == 0
    assert 0 < max(moved) <= 0.05 * (1 + 1e-5)


def test_a_patient_whose_gradient_is_not_finite_counts_as_zero():
    for value in (float("nan"), float("inf"), 1e30):
        assert clipped(torch.tensor([1.0, value]), 0.5).tolist() == [0, 0]
    assert clipped(torch.tensor([3.0, 4.0]), 0.5).tolist() == pytest.approx([0.3, 0.4])
    assert clipped(torch.tensor([0.0, 0.1]), 0.5).tolist() == pytest.approx([0.0, 0.1])
    method = Rows(sum(SIZES))
    good = gradient_of(method).clipped_sum(weights_of(method), 0)
    method.x[0] = float("nan")
    without = gradient_of(method).clipped_sum(weights_of(method), 0)
    assert torch.isfinite(without).all()
    assert not torch.equal(good, without)


def check_noise(noise):
    """It is N(0, (sigma C / B)^2)."""
    values = noise.double() / (1.5 * 0.05 / 4)
    low, high = chi2.ppf([1e-4, 1 - 1e-4], values.numel())
    assert low < float(values.square().sum()) < high
    assert abs(float(values.mean())) < 4 / values.numel() ** 0.5


def test_zero_gradients_get_the_noise_that_is_claimed():
    method = Rows(sum(SIZES), torch.float32)
    method.empty = set(range(sum(SIZES)))
    # at this chance most steps have no patient at all: they step on noise
    gradient, weights = gradient_of(method, mechanism=Mechanism(1.5, 0.05, 9)), weights_of(method)
    noise = []
    for step in range(40):
        gradient(weights, step, None)
        noise.append(torch.cat([p.grad.flatten() for p in weights.values()]))
    check_noise(torch.stack(noise))


def test_patients_are_drawn_as_a_poisson_sample():
    count, rate, steps = 300, 0.3, 400
    gradient = gradient_of(Rows(count), [1] * count, Mechanism(1.0, rate, steps))
    drawn = [gradient.drawn(step) for step in range(steps)]
    sizes = torch.tensor([len(each) for each in drawn], dtype=torch.float64)
    spread = count * rate * (1 - rate)
    low, high = chi2.ppf([1e-4, 1 - 1e-4], steps)
    assert low < float((sizes - count * rate).square().sum() / spread) < high
    times = torch.bincount(torch.tensor([*chain(*drawn)]), minlength=count)
    assert binom.ppf(1e-6, steps, rate) < times.min()
    assert times.max() < binom.ppf(1 - 1e-6, steps, rate)
    assert drawn == [gradient.drawn(step) for step in range(steps)]
    other = gradient_of(Rows(count), [1] * count, Mechanism(1.0, rate, steps), secret="01")
    assert [other.drawn(step) for step in range(3)] != drawn[:3]


def test_what_is_drawn_of_a_patient():
    gradient = gradient_of(Rows(sum(SIZES)), images_per_patient=3, noise_draws=2)
    rows = gradient._images(4, torch.Generator().manual_seed(0))
    assert len(rows) == 6
    assert len({*rows.tolist()}) == 3
    assert {*rows.tolist()} <= {*patients_of(SIZES)[4]}
    assert len(gradient._images(0, torch.Generator())) == 2


def test_two_processes_add_up_to_one_and_add_the_same_noise_once(tmp_path):
    pytest.importorskip("dp_accounting")
    done = in_two_processes(Path(__file__).with_name("private_steps.py"), tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)  # weights never part
    method = Rows(sum(SIZES))
    gradient = gradient_of(method, noise_draws=2)
    alone = [gradient.clipped_sum(weights_of(method), step) for step in range(3)]
    torch.testing.assert_close(first["sums"], torch.stack(alone), rtol=1e-12, atol=1e-14)
    check_noise(first["noise"])
    coins, scores = first["canaries"]
    gradient = audited_gradient()
    gradient.kept["canaries"]["inside"] = coins.bool().tolist()
    seen = trained(gradient).kept["canaries"]["scores"]
    torch.testing.assert_close(torch.tensor(seen, dtype=torch.float64), scores)
