import pytest
import torch

from vesalius.train.discriminator import (
    PatchDiscriminator,
    balance,
    hinge,
    largest_singular_value,
)


def test_the_norm_is_that_of_a_singular_value_decomposition_and_so_is_its_gradient():
    torch.manual_seed(0)
    for layer in PatchDiscriminator().layers:
        weight = layer.weight.detach().double().requires_grad_()
        exact = torch.linalg.matrix_norm(weight.flatten(1), 2)
        (expected,) = torch.autograd.grad(exact, weight)
        got = largest_singular_value(layer.weight)
        (gradient,) = torch.autograd.grad(got, layer.weight)
        # a power iteration gives a bound from below, exact up to a nearly equal second value
        assert got.item() == pytest.approx(exact.item(), rel=5e-3)
        assert torch.cosine_similarity(gradient.flatten(), expected.float().flatten(), 0) > 0.8


def test_an_image_is_judged_alike_alone_and_in_a_batch():
    """Else what is made would be told from what is real by the batch it comes in."""
    torch.manual_seed(0)
    judge, x = PatchDiscriminator(), torch.randn(3, 3, 32, 40)
    assert judge(x).shape == (3, 1, 4, 5)
    assert torch.allclose(judge(x)[1], judge(x[1:2])[0], atol=1e-6)
    assert not list(judge.buffers())  # a checkpoint holds parameters alone


def test_hinge_is_zero_from_a_lead_of_one_on():
    winner, loser = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([1.0, 0.0, 1.0])
    assert hinge(winner, loser).item() == pytest.approx((0 + 0.5 + 3) / 3)


def test_balance_shortens_a_gradient_to_the_others_length_and_never_lengthens_it():
    short, long = torch.tensor([0.3, 0.4]), torch.tensor([6.0, 8.0, 0.0])
    assert (balance(short, long) * long).norm().item() == pytest.approx(0.5)
    assert balance(long, short).item() == 1
    assert balance(long, torch.zeros(3)).item() == 1
