"""Each sampler by name gives what the stock pipeline gives with the same diffusers scheduler."""

import diffusers
import pytest
import torch
from diffusers import StableDiffusionPipeline

from vesalius.models.generator import load_generator
from vesalius.sample.draw import draw
from vesalius.sample.generate import TextToImage
from vesalius.sample.settings import DrawSettings

PROMPTS = ["a chest x-ray with effusion", "lung nodule"]
SEEDS, STEPS, SCALE = (11, 12), 5, 4.0
STOCK = {
    "ddim": "DDIMScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
}
V = {"prediction_type": "v_prediction"}
# Lin et al. 2024; to the very end, as every class goes there but DDIM with SD 1's configuration
ZERO_SNR = V | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
ZERO_SNR |= {"set_alpha_to_one": True}


@pytest.mark.parametrize("settings", [{}, V, ZERO_SNR], ids=["epsilon", "v", "v, zero SNR"])
@pytest.mark.parametrize("name", STOCK)
def test_latents_equal_those_of_the_stock_pipeline(tiny_sd, name, settings):
    if name == "heun" and settings == ZERO_SNR:
        pytest.skip("diffusers has no such scheduler")
    generator = load_generator(tiny_sd, "cpu", "float32")
    # the PNDM of Stable Diffusion 1 knows no other schedule
    own = diffusers.DDIMScheduler if settings == ZERO_SNR else diffusers.PNDMScheduler
    generator.scheduler = own.from_pretrained(tiny_sd / "scheduler", **settings)

    stock = getattr(diffusers, STOCK[name]).from_pretrained(tiny_sd / "scheduler", **settings)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, scheduler=stock)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        PROMPTS,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        output_type="latent",
    ).images

    model = TextToImage(generator)
    settings = DrawSettings(steps=STEPS, guidance=SCALE, sampler=name)
    requests = [model.request(p, seed, settings) for p, seed in zip(PROMPTS, SEEDS, strict=True)]
    ours = draw(generator, requests)

    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
