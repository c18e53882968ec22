"""Does a model give away which images it was trained on? Membership inference by denoising loss.

A denoiser errs less on images that it has seen (Matsumoto et al. 2023, arXiv:2302.03262; Carlini et
al. 2023, arXiv:2301.13188, section 5). The score of an image is minus its mean denoising error at
a few fixed times and noises, under its own caption. Some images are easy for any model: with a
reference that never saw them, such as the base model of an adapter, the score is by how much the
error fell, which says far more (difficulty calibration, Watson et al. 2022, arXiv:2111.08440).

It is a lower bound on what leaks: a stronger attack may find more.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.base import Case, Figures, Metric, Question, Result, Sentence, span
from vesalius.evaluate.metrics.image_text import Captioned
from vesalius.evaluate.references import HELD_OUT, TRAIN
from vesalius.evaluate.sets import ComparedSet
from vesalius.images.pixels import open_rgb, square
from vesalius.models.generator import Generator
from vesalius.models.noise_process import add_noise, process_of
from vesalius.models.text import encode_prompts
from vesalius.statistics.figure import select
from vesalius.statistics.roc import Detection, Roc, detection, roc

TIMES = (0.1, 0.3, 0.5, 0.7)  # share of the way to noise
NOISES = 4  # at each time
MOST = 200  # images on each side of the attack


def measure(case: Case) -> Result:
    """Can members of the training set be recognised by their denoising loss?"""
    result, model = Result(), case.models.generator
    why = ""
    if model is None:
        why = "no model was named: give --model"
    elif not case.divided:
        why = "needs images that the model learned from and others that it did not"
    if why or model is None:
        result.leave_out("membership", "auroc", why)
        return result
    train, held_out = case.references[TRAIN], case.references[HELD_OUT]
    rows = _alike(train, held_out, MOST, case.seed)
    own, new = train.take(rows[0]), held_out.take(rows[1])
    try:
        errors = [_errors_of(case, model.generator, one) for one in (own, new)]
        base = None
        if model.base is not None:
            base = (_errors_of(case, model.base, own), _errors_of(case, model.base, new))
        found = membership(errors[0], errors[1], base, (own.groups, new.groups))
    except VesaliusError as error:
        result.leave_out("membership", "auroc", str(error))
        return result
    result.add("membership", [found.detection.auroc, found.detection.found], extractor=model.name)
    result.details["membership"] = {
        "roc": found.curve.points(),
        "calibrated_by_base_model": found.calibrated,
        "members": len(own),
        "non_members": len(new),
        "false_positive_rate": found.detection.false_positive_rate,
    }
    result.notes += [found.warning] if found.warning else []
    return result


def _alike(
    train: ComparedSet, held_out: ComparedSet, most: int, seed: int
) -> tuple[list[int], list[int]]:
    """As many rows of both, class by class: else the attack separates classes, not members."""
    rng = np.random.default_rng(seed)
    chosen: tuple[list[int], list[int]] = ([], [])
    for label in sorted({*train.labels} & {*held_out.labels}):
        rows = [np.flatnonzero(np.array(s.labels) == label) for s in (train, held_out)]
        size = min(map(len, rows))
        for kept, own in zip(chosen, rows, strict=True):
            kept += rng.permutation(own)[:size].tolist()
    for kept in chosen:
        kept[:] = sorted(rng.permutation(kept)[:most].tolist()) if kept else []
    return chosen


def _errors_of(case: Case, generator: Generator, one: ComparedSet) -> np.ndarray:
    size = min(generator.native_size)
    images = (square(open_rgb(one.encoded(row)), size) for row in range(len(one)))
    with case.progress("denoising loss") as count:
        captions = one.columns["caption"]
        return denoising_errors(generator, images, captions, seed=case.seed, on_image=count)


@dataclass(frozen=True)
class Membership:
    """What the attack finds: members are the positives, and 0.5 is what guessing scores."""

    detection: Detection
    curve: Roc
    calibrated: bool  # by a reference model
    warning: str = ""


@torch.inference_mode()
def denoising_errors(
    generator: Generator,
    images: Iterable[np.ndarray],
    captions: Sequence[str],
    *,
    times: Sequence[float] = TIMES,
    noises: int = NOISES,
    seed: int = 0,
    batch_size: int = 8,
    on_image: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Mean squared error of the denoiser for each image at each time: (N, len(times)) float32.

    `images` are uint8 (H, W, 3), all of one size that the model takes, and are read as they come.
    All of them get the same noises, which `seed` decides: none is luckier than another, and the
    error of an image does not depend on the others. Load the generator in float32: the differences
    looked for are small. For a textual inversion, the captions hold its word.
    Raises VesaliusError for no images, another number of captions, and sizes that do not fit.
    """
    if not captions or not times or noises < 1:
        raise VesaliusError("denoising errors need an image, a time and a noise at least")
    found: list[np.ndarray] = []
    shape = None
    for part, batch in Captioned(images, captions).batches(batch_size, on_image):
        shape = shape or batch[0].shape
        x, text = _latents(generator, batch, shape), _encoded(generator, captions[part])
        errors = [_errors(generator, x, text, time, noises, seed) for time in times]
        found.append(torch.stack(errors, 1).cpu().numpy())
    return np.concatenate(found)


