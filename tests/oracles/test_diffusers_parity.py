"""Our loop gives what stock `StableDiffusionPipeline` gives, and each loads the other's folders."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from vesalius.models.generator import load_generator
from vesalius.sample.generate import TextToImage

PROMPTS = ["a chest x-ray with effusion", "lung nodule"]


def stock(pipeline, seeds, **options):
    pipeline.set_progress_bar_config(disable=True)
    streams = [torch.Generator().manual_seed(seed) for seed in seeds]
    images = pipeline(PROMPTS, generator=streams, num_inference_steps=6, **options).images
    return [np.asarray(image, dtype=int) for image in images]


def ours(folder, scheduler=None, **options):
    generator = load_generator(folder, "cpu", "float32")
    generator.scheduler = scheduler or generator.scheduler
    samples = TextToImage(generator).generate(PROMPTS, seed=11, steps=6, **options)
    return [np.asarray(sample.image, dtype=int) for sample in samples]


def assert_same(left, right):
    assert all(np.ptp(image) > 20 for image in left), "a flat image would equal anything"
    for a, b in zip(left, right, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= 1


@pytest.mark.parametrize("folder", ["tiny_sd", "tiny_flow"])
@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_images_equal_those_of_the_stock_pipeline(folder, guidance, request):
    path = request.getfixturevalue(folder)
    theirs = stock(StableDiffusionPipeline.from_pretrained(path), [11, 12], guidance_scale=guidance)
    assert_same(ours(path, guidance=guidance), theirs)


@pytest.mark.parametrize(
    "name",
    [
        "DDIMScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "HeunDiscreteScheduler",
    ],
)
def test_every_scheduler_runs_as_in_the_stock_pipeline(tiny_sd, name):
    scheduler = getattr(diffusers, name).from_pretrained(tiny_sd / "scheduler")
    # given to the pipeline and not set on it later: only then does it turn off `clip_sample`
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, scheduler=scheduler)
    theirs = stock(pipeline, [11, 12], guidance_scale=4.0, negative_prompt=["retina"] * 2)
    assert_same(ours(tiny_sd, scheduler, guidance=4.0, negative="retina"), theirs)


def test_other_sizes_equal_too(tiny_sd):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    theirs = stock(pipeline, [11, 12], width=48, height=32, guidance_scale=3.0)
    assert theirs[0].shape == (32, 48, 3)
    assert_same(ours(tiny_sd, guidance=3.0, size="48x32"), theirs)


@pytest.mark.parametrize("folder", ["tiny_sd", "tiny_flow"])
def test_stock_diffusers_loads_what_we_save(folder, request, tmp_path):
    path = request.getfixturevalue(folder)
    saved = load_generator(path, "cpu", "float32").save(tmp_path / "saved")
    pipeline = StableDiffusionPipeline.from_pretrained(saved, use_safetensors=True)
    theirs = stock(pipeline, [11, 12], guidance_scale=2.0)
    assert_same(ours(path, guidance=2.0), theirs)
