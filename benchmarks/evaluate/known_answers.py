"""Does a whole evaluation say what is true of sets whose faults are known?

    python -m benchmarks.evaluate.known_answers --pairs PAIRS --set SOURCE --work WORK --out OUT

On real images. The held-out images of one source of PAIRS are halved by group: one half is what the
evaluation compares with, beside --train training images; the other stands in for generated sets:

- `honest`: as it is. Nothing may be called bad.
- `collapsed`: as many images of each class, but of three pictures of it only, each slightly cropped,
  brightened and noised anew. Its diversity must be called bad.
- `shuffled`: the images of `honest`, their labels dealt out anew. Their labels must be called bad.
- `copied`: 5 % of them, at least five, are changed copies of training images. Copies must be found.

A set fails the part that has a sentence among what is bad in the report's summary. WORK keeps the
sets and their features.
"""

import argparse
import io
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.evaluate.planting import KINDS, WHOLE, cropped
from benchmarks.recording import record, table
from vesalius.core.manifest import write_manifest
from vesalius.evaluate.run import evaluate
from vesalius.evaluate.settings import EvaluateSettings
from vesalius.models.generator import load_generator
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.statistics.figure import pick
from vesalius.statistics.intervals import halves

PLANTED, LEAST_PLANTED, MODES = 0.05, 5, 3
PARTS = ("fidelity", "diversity", "alignment", "privacy")
SIGNS = {  # how the sentences of a part begin or go on
    "fidelity": ("away from", "look like real ones", "variety of real ones"),
    "diversity": ("less different from each other", "Too much alike"),
    "labels": ("A classifier of real images", "Not shown to be better than chance"),
    "copies": ("as near to a training image", "repeat another one", "nearer to what was trained"),
}
MUST_FAIL = {"honest": (), "collapsed": ("diversity",), "shuffled": ("labels",), "copied": ("copies",)}  # fmt: skip
Made = Iterable[tuple[bytes, int]]  # image files and the rows whose label they have


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, required=True, help="with train and held-out rows")
    parser.add_argument("--set", required=True, help="one source of it, with classes")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=800, help="training images, at most")
    parser.add_argument("--extractors", default="efficientnet-lite0")
    parser.add_argument("--replicates", type=int, default=100)
    args = parser.parse_args()

    pairs, rng = read_pairs(args.pairs), np.random.default_rng(0)
    train, held_out = (rows_of(pairs, args.set, names) for names in (("train",), ("val", "test")))
    train = np.sort(rng.permutation(train)[: args.train])
    groups = [pairs.column("group")[row] or str(row) for row in held_out]
    ours, others = (
        held_out[part] for part in halves(len(held_out), len(held_out) // 2, rng, groups)
    )
    work = args.work / args.set
    real = write_real(args.pairs, train, others, work / "real.parquet")
    made: dict[str, Callable[[], Made]] = {
        "honest": lambda: ((pairs.encoded(int(row)), row) for row in ours),
        "collapsed": lambda: collapsed(pairs, ours, rng),
        "shuffled": lambda: zip(
            (pairs.encoded(int(row)) for row in ours), rng.permutation(ours), strict=True
        ),
        "copied": lambda: copied(pairs, ours, train, rng),
    }
    folders = {name: write_set(pairs, make(), work / name) for name, make in made.items()}
    settings = EvaluateSettings(
        extractors=tuple(args.extractors.split(",")), only=PARTS, replicates=args.replicates,
        samples=3, store=args.work / "store", overwrite=True,
    )  # fmt: skip
    document = evaluate(real, folders, work / "evidence", settings).document
    figures = {name: told(document, name) for name in folders}
    table(
        [["set", "must fail", "fails", "as it should be"]]
        + [
            [name, *(", ".join(each[key]) or "nothing" for key in ("must_fail", "fails")),
             "yes" if each["as_it_should_be"] else "NO"]
            for name, each in figures.items()
        ]
    )  # fmt: skip
    for name, each in figures.items():
        for sentence in each["bad"]:
            print(f"{name}: {sentence}")
    given = {name: str(value) for name, value in vars(args).items() if name not in ("out", "work")}
    given |= {"n": str(len(ours)), "held_out": str(len(others)), "training": str(len(train))}
    record(args.out, f"known_answers-{args.set}", figures, given)


def rows_of(pairs: Pairs, source: str, splits: tuple[str, ...]) -> np.ndarray:
    """Rows of a source and some splits that have a label."""
    columns = (pairs.column(name) for name in ("source", "split", "label"))
    known = enumerate(zip(*columns, strict=True))
    return np.array([k for k, (s, split, label) in known if s == source and split in splits and label])  # fmt: skip


def write_real(pairs: Path, train: np.ndarray, held_out: np.ndarray, path: Path) -> Path:
    """The table of what the evaluation compares with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pq.read_table(pairs).take(pa.array(np.concatenate([train, held_out])))
    pq.write_table(content, path, row_group_size=256)
    return path


def write_set(pairs: Pairs, made: Made, folder: Path) -> Path:
    """Image files with a manifest that names their class."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    columns = {name: pairs.column(name) for name in ("label", "caption", "source")}
    lines = []
    for number, (content, row) in enumerate(made):
        name = f"{number:04d}.jpg"
        (folder / name).write_bytes(content)
        lines.append({"file": name} | {key: column[row] for key, column in columns.items()})
    write_manifest(folder / "manifest.jsonl", lines)
    return folder


def collapsed(pairs: Pairs, rows: np.ndarray, rng: np.random.Generator) -> Made:
    """For each row one of the first MODES pictures of its class, slightly changed."""
    labels = pairs.column("label")
    modes = {of: [k for k in rows if labels[k] == of][:MODES] for of in {labels[k] for k in rows}}
    for row in rows:
        image = pairs.image(int(rng.choice(modes[labels[row]])), WHOLE)
        image = cropped(0.03)(image, rng, None) * rng.uniform(0.97, 1.03)
        noisy = np.clip(np.rint(image + rng.normal(0, 2, image.shape)), 0, 255)
        yield jpeg(noisy.astype(np.uint8)), int(row)


def copied(pairs: Pairs, rows: np.ndarray, train: np.ndarray, rng: np.random.Generator) -> Made:
    """The images of `rows`; the last ones are copies of training images, each in another way."""
    count = max(LEAST_PLANTED, round(PLANTED * len(rows)))
    vae = load_generator("mini", "cpu", "float32").vae
    for row in rows[:-count]:
        yield pairs.encoded(int(row)), int(row)
    ways = list(KINDS.values())
    for number, row in enumerate(rng.permutation(train)[:count]):
        change = ways[number % len(ways)]
        yield jpeg(change(pairs.image(int(row), WHOLE), rng, vae)), int(row)


def jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def told(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The verdict of each part, and the figures that it rests on."""
    said, figures = document["summary"][name], document["sets"][name]["figures"]
    fails = [
        part
        for part, signs in SIGNS.items()
        if any(sign in sentence for sentence in said["bad"] for sign in signs)
    ]
    needed = set(MUST_FAIL[name])
    right = needed <= set(fails) and (needed or not said["bad"])
    kept = ("metric", "extractor", "reference", "value", "low", "high", "n", "floor", "at_floor_n")
    wanted = ("fid", "ms_ssim", "lpips", "vendi", "mean auroc", "copies", "distance ratio")
    return {
        "must_fail": sorted(needed),
        "fails": fails,
        "as_it_should_be": bool(right),
        "bad": said["bad"],
        "unknown": said["unknown"],
        "figures": [
            {key: figure[key] for key in kept} | {"details": figure["details"]}
            for metric in wanted
            for figure in pick(figures, metric=metric, of="all")
        ],
    }


if __name__ == "__main__":
    main()
