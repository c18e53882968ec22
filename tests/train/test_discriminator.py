import pytest
import torch

from vesalius.train.discriminator import BETAS, PatchDiscriminator, balance, hinge


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


def test_balance_gives_a_gradient_the_others_length():
    short, long = torch.tensor([0.3, 0.4]), torch.tensor([6.0, 8.0, 0.0])
    assert (balance(short, long) * long).norm().item() == pytest.approx(0.5)
    assert (balance(long, short) * short).norm().item() == pytest.approx(10)
    assert torch.equal(balance(long, torch.zeros(3)) * torch.zeros(3), torch.zeros(3))


def test_a_slight_blur_is_told_from_its_image_in_few_steps():
    """What it is for: a decoder's blur differs from its image by little."""
    torch.manual_seed(0)
    judge = PatchDiscriminator()
    optimiser = torch.optim.Adam(judge.parameters(), lr=5e-4, betas=BETAS)
    for _ in range(60):
        x = torch.rand(8, 3, 32, 32) * 0.2
        y = 0.5 * x + 0.5 * torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        loss = hinge(judge(x), judge(y))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3
