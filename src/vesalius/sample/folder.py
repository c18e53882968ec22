"""Text to a folder of images, `manifest.jsonl` and `contact-sheet.png`, all or nothing."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vesalius._version import __version__
from vesalius.core.atomic import atomic_path, told_plainly, writable_new_folder
from vesalius.core.manifest import write_manifest
from vesalius.errors import VesaliusError
from vesalius.images.encode import choose_format, encode_image, suffix
from vesalius.images.provenance import statement
from vesalius.images.sheets import contact_sheet, thumbnail, write_png
from vesalius.sample.checks import check_numbers, check_prompts, parse_size
from vesalius.sample.prompt import parse_prompt

if TYPE_CHECKING:  # torch is imported only once the request is known to make sense
    from vesalius.sample.generate import Progress, Sample, TextToImage

MANIFEST = "manifest.jsonl"
SHEET = "contact-sheet.png"
MOST_ON_SHEET = 64
TILE = 256  # pixels


def generate_to_folder(
    prompts: Sequence[str],
    out: Path | str,
    *,
    model: "str | TextToImage" = "mini",
    device: str = "auto",
    dtype: str = "auto",
    adapters: Sequence[str] = (),
    n: int = 1,
    seed: int = 0,
    format: str | None = None,
    bits: int | None = None,
    batch_size: int | None = None,
    overwrite: bool = False,
    on_progress: "Progress | None" = None,
    on_warning: Callable[[str], None] | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Generate as `TextToImage.stream` does and write the images to the new folder `out`.

    `model`, `device`, `dtype` and `adapters` are those of `load`, which a loaded model has had;
    `settings` those of `TextToImage.request`. `format` is one of `io.encode.FORMATS` and `bits` its
    depth, 8 or 16 (grey); neither given, they are the model's own.
    Returns the rows of its `manifest.jsonl`. The same call gives the same bytes. The folder appears
    when it is complete: an error or Ctrl-C leaves nothing, and with `overwrite` the earlier output.
    Raises VesaliusError for a request that cannot be met, most of them before the model is loaded,
    and for a full or read-only disk.
    """
    prompts = check_prompts(prompts, settings.get("negative", ""))
    for prompt in prompts:
        parse_prompt(prompt)
    steps, guidance = settings.get("steps"), settings.get("guidance")
    check_numbers(n=n, seed=seed, steps=steps, guidance=guidance, batch_size=batch_size)
    choose_format(format, bits)
    if settings.get("size") is not None:
        settings["size"] = parse_size(settings["size"])
    out = writable_new_folder(out, overwrite=overwrite, only_with=MANIFEST)
    if isinstance(model, str):
        from vesalius.sample.generate import load

        model = load(model, device, dtype, adapters)
    elif adapters:
        raise VesaliusError("the model is loaded already: give its adapters to load()")
    for message in model.warnings(prompts, settings.get("negative", "")):
        if on_warning:
            on_warning(message)
    format, bits = choose_format(format, bits, model.generator.settings.get("bits", 8))
    samples = model.stream(
        prompts,
        n=n,
        seed=seed,
        bits=bits,
        batch_size=batch_size,
        on_progress=on_progress,
        **settings,
    )
    size = settings.get("size") or model.generator.native_size
    return save_samples(samples, out, n * len(prompts), size, format)


def save_samples(
    samples: "Iterable[Sample]", out: Path, count: int, size: tuple[int, int], format: str = "png"
) -> list[dict[str, Any]]:
    """Write `count` samples of `size` pixels as they come, the manifest and the contact sheet.

    The sheet is a PNG whatever the `format` of the images. Returns the manifest's rows. The folder
    `out` appears when it is complete.
    """
    # no format takes much more than the raw pixels; the sheet at most its tiles again
    needed = (count + MOST_ON_SHEET) * 3 * size[0] * size[1]
    with told_plainly(out, needed), atomic_path(out) as temporary:
        temporary.mkdir()
        rows, shown, study = [], [], ""
        for sample in samples:
            study = study or _digest(f"{count} {json.dumps(sample.provenance)}".encode())
            content = encode_image(
                np.asarray(sample.image),
                sample.provenance,
                format,
                study=study,
                number=sample.index + 1,
            )
            path = temporary / f"{sample.index:05d}{suffix(format)}"
            path.write_bytes(content)
            rows.append({"file": path.name, **sample.provenance, "sha256": _digest(content)})
            if len(shown) < MOST_ON_SHEET:
                caption = f"{sample.prompt} (seed {sample.seed})"
                shown.append((thumbnail(_eight_bits(sample.image), TILE), caption))
        write_manifest(temporary / MANIFEST, rows)
        _write_sheet(temporary / SHEET, shown, rows)
    return rows


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode != "I;16":
        return image
    return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))


def _write_sheet(path: Path, shown: list[tuple[Any, str]], rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    count = f"{len(shown)} of {len(rows)}" if len(shown) < len(rows) else f"{len(rows)}"
    adapters = f" + {first['adapters']}" if first["adapters"] else ""
    said = statement(first).replace("Synthetic image", "SYNTHETIC images")
    title = (
        f"{said}: {count} by vesalius {__version__} with "
        f"{first['model']} ({first['model_hash']}){adapters}, {first['steps']} steps, "
        f"guidance {first['guidance']:g}"
    )
    # square-ish, but never so narrow that captions of few images turn into columns of words
    columns = max(2, min(8, math.ceil(math.sqrt(len(shown)))))
    images, captions = zip(*shown, strict=True)
    sheet = contact_sheet(images, captions, columns, title=title, tile=TILE)
    about = {key: first[key] for key in ("synthetic", "model", "model_hash", "adapters", "version")}
    write_png(path, sheet, about)
