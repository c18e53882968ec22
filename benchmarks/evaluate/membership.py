"""Does membership inference find a LoRA that has learnt its images by heart, and no other?

    python -m benchmarks.evaluate.membership --pairs PAIRS --work WORK --out OUT

PAIRS is a table of one image set that the base model has not seen, best one with a single caption
(the records use 364 fields of blood smears). 16 images of it, drawn at random, are the members; 32
more steer a training that looks at held-out images, and of the rest --non-members are compared,
drawn at random too.

Two LoRAs of the base are trained by `vesalius train` on the same 16 images. `overfitted` is of a
high rank in attention and convolutions, trained at a high rate for 80 epochs with nothing held
out. `regularised` is of rank 4 in attention alone, at a low rate for 10 epochs, and the checkpoint
that does best on held-out images is taken. Both are then attacked, with the base as reference and
without. `untouched` is the base itself, for which members and non-members must be alike: if its
interval leaves out 0.5, the two were not drawn alike. A run that lies in WORK is not trained again.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.recording import record, table
from vesalius.data.pairs import Pairs, read_pairs
from vesalius.errors import VesaliusError
from vesalius.evaluate.membership import TIMES, denoising_errors, membership
from vesalius.io.atomic import atomic_path
from vesalius.models.adapters import load_adapter
from vesalius.models.generator import load_generator

MEMBERS, STEERING = 16, 32
EVERY = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")
SHARED = (
    "per=set",
    "train.text_encoder=false",
    "optimisation.validation_size=32",
    "optimisation.sample_images=0",
    "optimisation.schedule=constant",
    "optimisation.warmup_images=0",
)
CASES = {
    "overfitted": (
        "lora.rank=32",
        "lora.alpha=32",
        f"lora.targets=[{','.join(EVERY)}]",
        "optimisation.lr=2e-3",
        "optimisation.weight_decay=0",
        f"optimisation.seen_images={80 * MEMBERS}",
        f"optimisation.validate_images={20 * MEMBERS}",
        f"optimisation.checkpoint_images={80 * MEMBERS}",
    ),
    "regularised": (
        "lora.rank=4",
        "lora.alpha=4",
        "optimisation.lr=1e-4",
        f"optimisation.seen_images={10 * MEMBERS}",
        f"optimisation.validate_images={2 * MEMBERS}",
        f"optimisation.checkpoint_images={10 * MEMBERS}",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--pairs", type=Path, required=True, help="a set that the base has not seen"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for tables and runs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini", help="the base")
    parser.add_argument("--size", type=int, default=128, help="pixels: smaller is faster")
    parser.add_argument("--non-members", type=int, default=120)
    parser.add_argument("--noises", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    args.work.mkdir(parents=True, exist_ok=True)
    tables = {name: divided(args.pairs, args.work / f"{name}.parquet", name) for name in CASES}
    pairs = read_pairs(tables["regularised"])
    # drawn as the members are: the order of a table may have to do with what its images show
    others = np.random.default_rng(1).permutation(pairs.rows("test"))[: args.non_members]
    rows = [*pairs.rows("train"), *others.tolist()]
    base = errors(pairs, rows, None, args)

    figures: dict[str, Any] = {"untouched": {"plain": attack(base)}}
    for name, settings in CASES.items():
        folder = args.work / name
        if not (folder / "adapter").is_dir():
            train(tables[name], folder, (*SHARED, f"size={args.size}", *settings), args)
        found = errors(pairs, rows, folder / "adapter", args)
        figures[name] = {
            "member_error": found[:MEMBERS].mean(0).tolist(),
            "non_member_error": found[MEMBERS:].mean(0).tolist(),
            "with reference": attack(found, base),
            "plain": attack(found),
        }
    show(figures)
    record(args.out, "membership", figures, told(args, len(rows) - MEMBERS))


def divided(pairs: Path, path: Path, name: str) -> Path:
    """The table with 16 members in train, 32 in val unless all is left to run on, the rest in test."""
    content = pq.read_table(pairs)
    order = np.random.default_rng(0).permutation(len(content))
    split = np.full(len(content), "test", object)
    split[order[:MEMBERS]] = "train"
    # the overfitted one has none, but its non-members are the other's
    split[order[MEMBERS : MEMBERS + STEERING]] = "unused" if name == "overfitted" else "val"
    column = content.schema.get_field_index("split")
    with atomic_path(path) as temporary:
        pq.write_table(content.set_column(column, "split", pa.array(split.tolist())), temporary)
    return path


def train(pairs: Path, out: Path, settings: Sequence[str], args: argparse.Namespace) -> None:
    """Train one LoRA as a user would."""
    command = [sys.executable, "-m", "vesalius", "train", "cytodiff", "--pairs", str(pairs)]
    command += ["--out", str(out), "--model", args.model, "--device", args.device, *settings]
    subprocess.run(command, check=True)


def errors(
    pairs: Pairs, rows: list[int], adapter: Path | None, args: argparse.Namespace
) -> np.ndarray:
    """Denoising errors (N, times) of the base, or of the base with an adapter."""
    generator = load_generator(args.model, args.device, "float32")
    if adapter:
        load_adapter(generator, adapter)
    captions = pairs.column("caption")
    images = (pairs.image(row, args.size) for row in rows)
    return denoising_errors(
        generator, images, [captions[row] for row in rows], noises=args.noises, batch_size=16
    )


def attack(found: np.ndarray, base: np.ndarray | None = None) -> dict[str, Any]:
    """The attack on all times together, and its AUROC at each."""

    def of(times: slice) -> Any:
        both = [
            (each[:MEMBERS, times], each[MEMBERS:, times])
            for each in (found, base)
            if each is not None
        ]
        return membership(*both[0], both[1] if base is not None else None)

    each = {f"{time:g}": of(slice(k, k + 1)).detection.auroc.value for k, time in enumerate(TIMES)}
    return of(slice(None)).to_dict() | {"auroc_by_time": each}


def show(figures: dict[str, Any]) -> None:
    rows: list[list[Any]] = [["model", "attack", "AUROC", "95 %", "TPR at 1 % FPR", "95 %"]]
    for name, case in figures.items():
        for kind in ("with reference", "plain"):
            if kind in case:
                one = case[kind]["detection"]
                spans = [f"{f['low']:.2f} to {f['high']:.2f}" for f in (one["auroc"], one["found"])]
                values = one["auroc"]["value"], one["found"]["value"]
                rows.append([name, kind, values[0], spans[0], values[1], spans[1]])
    table(rows)


def told(args: argparse.Namespace, non_members: int) -> dict[str, Any]:
    return {
        "model": args.model,
        "size": args.size,
        "members": MEMBERS,
        "non_members": non_members,
        "times": TIMES,
        "noises": args.noises,
        "recipe": "cytodiff",
        "overrides": {name: [*SHARED, *settings] for name, settings in CASES.items()},
    }


if __name__ == "__main__":
    try:
        main()
    except VesaliusError as error:
        raise SystemExit(f"error: {error}") from error
