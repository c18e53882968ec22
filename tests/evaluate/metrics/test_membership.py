"""Membership inference: seen images are found, equal ones are not, and few images are told as few."""

import numpy as np
import pytest
import torch

from vesalius.config import Objective
from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.losses import denoising_errors
from vesalius.evaluate.metrics.membership import membership
from vesalius.models.generator import load_generator
from vesalius.models.noise_process import Flow, add_noise, training_process
from vesalius.models.text import encode_prompts

CAPTIONS = ["chest x - ray", "retina", "chest x - ray", "left lung"]


def pictures(count=4, side=32):
    return list(np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def drawn(count, shift, seed):
    return np.random.default_rng(seed).normal(1 - shift, 0.1, (count, 2))


@pytest.fixture(params=["tiny_sd", "tiny_flow"])
def generator(request):
    return load_generator(request.getfixturevalue(request.param), "cpu", "float32")


def test_an_image_s_error_depends_on_neither_the_batch_nor_the_other_images(generator):
    images = pictures()
    together = denoising_errors(generator, iter(images), CAPTIONS, noises=2)
    one = denoising_errors(generator, images[1:2], CAPTIONS[1:2], noises=2)
    assert together.shape == (4, 4)
    np.testing.assert_allclose(together[1:2], one, rtol=1e-4)
    by_two = denoising_errors(generator, images, CAPTIONS, noises=2, batch_size=3)
    np.testing.assert_allclose(together, by_two, rtol=1e-4)


def test_another_seed_gives_other_noises(generator):
    first, second = (
        denoising_errors(generator, pictures(), CAPTIONS, noises=1, seed=seed) for seed in (0, 1)
    )
    assert not np.allclose(first, second, rtol=1e-4)


def test_the_errors_are_those_that_training_lowers(generator):
    """What is attacked is the loss itself: same latents, noise and targets as the trainer's."""
    found = denoising_errors(generator, pictures(), CAPTIONS, times=(0.25,), noises=1, seed=3)
    process = training_process(generator.scheduler, Objective())
    pixels = torch.from_numpy(np.stack(pictures())).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        coded = generator.vae.encode(pixels)
        mean = coded.latents if hasattr(coded, "latents") else coded.latent_dist.mean
        x = mean * generator.vae.config.scaling_factor
        draw = torch.Generator().manual_seed(3 * 1_000_003)
        noise = torch.randn(x.shape[1:], generator=draw).expand_as(x)
        flow = isinstance(process, Flow)
        t = torch.full((4,), 0.25 if flow else 250, dtype=torch.float32 if flow else torch.long)
        x_t, target = add_noise(process, x, noise, t), process.target(x, noise, t)
        text = encode_prompts(generator.tokenizer, generator.text_encoder, CAPTIONS)
        predicted = generator.unet(x_t, process.timestep(t), text).sample
    expected = (predicted - target).square().mean((1, 2, 3))
    np.testing.assert_allclose(found[:, 0], expected.numpy(), rtol=1e-4)


def test_a_caption_matters(generator):
    one, other = (
        denoising_errors(generator, pictures(1), [c], noises=1) for c in ("lung", "right")
    )
    assert not np.array_equal(one, other)


def test_a_denoiser_that_knows_an_image_by_heart_errs_on_the_others_alone(tiny_flow):
    model, images = load_generator(tiny_flow, "cpu", "float32"), pictures()
    with torch.no_grad():
        pixels = torch.from_numpy(images[2]).permute(2, 0, 1)[None] / 127.5 - 1
        x = model.vae.encode(pixels).latents * model.vae.config.scaling_factor

    class ByHeart(torch.nn.Conv2d):
        def forward(self, x_t, timestep, text, return_dict):
            return ((x_t - x) * 1000 / timestep,)  # e - x of this image

    by_heart = ByHeart(1, 1, 1)
    by_heart.config = model.unet.config
    model.unet = by_heart
    errors = denoising_errors(model, images, CAPTIONS).mean(1)
    assert errors[2] < 1e-3 * np.delete(errors, 2).min()


def test_members_with_lower_errors_are_found_and_equal_ones_are_not():
    found = membership(drawn(200, 0.2, 0), drawn(300, 0, 1)).detection
    assert found.auroc.low > 0.9
    assert 0.1 < found.found.low <= found.found.value <= found.found.high
    none = membership(drawn(200, 0, 0), drawn(300, 0, 1)).detection
    assert none.auroc.low < 0.5 < none.auroc.high
    assert none.found.value < 0.06


def test_a_reference_takes_away_what_makes_an_image_hard():
    """Errors that vary far more between images than by having been seen."""
    rng = np.random.default_rng(0)
    hard = rng.normal(1, 0.5, (400, 1))
    fell = np.where(np.arange(400) < 200, 0.05, 0.0)[:, None]
    errors = hard - fell + rng.normal(0, 0.01, (400, 1))
    plain = membership(errors[:200], errors[200:]).detection.auroc.value
    calibrated = membership(errors[:200], errors[200:], (hard[:200], hard[200:]))
    assert plain < 0.65
    assert calibrated.detection.auroc.value > 0.99


def test_fewer_non_members_than_one_per_cent_needs_are_told():
    found = membership(drawn(20, 0.5, 0), drawn(37, 0, 1))
    assert "37 non-members" in found.warning
    assert "100" in found.warning
    assert membership(drawn(20, 0.5, 0), drawn(100, 0, 1)).warning == ""


def test_patients_on_both_sides_are_told():
    patients = [f"p{k}" for k in range(200)]
    found = membership(drawn(20, 0.5, 0), drawn(200, 0, 1), groups=(patients[:20], patients))
    assert found.warning.startswith("20 patients are on both sides")
    apart = membership(drawn(20, 0.5, 0), drawn(180, 0, 1), groups=(patients[:20], patients[20:]))
    assert apart.warning == ""


def test_perfect_separation_has_no_perfect_interval():
    found = membership(drawn(16, 5, 0), drawn(200, 0, 1)).detection
    assert found.auroc.value == found.found.value == 1
    assert found.auroc.low == found.found.low == pytest.approx(0.025 ** (1 / 16))


def test_images_of_one_patient_widen_the_interval():
    members, others = drawn(60, 0.05, 0), drawn(60, 0, 1)
    alone = membership(members, others).detection.auroc
    copies = [np.repeat(part[:6], 10, 0) for part in (members, others)]
    patients = [[f"p{k // 10}" for k in range(60)] for _ in range(2)]
    grouped = membership(*copies, groups=(patients[0], patients[1])).detection.auroc
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


def test_an_adapter_that_was_not_applied_is_told():
    errors = drawn(5, 0, 0), drawn(9, 0, 1)
    with pytest.raises(VesaliusError, match="has the adapter been applied"):
        membership(*errors, errors)


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        (pictures(3), CAPTIONS, "3 images for 4 captions"),
        (pictures(5), CAPTIONS, "5 images for 4 captions"),
        ([], [], "an image"),
        (pictures(1, 40), ["a"], "multiples of 16"),
        ([*pictures(1), *pictures(1, 48)], ["a", "a"], "of one size"),
    ],
)
def test_images_that_do_not_fit(tiny_sd, images, captions, message):
    with pytest.raises(VesaliusError, match=message):
        denoising_errors(load_generator(tiny_sd, "cpu", "float32"), images, captions, noises=1)


def test_one_member_is_too_few():
    with pytest.raises(VesaliusError, match="two members"):
        membership(drawn(1, 0, 0), drawn(9, 0, 1))
