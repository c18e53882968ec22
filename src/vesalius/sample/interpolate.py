"""From one prompt to another in even steps, all from the same noise."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from vesalius.core.manifest import write_manifest
from vesalius.errors import VesaliusError
from vesalius.sample.checks import check_prompts, parse_size
from vesalius.sample.folder import (
    MANIFEST,
    ImageFolder,
    drawn_with,
    loaded,
    made_by,
    new_folder,
    new_output,
    save_sample,
    save_sheet,
)
from vesalius.sample.prompt import blend, parse_prompt
from vesalius.sample.settings import InterpolateSettings

if TYPE_CHECKING:  # torch is imported only once the request is known to make sense
    from vesalius.sample.generate import Progress, Sample, TextToImage

STRIP = "strip.png"
ANIMATION = "interpolation.gif"
_MOST_COLUMNS = 9
_FRAME = 150  # milliseconds
_ENDS = 900


def interpolate_to_folder(
    first: str,
    second: str,
    out: Path | str,
    settings: InterpolateSettings | None = None,
    *,
    model: "TextToImage | None" = None,
    overwrite: bool = False,
    on_progress: "Progress | None" = None,
    on_warning: Callable[[str], object] = lambda message: None,
) -> ImageFolder:
    """Interpolate, and write frames, manifest, `strip.png` and `interpolation.gif` to folder `out`.

    As `folder.generate_to_folder` does it. In the manifest, `share` is how much of the second prompt
    a frame has.
    """
    settings = settings or InterpolateSettings()
    first, second = check_prompts([first, second])
    _check_plain(first, second)
    out = new_output(out, overwrite)
    model = loaded(settings, model)
    for message in model.warnings([first, second], settings.negative):
        on_warning(message)
    samples = interpolate(model, first, second, settings, on_progress)
    frames = settings.frames
    size = parse_size(settings.size or model.generator.native_size)
    with new_folder(out, 3 * frames, size) as folder:
        rows, images = [], []
        for sample, share in zip(samples, shares(frames), strict=True):
            rows.append(save_sample(sample, folder, share=round(share, 6)))
            images.append(sample.image)
        write_manifest(folder / MANIFEST, rows)
        way = f"seed {settings.seed}: from {first!r} to {second!r}"
        title = f"SYNTHETIC images {made_by(rows[0])}{drawn_with(rows[0])}, {way}"
        captions = [f"{1 - share:.0%} : {share:.0%}" for share in shares(frames)]
        save_sheet(folder / STRIP, images, captions, title, rows[0], min(_MOST_COLUMNS, frames))
        (folder / ANIMATION).write_bytes(gif(images, title))
    return ImageFolder(out, rows, STRIP)


def interpolate(
    model: "TextToImage",
    first: str,
    second: str,
    settings: InterpolateSettings | None = None,
    on_progress: "Progress | None" = None,
) -> "Iterator[Sample]":
    """Yield `frames` samples from `first` to `second`, all drawn from the same seed.

    Of share s the prompt is `first:1-s AND second:s`, that is (de Wilde et al. 2023, arXiv
    2303.13430) eps_u + g * ((1 - s) (eps_1 - eps_u) + s (eps_2 - eps_u)): the first image is that
    of the first prompt alone and the last that of the second, but for rounding.
    Raises VesaliusError at once for what cannot be made.
    """
    settings = settings or InterpolateSettings()
    _check_plain(first, second)
    prompts = [blend(first, second, share) for share in shares(settings.frames)]
    requests = [model.request(prompt, settings.seed, settings) for prompt in prompts]
    return model.draw(requests, settings.batch_size, on_progress)


def shares(frames: int) -> list[float]:
    """How much of the second prompt is in each of `frames` images: 0 in the first, 1 in the last."""
    return [k / (frames - 1) for k in range(frames)]


def gif(images: Sequence[Image.Image], comment: str) -> bytes:
    """An endless animation of RGB `images` that rests at both ends; equal images, equal bytes."""
    # colours of each frame by median cut: Pillow's own default asks what libraries are there
    reduced = [image.quantize(256, method=Image.Quantize.MEDIANCUT) for image in images]
    stream = io.BytesIO()
    reduced[0].save(
        stream,
        format="GIF",
        save_all=True,
        append_images=reduced[1:],
        duration=[_ENDS, *[_FRAME] * (len(images) - 2), _ENDS],
        loop=0,
        comment=comment.encode(),
    )
    return stream.getvalue()


def _check_plain(*prompts: str) -> None:
    for prompt in prompts:
        if len(parse_prompt(prompt)) > 1:
            raise VesaliusError(
                f"{prompt!r} is composed already: interpolate between two prompts without AND"
            )
