import pytest
import torch
from line_method import Line, Net, plan
from torch import nn

from vesalius.errors import VesaliusError
from vesalius.train import resuming
from vesalius.train.loop import train
from vesalius.train.modes import checkpoint_gradients, evaluating, parts_of
from vesalius.train.optimiser import build_optimiser, learning_rate, micro_batch
from vesalius.train.resuming import made_with, settle
from vesalius.train.session import Session


def test_the_plateau_warms_up_stays_and_decays_to_zero():
    long = plan(seen_images=1000, warmup_images=80, decay_images=200)
    rates = [learning_rate(seen, long) for seen in range(0, 1001, 8)]
    assert rates[0] == pytest.approx(0.05 * 0.1)
    assert max(rates) == 0.05 == rates[50]
    assert rates[-1] == 0
    # cutting a run short changes nothing before the new decay begins
    short = plan(seen_images=800, warmup_images=80, decay_images=200)
    assert [learning_rate(s, short) for s in range(0, 600, 8)] == rates[:75]


def test_the_cosine_falls_from_the_warm_up_to_zero():
    settings = plan(seen_images=1000, warmup_images=200, schedule="cosine")
    rates = [learning_rate(seen, settings) for seen in (192, 600, 1000)]
    assert rates == pytest.approx([0.05, 0.025, 0.0])


def test_a_constant_rate_stays_after_its_warm_up():
    settings = plan(seen_images=1000, warmup_images=80, schedule="constant", decay_images=200)
    assert {learning_rate(seen, settings) for seen in range(80, 1001, 8)} == {0.05}


def test_a_batch_that_cannot_be_divided_is_told():
    assert micro_batch(plan(), 2) == 4
    assert micro_batch(plan(micro=2), 2) == 2
    for settings, processes in ((plan(), 3), (plan(micro=8), 2)):
        with pytest.raises(VesaliusError, match="batch 8 is not a multiple"):
            micro_batch(settings, processes)


def test_groups_have_their_own_rate_and_decay():
    method = Line()
    weights = {name: p for name, p in method.module.named_parameters() if p.requires_grad}
    last = list(method.module.last.parameters())
    rest = list(method.module.blocks.parameters())
    method.parameter_groups = lambda: [
        {"params": rest, "weight_decay": 0.1},
        {"params": last, "lr_scale": 0.5, "weight_decay": 0.0},
    ]
    groups = build_optimiser(method, weights, plan()).param_groups
    assert [(group["lr_scale"], group["weight_decay"]) for group in groups] == [(1, 0.1), (0.5, 0)]
    method.parameter_groups = lambda: [{"params": rest}]
    with pytest.raises(ValueError, match=r"last\.weight"):  # it would silently never be trained
        build_optimiser(method, weights, plan())


def test_evaluation_leaves_every_part_in_its_own_mode():
    module = nn.ModuleDict({"a": Net(), "b": Net().eval()})
    with evaluating(module):
        assert not any(part.training for part in module.modules())
    assert module["a"].dropout.training
    assert not module["b"].dropout.training


def test_activations_are_computed_again_where_a_network_can(tiny_sd):
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    unet = UNet2DConditionModel.from_pretrained(tiny_sd / "unet")
    text = CLIPTextModel.from_pretrained(tiny_sd / "text_encoder")
    checkpoint_gradients(parts_of(nn.ModuleDict({"unet": unet, "text": text, "other": Net()})))
    for network in (unet, text):
        assert any(getattr(part, "gradient_checkpointing", False) for part in network.modules())


def test_what_made_a_run_leaves_out_what_may_change():
    method = Line()
    made = made_with(method, plan())
    assert made == made_with(
        method, plan(seen_images=800, micro=2, checkpoint_images=8, loggers=["wandb"])
    )
    assert made != made_with(method, plan(lr=0.01))
    # a cosine knows its end from the beginning
    cosine = made_with(method, plan(schedule="cosine"))
    assert cosine != made_with(method, plan(schedule="cosine", seen_images=800))
    method.row_weights = torch.ones(40, dtype=torch.float64)
    assert made != made_with(method, plan())
    assert made_with(method, plan()) != made_with(Line(), plan())


def test_a_run_keeps_the_precision_that_it_began_with(tmp_path, monkeypatch):
    tmp_path = tmp_path / "runs" / "one"  # beside it lie no runs of other tests
    faster = {"here": "bfloat16"}
    monkeypatch.setattr(resuming, "pick_precision", lambda device: faster["here"])
    asked = plan(precision="auto")
    begun = settle(asked, tmp_path, "cpu")
    assert begun.precision == "bfloat16"
    assert made_with(Line(), begun)["optimisation.precision"] == "bfloat16"
    with pytest.raises(KeyboardInterrupt):
        train(Line(stop_at=2), begun, tmp_path)
    faster["here"] = "float32"  # the run goes on elsewhere
    again = settle(asked, tmp_path, "cpu")
    assert again.precision == "bfloat16"
    train(Line(), again, tmp_path, Session(resume=True))  # and its checkpoint agrees
    # one label's run has begun: the next one's takes the same
    assert settle(asked, tmp_path.parent, "cpu").precision == "bfloat16"
    assert settle(asked, tmp_path / "new", "cpu").precision == "float32"
    assert settle(plan(precision="float32"), tmp_path, "cpu").precision == "float32"
