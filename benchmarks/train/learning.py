"""What training has taught: FID to the real images of a base model and of results trained on it.

    python -m benchmarks.train.learning --pairs PAIRS --run lora=RUN/adapter \
        --run full=RUN/generator --out OUT [--model mini] [--count N] [--prompt TEXT]

A RUN is an adapter (LoRA or textual inversion, as `vesalius generate --adapter` takes them) or a
generator's folder. Each model draws one image for each of the first N rows of a fixed random order
of the table (all rows without --count) from that row's caption, with the same seeds and with the
steps and guidance of the base model. A textual inversion is asked for by its token alone, as it was
trained. All are compared with all real images of the table, whatever their split.

The protocol is that of the model card: short side 256, centre crop, Inception by "bilinear" (see
vesalius.models.networks.features). The floor is one random half of the real images against the other. FID
falls with N: compare figures of equal N only.

OUT holds the features, so that a stopped call goes on when it is repeated; learning.json; and
learning.png, twelve images of each run below twelve real ones. Those are of patients: OUT never
goes into a repository.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vesalius
from benchmarks.evaluate.floors import halves_fid
from benchmarks.features import inception_features, read_features, write_features
from benchmarks.recording import record, run, table
from vesalius.core.atomic import atomic_path
from vesalius.images.sheets import contact_sheet
from vesalius.models.device import pick_device
from vesalius.models.networks.inception import Inception
from vesalius.pairs.table import Pairs, read_pairs, square
from vesalius.sample.generate import GUIDANCE, STEPS, TextToImage
from vesalius.statistics.distances import fid

SIDE = 256  # pixels; real and generated images are compared at this size
CHUNK = 16  # images generated, measured and stored at a time
SHOWN, TILE = 12, 160  # images of a run on the sheet, and their pixels there


@dataclass(frozen=True)
class Drawing:
    """How the images of every run are drawn."""

    captions: list[str]
    seed: int
    steps: int
    guidance: float
    out: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, required=True, help="table of the real images")
    parser.add_argument("--run", action="append", default=[], metavar="NAME=PATH", type=named)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini", help="the base of every adapter")
    parser.add_argument("--prompt", help="instead of the captions; not for a textual inversion")
    parser.add_argument("--count", type=int, help="images a run; default: one for each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    pairs, network = read_pairs(args.pairs), Inception()
    device = str(pick_device(args.device))
    rows = np.random.default_rng(0).permutation(len(pairs)).tolist()
    captions = pairs.column("caption")
    texts = [args.prompt or captions[row] or "" for row in rows[: args.count]]
    base = vesalius.load(args.model, device)
    own = base.generator.settings
    drawing = Drawing(
        captions=texts,
        seed=args.seed,
        steps=int(own.get("steps", STEPS)),
        guidance=float(own.get("guidance", GUIDANCE)),
        out=args.out,
    )
    real = real_features(pairs, rows, network, device, args.out)
    shown = {"real": [Image.fromarray(pairs.image(row, SIDE)) for row in rows[:SHOWN]]}
    lines: list[list[Any]] = [["run", "FID", "N", "N real", "floor", "s/image", "asked for"]]
    floor, hashes = halves_fid(real), {"base": base.generator.model_hash}
    for name, path in [("base", None), *args.run]:
        model = base if path is None else trained(path, args.model, device)
        hashes[name] = identity(model)
        features, shown[name], pace = generated(name, model, drawing, network, device)
        asked = token_of(model) or args.prompt or "captions"
        figures = [fid(features, real), len(features), len(real), floor, pace, asked]
        lines.append([name, *figures])
        print(f"{name}: FID {lines[-1][1]:.2f}", flush=True)
    print()
    table(lines)
    write_sheet(shown, args.out / "learning.png")
    settings = {
        "pairs": content_hash(pairs.column("sha1")),
        "model": args.model,
        "models": hashes,
        "seed": args.seed,
        "steps": drawing.steps,
        "guidance": drawing.guidance,
        "resize": "bilinear",
    }
    dicts = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    record(args.out, "learning", dicts, settings)


def named(text: str) -> tuple[str, Path]:
    """NAME=PATH of the command line."""
    name, separator, path = text.partition("=")
    if not separator or not name or "/" in name or name in ("base", "real"):
        raise argparse.ArgumentTypeError(f"{text!r} should read NAME=PATH, as in lora=RUN/adapter")
    if not Path(path).exists():
        raise argparse.ArgumentTypeError(f"there is nothing at {path}")
    return name, Path(path)


def trained(path: Path, model: str, device: str) -> TextToImage:
    """A result of training, ready to generate: a generator of its own, or an adapter on `model`."""
    if (path / "model_index.json").is_file():
        return vesalius.load(str(path), device)
    return vesalius.load(model, device, adapters=[str(path)])


def identity(model: TextToImage) -> str:
    """Hash of the generator's files and of each adapter's."""
    return " + ".join([model.generator.model_hash, *(a.provenance for a in model.adapters)])


def token_of(model: TextToImage) -> str | None:
    """The word of a textual inversion that the model has taken in."""
    return next((adapter.token for adapter in model.adapters if adapter.token), None)


def prompts(model: TextToImage, drawing: Drawing) -> list[str]:
    """What the model is asked for: the captions, or the token of a textual inversion."""
    token = token_of(model)
    return [token] * len(drawing.captions) if token else drawing.captions


def real_features(
    pairs: Pairs, rows: list[int], network: Inception, device: str, out: Path
) -> np.ndarray:
    """Features of all real images in the order of `rows`, (N, 2048), kept by their content."""
    sha1 = pairs.column("sha1")
    path = out / "features" / f"real-{content_hash([sha1[row] for row in rows])}.safetensors"
    if not path.exists():
        images = (pairs.image(row, SIDE) for row in rows)
        write_features(path, features=inception_features(images, network=network, device=device))
    return read_features(path)["features"]


def generated(
    name: str, model: TextToImage, drawing: Drawing, network: Inception, device: str
) -> tuple[np.ndarray, list[Image.Image], float | None]:
    """Features of a run's images, (N, 2048), its first images, and seconds an image.

    What an earlier call has drawn is read; where that is all, no time was taken.
    """
    # another model or setting has another folder, another prompt another file
    made = [identity(model), str(drawing.seed), str(drawing.steps), str(drawing.guidance)]
    folder = drawing.out / "features" / f"{name}-{content_hash(made)}"
    texts = prompts(model, drawing)
    chunks, shown, drawn, started = [], [], 0, time.perf_counter()
    for start in range(0, len(texts), CHUNK):
        wanted = texts[start : start + CHUNK]
        path = folder / f"{start:06}-{content_hash(wanted)}.safetensors"
        if not path.exists():
            # image k is drawn from seed + k alone: chunks and restarts do not change it
            samples = model.stream(
                wanted, seed=drawing.seed + start, steps=drawing.steps, guidance=drawing.guidance
            )
            images = [square(sample.image, SIDE) for sample in samples]
            features = inception_features(images, network=network, device=device)
            if start == 0:
                strip = Image.fromarray(np.concatenate(images[:SHOWN], axis=1))
                with atomic_path(path.with_suffix(".png")) as temporary:
                    strip.save(temporary)
            write_features(path, features=features)
            drawn += len(wanted)
            pace = (time.perf_counter() - started) / drawn
            print(f"{name}: {start + len(wanted)} of {len(texts)}, {pace:.2f} s/image", flush=True)
        chunks.append(read_features(path)["features"])
        if start == 0:
            strip = np.asarray(Image.open(path.with_suffix(".png")))
            shown = [Image.fromarray(one) for one in np.split(strip, strip.shape[1] // SIDE, 1)]
    pace = (time.perf_counter() - started) / drawn if drawn else None
    return np.concatenate(chunks), shown, pace


def write_sheet(shown: dict[str, list[Image.Image]], path: Path) -> None:
    """One line of images a run, its name below the first of them."""
    images, captions = [], []
    for name, several in shown.items():
        blank = [Image.new("RGB", (SIDE, SIDE), "white")] * (SHOWN - len(several))
        images += [*several, *blank]
        captions += [name, *[""] * (SHOWN - 1)]
    sheet = contact_sheet(images, captions, SHOWN, tile=TILE)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def content_hash(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:12]


if __name__ == "__main__":
    run(main)
