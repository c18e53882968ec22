"""Training on smaller images first: what is drawn, what is told, and stops around the change."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from vesalius.config import load_recipe
from vesalius.errors import VesaliusError
from vesalius.train.checkpoint import newest_checkpoint
from vesalius.train.methods.scratch import DenoiserMethod
from vesalius.train.run import estimate, train_recipe
from vesalius.train.session import Session

SIZES = [
    "denoiser.sizes=[{size: 16, until_images: 12}]",
    "denoiser.optimisation.precision=float32",
    "denoiser.optimisation.validate_images=4",
    "denoiser.optimisation.checkpoint_images=32",
]


def recipe_of(tiny_recipe, base, *more):
    """The tiny recipe in two sizes, with an autoencoder that is not trained each time."""
    return load_recipe(str(tiny_recipe), [*SIZES, f"autoencoder={base}", *more])


def state(out):
    newest = newest_checkpoint(out / "denoiser" / "checkpoints")
    assert newest is not None
    return newest.state["seen_images"], load_file(newest.path / "state.safetensors")


def validations(out):
    events = [
        json.loads(line) for line in (out / "denoiser" / "log.jsonl").read_text().splitlines()
    ]
    return {e["seen_images"]: e["validation"] for e in events if "validation" in e}


@pytest.fixture
def heard(monkeypatch):
    """Images before and latents' side of every block that is trained on; stops when asked."""
    blocks, stop = [], []
    begin, loss = DenoiserMethod.before_step, DenoiserMethod.loss

    def before_step(self, seen):
        blocks.append([seen])
        begin(self, seen)

    def listening(self, rows, draw):
        seen = blocks[-1][0]
        side = self.stage.latents.mean[torch.tensor([0])].shape[-1]
        blocks[-1].append(side)
        if stop and seen + 4 >= stop[0]:  # the end of this step
            stop.clear()
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, rows, draw)

    monkeypatch.setattr(DenoiserMethod, "before_step", before_step)
    monkeypatch.setattr(DenoiserMethod, "loss", listening)
    return blocks, stop


@pytest.mark.parametrize(
    "stops", [[12], pytest.param([8, 16], marks=[pytest.mark.slow, pytest.mark.ci])]
)
def test_a_run_stopped_around_the_change_of_size_ends_with_the_same_bits(
    tiny_recipe, tiny_flow, tiny_pairs, tmp_path, heard, stops
):
    blocks, stop = heard
    recipe = recipe_of(tiny_recipe, tiny_flow, "denoiser.optimisation.micro=2")
    train_recipe(recipe, tiny_pairs, tmp_path / "straight")
    # each step is of one size, whatever its blocks
    assert blocks == [[seen, *[2 if seen < 12 else 4] * 2] for seen in range(0, 32, 4)]
    told = validations(tmp_path / "straight")
    assert [seen for seen, figures in told.items() if "loss_16" in figures] == [4, 8, 12]
    assert all("loss" in figures for figures in told.values())
    assert told[12]["loss_16"] != told[12]["loss"]

    seen, straight = state(tmp_path / "straight")
    for at in stops:
        out = tmp_path / str(at)
        stop.append(at)
        with pytest.raises(KeyboardInterrupt, match=f"after {at} images"):
            train_recipe(recipe, tiny_pairs, out)
        train_recipe(recipe, tiny_pairs, out, session=Session(resume=True))
        again, tensors = state(out)
        assert again == seen == 32
        assert tensors.keys() == straight.keys()
        assert all(torch.equal(tensors[name], value) for name, value in straight.items())
        assert validations(out) == told


def test_smaller_latents_are_scaled_as_the_final_ones_and_share_their_text(
    tiny_recipe, tiny_pairs, tmp_path, monkeypatch
):
    made = []
    init = DenoiserMethod.__init__

    def keep(self, *arguments):
        init(self, *arguments)
        made.append(self)

    monkeypatch.setattr(DenoiserMethod, "__init__", keep)
    recipe = load_recipe(str(tiny_recipe), SIZES)  # a trained autoencoder: scaled by its latents
    train_recipe(recipe, tiny_pairs, tmp_path)
    small, last = (stage.latents for stage in made[0].stages)
    assert small.mean[torch.tensor([0])].shape[1:] == (4, 2, 2)
    assert last.mean[torch.tensor([0])].shape[1:] == (4, 4, 4)
    assert small.scaling_factor == last.scaling_factor
    assert small.text_states is last.text_states
    assert made[0].flops[0] < made[0].flops[1] == made[0].flops_per_image()
    folders = sorted(path.name for path in (tmp_path / "latents").iterdir())
    assert folders == ["images", "images-16", "text"]


def test_a_dry_run_tells_the_sizes_and_counts_their_latents(tiny_recipe, tiny_pairs):
    large = [
        "size=4096",
        "denoiser.arguments.sample_size=512",
    ]  # latents beside which the text is nothing
    one = estimate(load_recipe(str(tiny_recipe), large), tiny_pairs)
    large.append("denoiser.sizes=[{size: 2048, until_images: 12}]")
    both = estimate(load_recipe(str(tiny_recipe), large), tiny_pairs)
    assert both.lines()["denoiser"] == one.lines()["denoiser"] + "; until 12 at 2048 pixels"
    assert both.cache_bytes == pytest.approx(1.25 * one.cache_bytes, rel=0.02)


def test_sizes_that_cannot_be_trained_on_are_told(tiny_recipe, tiny_pairs):
    for sizes, told in (
        ("[{size: 32, until_images: 12}]", "smaller than 32"),
        ("[{size: 16, until_images: 32}]", "leave some of optimisation.seen_images"),
        ("[{size: 8, until_images: 12}, {size: 16, until_images: 8}]", "must rise"),
        ("[{size: 16, until_images: 8}, {size: 16, until_images: 12}]", "unlike"),
    ):
        with pytest.raises(VesaliusError, match=told):
            load_recipe(str(tiny_recipe), [f"denoiser.sizes={sizes}"])
    recipe = load_recipe(str(tiny_recipe), ["denoiser.sizes=[{size: 24, until_images: 12}]"])
    with pytest.raises(VesaliusError, match=r"24 pixels do not fit this denoiser.*multiple of 16"):
        estimate(recipe, tiny_pairs)


def test_without_sizes_a_run_is_as_it_was_before_there_were_any(tiny_recipe):
    from vesalius.train.resuming import settings_of

    assert "sizes" not in settings_of(load_recipe(str(tiny_recipe)))["denoiser"]
    assert "sizes" in settings_of(load_recipe(str(tiny_recipe), SIZES))["denoiser"]


@pytest.mark.slow
@pytest.mark.ci
def test_code_is_compiled_once_a_size(tiny_recipe, tiny_flow, tiny_pairs, tmp_path, monkeypatch):
    shapes = []

    def backend(graph, inputs):
        shapes.append({tuple(x.shape) for x in inputs if x.ndim == 4 and x.shape[:2] == (4, 4)})
        return graph.forward

    compiling = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **how: compiling(self, backend=backend, **how)
    )
    torch._dynamo.reset()
    recipe = recipe_of(tiny_recipe, tiny_flow, "denoiser.optimisation.compile=true")
    train_recipe(recipe, tiny_pairs, tmp_path)
    # validation, twice a step, takes none of its own
    assert [{(4, 4, 2, 2)} <= seen for seen in shapes] == [True, False]
    assert [{(4, 4, 4, 4)} <= seen for seen in shapes] == [False, True]
