"""Painting into images: what a mask covers is drawn anew, every other pixel stays to the bit.

The model works on the whole image, at a scale that it was trained for. What it draws is brought to
the image's own size and depth, and only the pixels under the mask are taken from it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vesalius.core.manifest import write_manifest
from vesalius.errors import VesaliusError
from vesalius.images.sheets import thumbnail, write_png
from vesalius.sample.canvas import Canvas, Frame, frame, read_canvas
from vesalius.sample.checks import check_numbers, check_prompts
from vesalius.sample.folder import (
    MANIFEST,
    SHEET,
    TILE,
    ImageFolder,
    digest,
    drawn_with,
    loaded,
    made_by,
    new_folder,
    new_output,
    save_sample,
    save_sheet,
)
from vesalius.sample.masks import Mask, feathered, make_mask, parse_ellipse
from vesalius.sample.prompt import parse_prompt
from vesalius.sample.settings import InpaintSettings
from vesalius.sample.start import Start

if TYPE_CHECKING:  # torch is imported only once all files have been read
    from vesalius.sample.draw import Request
    from vesalius.sample.generate import Progress, Sample, TextToImage

_MOST_SHOWN = 6  # results of one image on the sheet
_MOST_ROWS = 16  # images on the sheet


def inpaint_to_folder(
    images: Sequence[Path | str],
    prompt: str,
    out: Path | str,
    settings: InpaintSettings | None = None,
    *,
    model: "TextToImage | None" = None,
    overwrite: bool = False,
    on_progress: "Progress | None" = None,
    on_warning: Callable[[str], object] = lambda message: None,
) -> ImageFolder:
    """Paint into every image, `n` times each, and write the results to the new folder `out`.

    It holds the results (PNG, of 16 bits where the image has them; DICOM of DICOM), the mask of each
    image, `manifest.jsonl` and `contact-sheet.png`: original, mask, results. A mask file must have the
    size of every image. Otherwise as `folder.generate_to_folder`; every file is read and checked before
    the model is loaded.
    """
    settings = settings or InpaintSettings()
    [prompt] = check_prompts(prompt)
    parse_prompt(prompt)
    if not images:
        raise VesaliusError("no image is given to paint into")
    check_numbers(images=settings.n * len(images), seed=settings.seed)
    shapes = [parse_ellipse(text) for text in settings.ellipses]
    canvases = [read_canvas(path) for path in images]
    masks = [make_mask(canvas.size, settings.mask, shapes) for canvas in canvases]
    out = new_output(out, overwrite)
    model = loaded(settings, model)
    told = [*model.warnings(prompt, settings.negative), *_resized(model, canvases)]
    for message in [*told, *_not_kept(canvases)]:
        on_warning(message)
    samples = inpaint(model, canvases, masks, prompt, settings, on_progress)
    largest = max((canvas.size for canvas in canvases), key=lambda size: size[0] * size[1])
    with new_folder(out, (settings.n + 1) * len(images), largest) as folder:
        rows = []
        study = digest("".join(canvas.sha256 for canvas in canvases).encode())
        shown: list[tuple[Image.Image, str]] = []
        for number, (canvas, area) in enumerate(zip(canvases, masks, strict=True)):
            mask_file = f"mask-{number:05d}.png"
            drawn = Image.fromarray(area.pixels.astype(np.uint8) * 255)
            write_png(folder / mask_file, drawn, {"synthetic": True, **area.origin})
            line = [(_tile(canvas, canvas.pixels), "original"), (thumbnail(drawn, TILE), "mask")]
            for _, sample in zip(range(settings.n), samples, strict=False):
                rows.append(
                    save_sample(sample, folder, canvas.format, study, canvas, mask_file=mask_file)
                )
                line.append((_tile(canvas, np.asarray(sample.image)), f"seed {sample.seed}"))
                line = line[: 2 + _MOST_SHOWN]
            shown += line if number < _MOST_ROWS else []
        write_manifest(folder / MANIFEST, rows)
        what = f"{prompt!r} under the mask, strength {settings.strength:g}"
        title = f"SYNTHETIC images {made_by(rows[0])}{drawn_with(rows[0])}: {what}"
        tiles, captions = zip(*shown, strict=True)
        columns = 2 + min(settings.n, _MOST_SHOWN)
        save_sheet(folder / SHEET, tiles, captions, title, rows[0], columns)
    return ImageFolder(out, rows)


def inpaint(
    model: "TextToImage",
    canvases: Sequence[Canvas],
    masks: Sequence[Mask],
    prompt: str,
    settings: InpaintSettings | None = None,
    on_progress: "Progress | None" = None,
) -> "Iterator[Sample]":
    """Yield `n` samples of each canvas, under the mask at its place in `masks`, as `prompt` says.

    Sample k of all is drawn from seed + k. Its image has the canvas's size, channels and depth, and
    its pixels wherever the mask is false; the feather blends over so many pixels within the mask.
    With a strength below 1 what was there shows through.
    Raises VesaliusError at once for what cannot be made.
    """
    settings = settings or InpaintSettings()
    jobs: list[_Job] = []
    for canvas, mask in zip(canvases, masks, strict=True):
        share = feathered(mask.pixels, settings.feather)
        layout = frame(canvas.size, model)
        picture, area = layout.lay(canvas, mask)
        origin = {
            "start_image": canvas.sha256,
            **mask.origin,
            **({"modality": canvas.modality} if canvas.modality else {}),
            "strength": settings.strength,
            "feather": settings.feather,
        }
        start = Start(picture, settings.strength, area, origin)
        for _ in range(settings.n):
            seed = settings.seed + len(jobs)
            request = model.request(prompt, seed, settings, start, layout.padded)
            jobs.append(_Job(canvas, share, layout, request))
    return _painted(model, jobs, settings.batch_size, on_progress)


@dataclass(frozen=True)
class _Job:
    canvas: Canvas
    share: np.ndarray  # (H, W), how much of each pixel is new
    layout: Frame
    request: "Request"


def _painted(
    model: "TextToImage", jobs: list[_Job], batch_size: int | None, on_progress: "Progress | None"
) -> "Iterator[Sample]":
    done = 0
    for bits, alike in groupby(jobs, key=lambda job: job.canvas.bits):
        several = list(alike)

        def report(images: float, _: int, before: int = done) -> None:
            if on_progress:
                on_progress(before + images, len(jobs))

        drawn = model.draw([job.request for job in several], batch_size, report, bits)
        for job, sample in zip(several, drawn, strict=True):
            pixels = _put(job, sample.image)
            yield replace(sample, index=done, image=Image.fromarray(pixels))
            done += 1


def _put(job: _Job, drawn: Image.Image) -> np.ndarray:
    """The canvas's pixels, those under the mask taken from `drawn`, which fills the frame."""
    pixels, mask = job.canvas.pixels.copy(), job.share > 0
    new = job.canvas.taken(drawn.crop((0, 0, *job.layout.scaled)))[mask]  # (M,) or (M, 3)
    share = job.share[mask].reshape(-1, *[1] * (new.ndim - 1))
    pixels[mask] = np.rint(share * new + (1 - share) * pixels[mask]).astype(pixels.dtype)
    return pixels


def _resized(model: "TextToImage", canvases: Sequence[Canvas]) -> list[str]:
    """One sentence for each size that is drawn at another scale."""
    sizes = dict.fromkeys(canvas.size for canvas in canvases)
    return [
        f"an image of {width}x{height} is drawn at {scaled[0]}x{scaled[1]}, near what the model "
        "was trained for, and what is under the mask resized"
        for width, height in sizes
        if (scaled := frame((width, height), model).scaled) != (width, height)
    ]


def _not_kept(canvases: Sequence[Canvas]) -> list[str]:
    """One sentence for each reason why DICOM files do not keep their stored values."""
    names: dict[str, list[str]] = {}
    for canvas in canvases:
        if canvas.kept and canvas.kept.lost:
            names.setdefault(canvas.kept.lost, []).append(canvas.name)
    return [
        f"{some[0]}{f' and {len(some) - 1} more' * (len(some) > 1)}: stored values are not kept, as "
        f"{lost}; what is seen stays"
        for lost, some in names.items()
    ]


def _tile(canvas: Canvas, pixels: np.ndarray) -> Image.Image:
    return thumbnail(canvas.shown(pixels), TILE)
