"""Images to a new folder with `manifest.jsonl` and a picture of all, complete or not at all."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vesalius._version import __version__
from vesalius.core.atomic import atomic_path, clear_write_errors, writable_new_folder
from vesalius.core.manifest import write_manifest
from vesalius.core.waiting import no_collecting
from vesalius.errors import VesaliusError
from vesalius.images.encode import choose_format, encode_image, suffix
from vesalius.images.provenance import statement
from vesalius.images.sheets import contact_sheet, data_uri, thumbnail, write_png
from vesalius.sample.checks import check_numbers, check_prompts
from vesalius.sample.prompt import parse_prompt
from vesalius.sample.settings import GenerateSettings, ModelSettings
from vesalius.sample.start import STRENGTH, read_start

if TYPE_CHECKING:
    from vesalius.sample.canvas import (
        Canvas,  # torch is imported only once the request is known to make sense
    )
    from vesalius.sample.generate import Progress, Sample, TextToImage

MANIFEST = "manifest.jsonl"
SHEET = "contact-sheet.png"
MOST_ON_SHEET = 64
TILE = 256  # pixels

Row = dict[str, Any]  # of a manifest


@dataclass(frozen=True)
class ImageFolder:
    """Synthetic images on disk, and the rows of their manifest."""

    path: Path
    rows: list[Row]
    picture: str = SHEET  # that shows all of them

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        images = f"{len(self)} synthetic image{'s' * (len(self) > 1)}"
        return f"{images} in {self.path}: see {self.picture}"

    def _repr_html_(self) -> str:
        return picture_html(self.path / self.picture)


def picture_html(path: Path) -> str:
    """A picture for a notebook, of 1,024 pixels at most."""
    with Image.open(path) as image:
        return f'<img src="{data_uri(image, 1024)}">'


def generate_to_folder(
    prompts: str | Sequence[str],
    out: Path | str,
    settings: GenerateSettings | None = None,
    *,
    model: "TextToImage | None" = None,
    overwrite: bool = False,
    on_progress: "Progress | None" = None,
    on_warning: Callable[[str], object] = lambda message: None,
    on_message: Callable[[str], object] = lambda message: None,
) -> ImageFolder:
    """Generate `n` images of each prompt, as `TextToImage.stream` does, in the new folder `out`.

    A loaded `model` takes the place of the one that the settings name. The format and its bits are
    the model's own where neither is set. The same call gives the same bytes. The folder appears
    when it is complete: an error or Ctrl-C leaves nothing, and with `overwrite` the earlier output.
    Raises VesaliusError for a request that cannot be met, most of them before the model is loaded,
    and for a full or read-only disk.
    """
    settings = settings or GenerateSettings()
    prompts = check_prompts(prompts)
    for prompt in prompts:
        parse_prompt(prompt)
    check_numbers(images=settings.n * len(prompts), seed=settings.seed)
    start = None
    if settings.image:
        start = read_start(
            settings.image, STRENGTH if settings.strength is None else settings.strength
        )
    out = new_output(out, overwrite)
    model = loaded(settings, model)
    for message in model.warnings(prompts, settings.negative):
        on_warning(message)
    own_bits = model.generator.settings.get("bits", 8)
    format, bits = choose_format(settings.format, settings.bits, own_bits)
    requests = model.requests(prompts, settings.n, settings, start)
    if settings.dtype == "auto":
        on_message(model.precision)
    samples = model.draw(requests, settings.batch_size, on_progress, bits)
    return save_samples(samples, out, len(requests), requests[0].size, format)


def new_output(out: Path | str, overwrite: bool) -> Path:
    """`out`, which may become a new folder of images. Raises VesaliusError where it may not."""
    return writable_new_folder(out, overwrite=overwrite, only_with=MANIFEST)


def loaded(settings: ModelSettings, model: "TextToImage | None") -> "TextToImage":
    """`model` where there is one, else the one that the settings name."""
    if model is None:
        with no_collecting():
            from vesalius.sample.generate import load

            return load(settings.model, settings.device, settings.dtype, settings.adapters)
    if settings.adapters:
        raise VesaliusError("the model is loaded already: give its adapters to load()")
    return model


def save_samples(
    samples: "Iterable[Sample]", out: Path, count: int, size: tuple[int, int], format: str = "png"
) -> ImageFolder:
    """Write `count` samples of `size` pixels as they come, the manifest and the contact sheet.

    The sheet is a PNG whatever the `format` of the images.
    """
    with new_folder(out, count, size) as folder:
        rows, tiles, captions, study = [], [], [], ""
        for sample in samples:
            study = study or digest(f"{count} {json.dumps(sample.provenance)}".encode())
            rows.append(save_sample(sample, folder, format, study))
            if len(tiles) < MOST_ON_SHEET:
                tiles.append(thumbnail(_eight_bits(sample.image), TILE))
                captions.append(f"{sample.prompt} (seed {sample.seed})")
        write_manifest(folder / MANIFEST, rows)
        said = statement(rows[0]).replace("Synthetic image", "SYNTHETIC images")
        shown = f"{len(tiles)} of {count}" if len(tiles) < count else f"{count}"
        title = f"{said}: {shown} {made_by(rows[0])}{drawn_with(rows[0])}"
        save_sheet(folder / SHEET, tiles, captions, title, rows[0])
    return ImageFolder(out, rows)


@contextmanager
def new_folder(out: Path, images: int, size: tuple[int, int]) -> Iterator[Path]:
    """A folder to write so many images into, of up to (width, height), which then becomes `out`."""
    # no format takes much more than the raw pixels, here of 16 bits; the sheet its tiles again
    needed = (images + MOST_ON_SHEET) * 6 * size[0] * size[1]
    with clear_write_errors(out, needed), atomic_path(out) as temporary:
        temporary.mkdir()
        yield temporary


def save_sample(
    sample: "Sample",
    folder: Path,
    format: str = "png",
    study: str = "",
    canvas: "Canvas | None" = None,
    **more: Any,
) -> Row:
    """Write one image with its provenance, and return its row of the manifest, `more` included.

    `canvas` is the image that it was painted into.
    """
    pixels, number = np.asarray(sample.image), sample.index + 1
    of_file = {"window": canvas.window, "kept": canvas.kept} if canvas else {}
    content = encode_image(pixels, sample.provenance, format, study=study, number=number, **of_file)
    name = f"{sample.index:05d}{suffix(format)}"
    (folder / name).write_bytes(content)
    return {"file": name, **sample.provenance, **more, "sha256": digest(content)}


def save_sheet(
    path: Path,
    tiles: Sequence[Image.Image],
    captions: Sequence[str],
    title: str,
    row: Row,
    columns: int | None = None,
) -> None:
    """Write the picture of all images, with what `row`, one of the manifest's, says of the model."""
    # square-ish, but never so narrow that captions of few images turn into columns of words
    columns = columns or max(2, min(8, math.ceil(math.sqrt(len(tiles)))))
    sheet = contact_sheet(tiles, captions, columns, title=title, tile=TILE)
    about = {key: row[key] for key in ("synthetic", "model", "model_hash", "adapters", "version")}
    write_png(path, sheet, about)


def made_by(row: Row) -> str:
    """The model, for the title of a sheet."""
    adapters = f" + {row['adapters']}" if row["adapters"] else ""
    return f"by vesalius {__version__} with {row['model']} ({row['model_hash']}){adapters}"


def drawn_with(row: Row) -> str:
    """Steps and guidance, for the title of a sheet."""
    return f", {row['steps']} steps, guidance {row['guidance']:g}"


def digest(content: bytes) -> str:
    """SHA-256, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode != "I;16":
        return image
    return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
