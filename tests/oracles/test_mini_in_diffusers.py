"""The bundled model belongs to nobody's code: stock diffusers draws the same images with it."""

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

import vesalius
from vesalius.models.locate import bundled_models

PROMPT, SEED, STEPS = "blood cell microscopy, eosinophil", 5, 4


def test_stock_diffusers_draws_what_vesalius_draws():
    folder = bundled_models()["mini"]
    ours = vesalius.load("mini", "cpu", "float32").generate(PROMPT, seed=SEED, steps=STEPS)[0]
    # as a user would: no dtype, no scheduler, no safety checker to name
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.scheduler.config.prediction_type == "flow_prediction"
    stock = pipeline(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=ours.request.guidance.scale,
        generator=torch.Generator().manual_seed(SEED),
    ).images[0]
    difference = np.abs(np.asarray(stock, int) - np.asarray(ours.image, int))
    assert stock.size == (256, 256)
    assert difference.max() <= 2


def test_bfloat16_changes_little():
    full, fast = (
        vesalius.load("mini", "cpu", dtype).generate(PROMPT, seed=SEED, steps=STEPS)[0].image
        for dtype in ("float32", "bfloat16")
    )
    difference = np.abs(np.asarray(full, int) - np.asarray(fast, int))
    assert difference.mean() < 6  # of 255: the same picture, other fine grain
