"""Guidance by several prompts is the paper's formula; its interval and rescaling do what they say."""

import pytest
import torch

from vesalius.sample.guidance import Guidance, Text, guided


def linear(latents, timestep, states):
    return latents + states.mean(dim=(1, 2))[:, None, None, None]


def test_composition_is_the_formula_in_one_call():
    calls = []

    def denoiser(latents, timestep, states):
        calls.append(len(latents))
        return linear(latents, timestep, states)

    states = torch.stack([torch.full((2, 3, 4), 5.0), torch.full((2, 3, 4), 2.0)], dim=1)
    negative, weights = torch.full((2, 3, 4), 1.0), torch.tensor([[0.5, 1.0], [1.0, -1.0]])
    text = Text(states, negative, weights)
    moved = guided(denoiser, torch.zeros(2, 1, 1, 1), torch.tensor(1), text, 3.0)
    # 1 + 3 (0.5 * 4 + 1 * 1) and 1 + 3 (1 * 4 - 1 * 1)
    assert moved.flatten().tolist() == [10, 10]
    assert calls == [6]


def test_one_prompt_of_weight_one_is_the_plain_formula():
    draw = torch.Generator().manual_seed(0)
    latents, states = torch.randn(2, 4, 3, 3, generator=draw), torch.randn(2, 1, 3, 4)
    plain, composed = (
        guided(linear, latents, torch.tensor(1), Text(states, torch.zeros(2, 3, 4), weights), 2.5)
        for weights in (None, torch.ones(2, 1))
    )
    torch.testing.assert_close(composed, plain)


def test_rescaling_gives_back_the_deviation_without_guidance():
    draw = torch.Generator().manual_seed(0)
    texture = torch.randn(1, 4, 8, 8, generator=draw)

    def denoiser(latents, timestep, states):
        return latents * states.mean(dim=(1, 2))[:, None, None, None]

    text = Text(torch.full((1, 1, 3, 4), 2.0), torch.zeros(1, 3, 4))
    arguments = (denoiser, texture, torch.tensor(1), text, 5.0)
    assert guided(*arguments).std() == pytest.approx(10 * texture.std().item(), rel=1e-4)
    full = guided(*arguments, rescale=1.0)
    assert full.std() == pytest.approx(2 * texture.std().item(), rel=1e-4)
    half = guided(*arguments, rescale=0.5)
    assert half.std() == pytest.approx(6 * texture.std().item(), rel=1e-4)


def test_the_interval_is_part_of_the_steps():
    guidance = Guidance(4.0, interval=(0.2, 0.6))
    assert [guidance.at(k, 10) for k in range(10)] == [1, 1, 4, 4, 4, 4, 1, 1, 1, 1]
    assert [Guidance(4.0).at(k, 3) for k in range(3)] == [4, 4, 4]
