"""FID of a model: one generated image per real one of the protocol, from that image's caption.

    python -m benchmarks.mini.fid --data DIR --pairs PAIRS --features FEATURES --out OUT \
        [--model mini] [--limit N] [--minutes M]

FEATURES comes from real_features.py. Images are not saved: they go from the generator into the
Inception network, and their features are stored every few hundred, so a stopped run continues
where it was when the command is repeated. The order is stratified: a partial run is a fair sample.
The first --keep images are also kept as PNG, for nearest.py.

Prints FID for all sets pooled and for each, beside the floor (one half of the real images against
the other), then FID on the captions held out from training beside as many that were not.
Resize: "bilinear" (see vesalius.models.networks.features). FID falls with N: compare equal N only.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vesalius
from benchmarks.mini.common import SETS, SIDE, Item, RealFeatures, protocol
from benchmarks.recording import record, table
from vesalius.core.atomic import atomic_path
from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.fidelity import fid, halves_fid
from vesalius.models.networks.features import inception_features, read_features, write_features
from vesalius.models.networks.inception import FEATURES, Inception
from vesalius.pairs.table import read_pairs, square

CHUNK = 16  # images generated, then measured, at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of fid_protocol.csv")
    parser.add_argument("--pairs", type=Path, required=True, help="pairs Parquet with captions")
    parser.add_argument("--features", type=Path, required=True, help="from real_features.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--limit", type=int, help="generate only the first N of the order")
    parser.add_argument("--minutes", type=float, help="stop generating after so long")
    parser.add_argument("--keep", type=int, default=500, help="images kept as PNG")
    parser.add_argument("--every", type=int, default=256, help="images between two stores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="default: the model's own")
    parser.add_argument("--guidance", type=float, help="default: the model's own")
    parser.add_argument("--batch-size", type=int, default=8, help="changes speed alone")
    args = parser.parse_args()

    items = protocol(args.data, read_pairs(args.pairs))
    real = RealFeatures(args.features)
    wanted = items[: args.limit]
    generated, settings = generate(wanted, args)
    figures = measure(items, generated, real)
    record(args.out, "fid", figures, settings)


def generate(items: list[Item], args: argparse.Namespace) -> tuple[np.ndarray, dict[str, Any]]:
    """Features of the generated images, continuing a stored run, and the settings they have."""
    model = vesalius.load(args.model)
    own = model.generator.settings
    settings = {
        "model": args.model,
        "model_hash": model.generator.model_hash,
        "seed": args.seed,
        "steps": own.get("steps") if args.steps is None else args.steps,
        "guidance": own.get("guidance") if args.guidance is None else args.guidance,
        "resize": "bilinear",
    }
    long = len(model.warnings([item.caption for item in items]))
    print(f"{long} distinct captions are longer than the text encoder reads")
    features = stored(args.out, items, settings)
    if len(features):
        print(f"{len(features)} images were generated before")
    network, start, first = Inception(), time.perf_counter(), len(features)
    pending: list[np.ndarray] = []
    for at in range(first, len(items), CHUNK):
        if args.minutes and time.perf_counter() - start > 60 * args.minutes:
            print(f"{args.minutes} minutes are over: run the same command again to continue")
            break
        captions = [item.caption for item in items[at : at + CHUNK]]
        # image k is drawn from seed + k alone: chunks and restarts do not change it
        options = {"seed": args.seed + at, "steps": args.steps, "guidance": args.guidance}
        options["batch_size"] = args.batch_size
        images = [sample.image for sample in model.stream(captions, **options)]
        keep(args.out / "images", images[: max(0, args.keep - at)], at)
        pending.append(inception_features(squares(images), network=network))
        done = at + len(images)
        if done // args.every > at // args.every or done == len(items):
            features, pending = np.concatenate([features, *pending]), []
            store(args.out, features, items, settings)
            pace = (time.perf_counter() - start) / (done - first)
            print(f"{done:6d} of {len(items)} images, {pace:.2f} s/image", flush=True)
    if pending:
        features = np.concatenate([features, *pending])
        store(args.out, features, items, settings)
    return features[: len(items)], settings


def squares(images: Iterable[Image.Image]) -> Iterator[np.ndarray]:
    return (square(image, SIDE) for image in images)


def keep(folder: Path, images: list[Image.Image], first: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for position, image in enumerate(images, first):
        image.save(folder / f"{position:05d}.png")


def store(out: Path, features: np.ndarray, items: list[Item], settings: dict[str, Any]) -> None:
    done = items[: len(features)]
    with atomic_path(out / "generated.json") as path:
        path.write_text(json.dumps(settings, indent=1))
    write_features(
        out / "generated.safetensors",
        features=features,
        set=np.array([SETS.index(item.source) for item in done]),
        row=np.array([item.row for item in done]),
    )


def stored(out: Path, items: list[Item], settings: dict[str, Any]) -> np.ndarray:
    """Features of an earlier run with these settings, (n, 2048); none for a new folder."""
    if not (out / "generated.safetensors").exists():
        return np.empty((0, FEATURES), np.float32)
    found = read_features(out / "generated.safetensors")
    before = json.loads((out / "generated.json").read_text())
    rows = [item.row for item in items][: len(found["row"])]
    if before != settings or found["row"].tolist()[: len(rows)] != rows:
        raise VesaliusError(f"{out} holds another run ({before}): choose another --out")
    return found["features"]


def measure(items: list[Item], generated: np.ndarray, real: RealFeatures) -> dict[str, Any]:
    """Pooled, per set, held-out and trained FID; prints each as a row."""
    done = items[: len(generated)]
    rows: list[list[Any]] = [["set", "FID", "floor", "generated", "real"]]
    for name in ("all pooled", *SETS):
        pick = [i for i, item in enumerate(done) if name in ("all pooled", item.source)]
        keys = [(i.source, i.row) for i in items if name in ("all pooled", i.source)]
        if len(pick) < 2:
            continue
        truth = real(keys)
        rows.append([name, fid(generated[pick], truth), halves_fid(truth), len(pick), len(keys)])
    table(rows)

    held, trained = split_alike(done)
    splits: list[list[Any]] = [["captions and real images", "FID", "floor", "N"]]
    for name, pick in (("held out", held), ("trained on", trained)):
        if len(pick) < 4:
            continue
        truth = real([(done[i].source, done[i].row) for i in pick])
        splits.append([name, fid(generated[pick], truth), halves_fid(truth), len(pick)])
    print()
    table(splits)
    return {"sets": as_dicts(rows), "splits": as_dicts(splits)}


def split_alike(items: list[Item]) -> tuple[list[int], list[int]]:
    """Positions of all held-out items, and of as many trained ones of each set."""
    held = [i for i, item in enumerate(items) if item.held_out]
    trained: list[int] = []
    for name in SETS:
        count = sum(items[i].source == name for i in held)
        own = [i for i, item in enumerate(items) if item.source == name and not item.held_out]
        trained += own[:count]  # the order within a set is random already
    return held, trained


def as_dicts(rows: list[list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


if __name__ == "__main__":
    try:
        main()
    except VesaliusError as error:
        raise SystemExit(f"error: {error}") from error
