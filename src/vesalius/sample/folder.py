"""Text to a folder of images: PNGs, `manifest.jsonl` and `contact-sheet.png`, all or nothing."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vesalius import __version__
from vesalius.errors import VesaliusError
from vesalius.io.atomic import atomic_path, told_plainly, writable_new_folder
from vesalius.io.images import contact_sheet, thumbnail, write_png
from vesalius.io.manifest import file_sha256, write_manifest
from vesalius.sample.checks import check_numbers, check_prompts, parse_size

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
    steps: int | None = None,
    guidance: float | None = None,
    negative: str = "",
    size: str | int | tuple[int, int] | None = None,
    batch_size: int | None = None,
    overwrite: bool = False,
    on_progress: "Progress | None" = None,
    on_warning: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Generate as `TextToImage.stream` does and write the images to the new folder `out`.

    `model`, `device`, `dtype` and `adapters` are those of `load`, which a loaded model has had.
    Returns the rows of its `manifest.jsonl`. The same call gives the same bytes. The folder appears
    when it is complete: an error or Ctrl-C leaves nothing, and with `overwrite` the earlier output.
    Raises VesaliusError for a request that cannot be met, most of them before the model is loaded,
    and for a full or read-only disk.
    """
    prompts = check_prompts(prompts, negative)
    check_numbers(n=n, seed=seed, steps=steps, guidance=guidance, batch_size=batch_size)
    size = None if size is None else parse_size(size)
    out = writable_new_folder(out, overwrite=overwrite, only_with=MANIFEST)
    if isinstance(model, str):
        from vesalius.sample.generate import load

        model = load(model, device, dtype, adapters)
    elif adapters:
        raise VesaliusError("the model is loaded already: give its adapters to load()")
    for message in model.warnings(prompts, negative):
        if on_warning:
            on_warning(message)
    samples = model.stream(
        prompts,
        n=n,
        seed=seed,
        steps=steps,
        guidance=guidance,
        negative=negative,
        size=size,
        batch_size=batch_size,
        on_progress=on_progress,
    )
    width, height = size or model.generator.native_size
    # PNG never takes much more than the raw pixels; the sheet at most its tiles again
    needed = (n * len(prompts) + MOST_ON_SHEET) * 3 * width * height
    with told_plainly(out, needed), atomic_path(out) as temporary:
        temporary.mkdir()
        rows, shown = [], []
        for sample in samples:
            rows.append(_write(sample, temporary))
            if len(shown) < MOST_ON_SHEET:
                caption = f"{sample.prompt} (seed {sample.seed})"
                shown.append((thumbnail(sample.image, TILE), caption))
        write_manifest(temporary / MANIFEST, rows)
        _write_sheet(temporary / SHEET, shown, rows)
    return rows


def _write(sample: "Sample", folder: Path) -> dict[str, Any]:
    path = folder / f"{sample.index:05d}.png"
    write_png(path, sample.image, sample.provenance)
    return {"file": path.name, **sample.provenance, "sha256": file_sha256(path)}


def _write_sheet(path: Path, shown: list[tuple[Any, str]], rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    count = f"{len(shown)} of {len(rows)}" if len(shown) < len(rows) else f"{len(rows)}"
    adapters = f" + {first['adapters']}" if first["adapters"] else ""
    title = (
        f"SYNTHETIC images, not of any patient: {count} by vesalius {__version__} with "
        f"{first['model']} ({first['model_hash']}){adapters}, {first['steps']} steps, "
        f"guidance {first['guidance']:g}"
    )
    # square-ish, but never so narrow that captions of few images turn into columns of words
    columns = max(2, min(8, math.ceil(math.sqrt(len(shown)))))
    images, captions = zip(*shown, strict=True)
    sheet = contact_sheet(images, captions, columns, title=title, tile=TILE)
    about = {key: first[key] for key in ("synthetic", "model", "model_hash", "adapters", "version")}
    write_png(path, sheet, about)
