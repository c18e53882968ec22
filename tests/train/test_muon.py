"""Muon beside torch's own, and in a run."""

import json

import pytest
import torch
from line_method import Line, final_tensors, plan
from torch import nn

from vesalius.config import load_recipe
from vesalius.errors import VesaliusError
from vesalius.train.loop import train
from vesalius.train.muon import Muon, hidden_matrices, orthogonal
from vesalius.train.networks import EDGES, build_denoiser
from vesalius.train.optimiser import build_optimiser
from vesalius.train.resuming import made_with
from vesalius.train.session import Session


def matrices(*shapes):
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in shapes]


def steps(optimiser, weights, count=4):
    """Take steps with gradients that are the same at each call."""
    draw = torch.Generator().manual_seed(1)
    for _ in range(count):
        for weight in weights:
            gradient = torch.randn(weight.flatten(1).shape, generator=draw)
            weight.grad = gradient.view(weight.shape)
        optimiser.step()


def test_matrices_take_the_steps_of_torch_s_muon():
    shapes = ((24, 16), (16, 24), (16, 16), (16, 24))  # two of a shape: one product
    ours, theirs = matrices(*shapes), matrices(*shapes)
    group = {"params": ours, "muon": True}
    steps(Muon([group], lr=0.02, weight_decay=0.1), ours)
    steps(torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1), theirs)
    start = matrices(*shapes)
    for one, other, before in zip(ours, theirs, start, strict=True):
        moved = (other - before).norm()
        assert moved > 0.1
        assert (one - other).norm() < 0.01 * moved  # products are rounded to bfloat16


def test_a_convolution_is_a_matrix_in_any_memory_format():
    flat, plain, last = (matrices((8, 4 * 9))[0] for _ in range(3))
    plain = nn.Parameter(plain.detach().view(8, 4, 3, 3))
    last = nn.Parameter(last.detach().view(8, 4, 3, 3).to(memory_format=torch.channels_last))
    for weight in (flat, plain, last):
        group = {"params": [weight], "muon": True}
        steps(Muon([group], lr=0.02, dtype=torch.float32), [weight])
    torch.testing.assert_close(plain.flatten(1), flat)
    torch.testing.assert_close(last, plain)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_singular_values_come_near_one():
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 20, 50)))
    assert values.min() > 0.5
    assert values.max() < 1.3
    tall = torch.randn(1, 50, 20)
    torch.testing.assert_close(orthogonal(tall).mT, orthogonal(tall.mT.contiguous()))


def test_the_rest_takes_adamw():
    ours, theirs = matrices((6, 4), (6,)), matrices((6, 4), (6,))
    muon = Muon([{"params": ours[1:]}, {"params": ours[:1], "muon": True}], lr=0.01)
    adamw = torch.optim.AdamW(theirs[1:], lr=0.01)
    for optimiser, weights in ((muon, ours), (adamw, theirs)):
        for _ in range(3):
            weights[0].grad = torch.ones(6, 4)
            weights[1].grad = torch.arange(6.0)
            optimiser.step()
    assert torch.equal(ours[1], theirs[1])
    assert not torch.equal(ours[0], theirs[0])
    assert muon.state[ours[0]].keys() == {"momentum_buffer"}


def test_a_denoiser_s_first_and_last_layers_are_not_hidden(tiny_recipe):
    recipe = load_recipe(str(tiny_recipe)).denoiser
    unet = build_denoiser(recipe)
    weights = dict(unet.named_parameters())
    hidden = {id(weight) for weight in hidden_matrices(weights, EDGES)}
    names = {name for name, weight in weights.items() if id(weight) in hidden}
    assert "down_blocks.0.resnets.0.conv1.weight" in names
    assert "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight" in names
    assert not [name for name in names if name.startswith(("conv_in", "conv_out", "time_emb"))]
    assert not [name for name in names if "norm" in name.split(".")[-2] or name.endswith("bias")]
    uvit = {"sample_size": 4, "width": 8, "layers": 3, "heads": 2, "tokens": 4}
    more = {"kind": "UViT", "arguments": {**uvit, "in_channels": 4, "cross_attention_dim": 8}}
    vit = dict(build_denoiser(recipe.model_copy(update=more)).named_parameters())
    hidden = {id(weight) for weight in hidden_matrices(vit, EDGES)}
    outer = {name.split(".")[0] for name, w in vit.items() if id(w) not in hidden and w.ndim > 1}
    assert outer == {"pos_embed", "patch_embed", "context_embed", "decoder_pred", "final_layer"}


class Edged(Line):
    edges = ("last",)


MUON = {"optimiser": "muon", "muon_lr": 0.01, "weight_decay": 0.1}


def test_a_run_with_muon_is_resumed_to_the_bit_and_keeps_two_rates(tmp_path):
    train(Edged(), plan(**MUON), tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(Edged(stop_at=7), plan(**MUON), tmp_path / "stopped")
    train(Edged(), plan(**MUON), tmp_path / "stopped", Session(resume=True))
    straight, stopped = (final_tensors(tmp_path / name) for name in ("straight", "stopped"))
    assert straight.keys() == stopped.keys()
    assert all(torch.equal(stopped[name], value) for name, value in straight.items())
    assert "optimiser.blocks.0.0.weight.momentum_buffer" in straight
    assert "optimiser.last.weight.exp_avg" in straight
    assert "optimiser.blocks.0.0.weight.exp_avg" not in straight

    method = Edged()
    weights = {name: p for name, p in method.module.named_parameters() if p.requires_grad}
    optimiser = build_optimiser(method, weights, plan(**MUON))
    rates = [0.05 * group.get("lr_scale", 1.0) for group in optimiser.param_groups]
    assert rates == pytest.approx([0.05, 0.01])


def test_a_method_that_names_no_edges_is_refused(tmp_path):
    with pytest.raises(VesaliusError, match="take adamw"):
        train(Line(), plan(optimiser="muon"), tmp_path)


def test_a_run_from_before_muon_can_be_gone_on_with():
    about = json.dumps(made_with(Line(), plan()))
    assert "optimiser" not in about
    assert "muon_lr" not in about
    assert made_with(Line(), plan(**MUON))["optimisation.optimiser"] == "muon"