def membership(
    members: np.ndarray,
    non_members: np.ndarray,
    reference: tuple[np.ndarray, np.ndarray] | None = None,
    groups: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    *,
    false_positive_rate: float = 0.01,
) -> Membership:
    """Tell members from non-members by their `denoising_errors`, (N, T) and (M, T).

    `reference` are the errors of a model that saw neither, for the same images; `groups` their
    patients, for members and non-members, by which the intervals are drawn.
    Non-members must be like the members in all but having been seen: a held-out part of one split,
    no other data set. Fewer non-members than 1 / `false_positive_rate` cannot resolve that rate: the
    figure is then at no false positive at all, and `warning` says so.
    Raises VesaliusError for under two of either, and where model and reference do not differ.
    """
    sets = [np.asarray(errors, float) for errors in (members, non_members)]
    if min(map(len, sets)) < 2:
        raise VesaliusError(
            f"membership needs two members and two non-members, not {len(sets[0])} and {len(sets[1])}"
        )
    scores = -np.concatenate(sets).mean(1)
    if reference is not None:
        known = np.concatenate([np.asarray(errors, float) for errors in reference])
        if known.shape != (len(scores), sets[0].shape[1]):
            raise VesaliusError("the reference's errors are not of the same images and times")
        scores = known.mean(1) + scores
        if not scores.any():
            raise VesaliusError(
                "model and reference err alike on every image: has the adapter been applied?"
            )
    positive = np.arange(len(scores)) < len(sets[0])
    both, warnings = None, []
    if groups is not None:
        if shared := {*groups[0]} & {*groups[1]} - {None, ""}:
            warnings.append(
                f"{len(shared)} patients are on both sides: their other images are no strangers to "
                "the model, and the attack looks weaker than it is"
            )
        both = [(side, g or row) for side, part in enumerate(groups) for row, g in enumerate(part)]
    found = detection(scores, positive, both, false_positive_rate=false_positive_rate)
    needed = int(np.ceil(1 / false_positive_rate))
    if len(sets[1]) < needed:
        warnings.append(
            f"{len(sets[1])} non-members cannot show a false-positive rate of "
            f"{false_positive_rate:.0%}, which takes {needed}: what is found is found at none"
        )
    return Membership(found, roc(scores, positive), reference is not None, "; ".join(warnings))


def _encoded(generator: Generator, captions: Sequence[str]) -> Tensor:
    """Text states (B, T, D), equal captions encoded once."""
    distinct = list(dict.fromkeys(captions))
    parts = (generator.tokenizer, generator.text_encoder)
    states = encode_prompts(*parts, distinct, generator.caption_chunks).to(generator.device)
    return states[[distinct.index(caption) for caption in captions]]


def _latents(generator: Generator, images: list[np.ndarray], shape: tuple[int, ...]) -> Tensor:
    """Scaled latents (B, C, h, w) float32: the posterior's mean, which needs no draw."""
    sides, multiple = shape[:2], generator.size_multiple
    for image in images:
        if image.dtype != np.uint8 or image.shape != shape or image.shape[2:] != (3,):
            raise VesaliusError(
                f"images are uint8 (H, W, 3) of one size, not {image.dtype} {image.shape} "
                f"after {shape}"
            )
    if any(side % multiple for side in sides):
        raise VesaliusError(f"{sides[1]}x{sides[0]} px are not multiples of {multiple}")
    weight = next(generator.vae.parameters())
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(weight) / 127.5 - 1
    coded = generator.vae.encode(pixels.contiguous(memory_format=torch.channels_last))
    mean = coded.latent_dist.mean if hasattr(coded, "latent_dist") else coded.latents
    latents = mean.float() * generator.vae.config.scaling_factor
    return latents.to(generator.device)


def _errors(
    generator: Generator, x: Tensor, text: Tensor, time: float, noises: int, seed: int
) -> Tensor:
    """Mean squared error (B,) over `noises` draws, the same for every image."""
    dtype, errors = generator.dtype, torch.zeros(len(x), device=x.device)
    process = process_of(generator.scheduler, x.device)
    t = process.at(time).to(x.device)
    for number in range(noises):
        draw = torch.Generator().manual_seed(seed * 1_000_003 + number)
        noise = torch.randn(x.shape[1:], generator=draw).to(x.device).expand_as(x)
        x_t = add_noise(process, x, noise, t).to(dtype, memory_format=torch.channels_last)
        predicted = generator.unet(x_t, process.timestep(t), text.to(dtype), return_dict=False)[0]
        errors += (predicted.float() - process.target(x, noise, t)).square().mean(
            (1, 2, 3)
        ) / noises
    return errors


def _sentences(figures: Figures, _reference: str) -> Iterator[Sentence]:
    for figure in select(figures, part="membership", metric="auroc"):
        if figure.value is None or figure.low is None:
            continue
        text = (
            f"The model reveals whether an image was trained on with an AUROC of "
            f"{figure.value:.2f} ({span(figure)}); 0.5 is guessing."
        )
        for found in select(figures, part="membership", metric="found"):
            if found.value is not None:
                text += (
                    f" At 1 % false alarms {found.value:.1%} ({span(found, '.1%')}) of the "
                    "training images are found."
                )
        yield ("bad" if figure.low > 0.5 else "good"), text


def _answer(figures: Figures, _reference: str) -> str:
    for figure in select(figures, part="membership", metric="auroc"):
        if figure.value is not None:
            return f"AUROC {figure.value:.2f}; 0.5 is guessing"
    return ""


METRIC = Metric(
    measure,
    {"found": "Members found at 1 % false alarms"},
    (Question("Does the model reveal which images it was trained on?", _sentences, _answer),),
    of_model=True,
)
