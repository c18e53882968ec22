"""Interpolation and inpainting to folders: images, manifest and a picture of all, or nothing."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vesalius._version import __version__
from vesalius.core.atomic import atomic_path, told_plainly, writable_new_folder
from vesalius.core.manifest import write_manifest
from vesalius.errors import VesaliusError
from vesalius.images.encode import encode_image
from vesalius.images.sheets import contact_sheet, thumbnail, write_png
from vesalius.sample.checks import check_numbers, check_prompts, parse_size
from vesalius.sample.folder import MANIFEST, SHEET, TILE
from vesalius.sample.inpaint import Canvas, frame, inpaint, read_canvas
from vesalius.sample.interpolate import check_interpolation, gif, interpolate, shares
from vesalius.sample.masks import FEATHER, feathered, make_mask, parse_ellipse
from vesalius.sample.prompt import parse_prompt
from vesalius.sample.start import check_strength

if TYPE_CHECKING:  # torch is imported only once the request is known to make sense
    from vesalius.sample.generate import Progress, Sample, TextToImage

STRIP = "strip.png"
ANIMATION = "interpolation.gif"
_MOST_SHOWN = 6  # results of one image on the sheet
_MOST_ROWS = 16  # images on the sheet
_MOST_COLUMNS = 9

Rows = list[dict[str, Any]]


def _unheard(_: str) -> None:
    pass


def interpolate_to_folder(
    first: str,
    second: str,
    out: Path | str,
    *,
    model: "str | TextToImage" = "mini",
    device: str = "auto",
    dtype: str = "auto",
    adapters: Sequence[str] = (),
    frames: int = 9,
    seed: int = 0,
    batch_size: int | None = None,
    overwrite: bool = False,
    on_progress: "Progress | None" = None,
    on_warning: Callable[[str], object] = _unheard,
    **settings: Any,
) -> Rows:
    """Interpolate, and write frames, manifest, `strip.png` and `interpolation.gif` to folder `out`.

    The options are those of `interpolate.interpolate` and `folder.generate_to_folder`. Returns the
    manifest's rows, in which `share` is how much of the second prompt a frame has.
    """
    first, second = check_prompts([first, second], settings.get("negative", ""))
    check_interpolation(first, second, frames)
    _check(settings, images=frames, seed=seed, batch_size=batch_size)
    if settings.get("size") is not None:
        settings["size"] = parse_size(settings["size"])
    out = writable_new_folder(out, overwrite=overwrite, only_with=MANIFEST)
    model = _loaded(model, device, dtype, adapters)
    for message in model.warnings([first, second], settings.get("negative", "")):
        on_warning(message)
    samples = interpolate(
        model, first, second, frames=frames, seed=seed, batch_size=batch_size,
        on_progress=on_progress, **settings,
    )  # fmt: skip
    size = settings.get("size") or model.generator.native_size
    with _new_folder(out, 3 * frames, size) as folder:
        rows, images = [], []
        for sample, share in zip(samples, shares(frames), strict=True):
            rows.append(_write(sample, folder, share=round(share, 6)))
            images.append(sample.image)
        write_manifest(folder / MANIFEST, rows)
        title = f"{_told(rows[0])}, seed {seed}: from {first!r} to {second!r}"
        captions = [f"{1 - share:.0%} : {share:.0%}" for share in shares(frames)]
        columns = min(_MOST_COLUMNS, frames)
        strip = contact_sheet(images, captions, columns, title=title, tile=TILE)
        write_png(folder / STRIP, strip, _about(rows[0]))
        (folder / ANIMATION).write_bytes(gif(images, title))
    return rows


def inpaint_to_folder(
    images: Sequence[Path | str],
    prompt: str,
    out: Path | str,
    *,
    mask: Path | str | None = None,
    ellipses: Sequence[str] = (),
    n: int = 1,
    seed: int = 0,
    strength: float = 1.0,
    feather: int = FEATHER,
    model: "str | TextToImage" = "mini",
    device: str = "auto",
    dtype: str = "auto",
    adapters: Sequence[str] = (),
    batch_size: int | None = None,
    overwrite: bool = False,
    on_progress: "Progress | None" = None,
    on_warning: Callable[[str], object] = _unheard,
    **settings: Any,
) -> Rows:
    """Paint into every image, `n` times each, and write the results to the new folder `out`.

    It holds the PNGs (16 bits where the image has them), the mask of each image, `manifest.jsonl`
    and `contact-sheet.png`: original, mask, results. All images have the same `mask`, of their own
    size, and `ellipses`, as `masks.parse_ellipse` reads them. The other options are those of
    `folder.generate_to_folder`. Returns the manifest's rows. Every file is read and checked before
    the model is loaded.
    """
    [prompt] = check_prompts(prompt, settings.get("negative", ""))
    parse_prompt(prompt)
    if not images:
        raise VesaliusError("no image is given to paint into")
    check_strength(strength)
    _check(settings, n=n, images=n * len(images), seed=seed, batch_size=batch_size)
    shapes = [parse_ellipse(text) for text in ellipses]
    canvases = [read_canvas(path) for path in images]
    masks = [make_mask(canvas.size, mask, shapes) for canvas in canvases]
    feathered(masks[0].pixels, feather)
    out = writable_new_folder(out, overwrite=overwrite, only_with=MANIFEST)
    model = _loaded(model, device, dtype, adapters)
    told = model.warnings(prompt, settings.get("negative", ""))
    for message in [*told, *_resized(model, canvases)]:
        on_warning(message)
    samples = inpaint(
        model, canvases, masks, prompt, n=n, seed=seed, strength=strength, feather=feather,
        batch_size=batch_size, on_progress=on_progress, **settings,
    )  # fmt: skip
    largest = max((canvas.size for canvas in canvases), key=lambda size: size[0] * size[1])
    with _new_folder(out, (n + 1) * len(images), largest) as folder:
        rows: Rows = []
        shown: list[tuple[Image.Image, str]] = []
        for number, (canvas, area) in enumerate(zip(canvases, masks, strict=True)):
            mask_file = f"mask-{number:05d}.png"
            drawn = Image.fromarray(area.pixels.astype(np.uint8) * 255)
            write_png(folder / mask_file, drawn, {"synthetic": True, **area.origin})
            line = [(_tile(canvas, canvas.pixels), "original"), (thumbnail(drawn, TILE), "mask")]
            for _, sample in zip(range(n), samples, strict=False):
                rows.append(_write(sample, folder, mask_file=mask_file))
                line.append((_tile(canvas, np.asarray(sample.image)), f"seed {sample.seed}"))
                line = line[: 2 + _MOST_SHOWN]
            shown += line if number < _MOST_ROWS else []
        write_manifest(folder / MANIFEST, rows)
        title = f"{_told(rows[0])}: {prompt!r} under the mask, strength {strength:g}"
        tiles, captions = zip(*shown, strict=True)
        columns = 2 + min(n, _MOST_SHOWN)
        sheet = contact_sheet(tiles, captions, columns, title=title, tile=TILE)
        write_png(folder / SHEET, sheet, _about(rows[0]))
    return rows


def _check(settings: dict[str, Any], **numbers: Any) -> None:
    check_numbers(steps=settings.get("steps"), guidance=settings.get("guidance"), **numbers)


def _loaded(
    model: "str | TextToImage", device: str, dtype: str, adapters: Sequence[str]
) -> "TextToImage":
    if isinstance(model, str):
        from vesalius.sample.generate import load

        return load(model, device, dtype, adapters)
    if adapters:
        raise VesaliusError("the model is loaded already: give its adapters to load()")
    return model


def _resized(model: "TextToImage", canvases: Sequence[Canvas]) -> list[str]:
    """One sentence for each size that is drawn at another scale."""
    sizes = dict.fromkeys(canvas.size for canvas in canvases)
    return [
        f"an image of {width}x{height} is drawn at {scaled[0]}x{scaled[1]}, near what the model "
        "was trained for, and what is under the mask resized"
        for width, height in sizes
        if (scaled := frame((width, height), model).scaled) != (width, height)
    ]


@contextmanager
def _new_folder(out: Path, pictures: int, size: tuple[int, int]) -> Iterator[Path]:
    needed = (pictures + 2 * _MOST_ROWS) * 6 * size[0] * size[1]  # an upper bound, 16 bits included
    with told_plainly(out, needed), atomic_path(out) as temporary:
        temporary.mkdir()
        yield temporary


def _write(sample: "Sample", folder: Path, **more: Any) -> dict[str, Any]:
    pixels = np.asarray(sample.image)
    format = "png16" if pixels.dtype == np.uint16 else "png"
    content = encode_image(pixels, sample.provenance, format)
    name = f"{sample.index:05d}.png"
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return {"file": name, **sample.provenance, **more, "sha256": digest}


def _tile(canvas: Canvas, pixels: np.ndarray) -> Image.Image:
    return thumbnail(canvas.shown(pixels), TILE)


def _told(row: dict[str, Any]) -> str:
    adapters = f" + {row['adapters']}" if row["adapters"] else ""
    return (
        f"SYNTHETIC images by vesalius {__version__} with {row['model']} ({row['model_hash']})"
        f"{adapters}, {row['steps']} steps, guidance {row['guidance']:g}"
    )


def _about(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("synthetic", "model", "model_hash", "adapters", "version")}
