"""Text to a folder of images: PNGs, `manifest.jsonl` and `contact-sheet.png`, all or nothing."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vesalius import __version__
from vesalius.errors import VesaliusError
from vesalius.io.atomic import atomic_path, told_plainly, writable_new_folder
from vesalius.io.images import contact_sheet, thumbnail, write_png
from vesalius.io.manifest import file_sha256, write_manifest
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
    batch_size: int | None = None,
    overwrite: bool = False,
    on_progress: "Progress | None" = None,
    on_warning: Callable[[str], None] | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Generate as `TextToImage.stream` does and write the images to the new folder `out`.

    `model`, `device`, `dtype` and `adapters` are those of `load`, which a loaded model has had;
    `settings` those of `TextToImage.request`.
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
    samples = model.stream(
        prompts, n=n, seed=seed, batch_size=batch_size, on_progress=on_progress, **settings
    )
    size = settings.get("size") or model.generator.native_size
    return save_samples(samples, out, n * len(prompts), size)


def save_samples(
    samples: "Iterable[Sample]", out: Path, count: int, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Write `count` samples of `size` pixels as they come, the manifest and the contact sheet.

    Returns the manifest's rows. The folder `out` appears when it is complete.
    """
    # PNG never takes much more than the raw pixels; the sheet at most its tiles again
    needed = (count + MOST_ON_SHEET) * 3 * size[0] * size[1]
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
