import copy

import pytest
import torch
from line_method import Net
from torch import nn

from vesalius.train.average import start_averages, swapped, update_averages


def weights_of(module):
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def test_an_average_moves_half_way_in_its_half_life():
    module = nn.Linear(1, 1)
    nn.init.zeros_(module.weight)
    averages = start_averages(weights_of(module), (32, 64))
    nn.init.ones_(module.weight)
    before = copy.deepcopy(module.state_dict())
    for _ in range(4):  # 32 images, late in a run
        update_averages(averages, weights_of(module), seen=10_000, batch=8)
    assert averages[32]["weight"].item() == pytest.approx(0.5)
    assert averages[64]["weight"].item() == pytest.approx(1 - 0.5**0.5)
    assert torch.equal(module.weight, before["weight"])


def test_a_young_run_averages_over_its_own_age():
    """Else the random initial weights would be most of what is saved."""
    module = nn.Linear(1, 1)
    nn.init.zeros_(module.weight)
    averages = start_averages(weights_of(module), (1_000_000,))
    nn.init.ones_(module.weight)
    for step in range(100):
        update_averages(averages, weights_of(module), seen=8 * step, batch=8)
    assert averages[1_000_000]["weight"].item() > 0.9


def test_the_last_fifth_of_a_young_run_is_half_of_its_average():
    """A half-life of a quarter of the age n gives what came before s the weight (s / n) ** 2.77."""
    module = nn.Linear(1, 1)
    nn.init.zeros_(module.weight)
    averages = start_averages(weights_of(module), (1_000_000,))
    for step in range(2000):
        if step == 1558:
            nn.init.ones_(module.weight)
        update_averages(averages, weights_of(module), seen=8 * step, batch=8)
    assert averages[1_000_000]["weight"].item() == pytest.approx(0.5, abs=0.01)


def test_frozen_weights_have_no_average():
    averages = start_averages(weights_of(Net()), (8,))
    assert not [name for name in averages[8] if name.startswith("frozen")]


def test_a_swap_is_undone_to_the_bit_even_after_a_failure():
    module = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
    weights = weights_of(module)
    average = {name: torch.randn_like(p) for name, p in weights.items()}
    live = {name: p.detach().clone() for name, p in weights.items()}
    kept = {name: value.clone() for name, value in average.items()}
    addresses = [p.data_ptr() for p in module.parameters()]
    with pytest.raises(RuntimeError), swapped(weights, average):
        assert all(torch.equal(weights[name], kept[name]) for name in weights)
        raise RuntimeError
    assert all(torch.equal(weights[name], live[name]) for name in weights)
    assert all(torch.equal(average[name], kept[name]) for name in weights)
    assert addresses == [p.data_ptr() for p in module.parameters()]
    assert module.weight.is_contiguous(memory_format=torch.channels_last)
