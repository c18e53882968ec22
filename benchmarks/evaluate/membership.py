"""Does membership inference find a LoRA that has learnt its images by heart, and no other?

    python -m benchmarks.evaluate.membership --pairs PAIRS --work WORK --out OUT

PAIRS is a table of one image set that the base model has not seen, best one with a single caption
(the records use 364 fields of blood smears). --non-members of it, drawn at random, are never trained
on: every attack asks for the same ones.

Two LoRAs of the base are trained by `vesalius train`. `overfitted` sees 16 of the other images 80
times, at a high rate, with a high rank. `regularised` is what a user with all the other images would
train: rank 16 in every layer, weight decay, some six passes; that it has learnt something shows in
the error on images that it never saw, which is told beside the base's. Both are then attacked, with
the base as reference and without. `untouched` is the base itself, for which members and non-members
must be alike: if its interval leaves out 0.5, the two were not drawn alike. A run that lies in WORK
is not trained again.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.recording import record, run, table
from vesalius.core.atomic import atomic_path
from vesalius.evaluate.metrics.losses import TIMES, denoising_errors
from vesalius.evaluate.metrics.membership import Membership, membership
from vesalius.models.adapters import load_adapter
from vesalius.models.generator import load_generator
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.statistics.per_image import mean_of

FEW = 16  # images of the overfitted LoRA
EVERY = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")
SHARED = (
    "per=set",
    "train.text_encoder=false",
    "optimisation.sample_images=0",
)
CASES = {
    "overfitted": (
        "lora.rank=32",
        "lora.alpha=32",
        f"lora.targets=[{','.join(EVERY)}]",
        "optimisation.lr=2e-3",
        "optimisation.weight_decay=0",
        "optimisation.schedule=constant",
        "optimisation.warmup_images=0",
        f"optimisation.seen_images={80 * FEW}",
        f"optimisation.validate_images={20 * FEW}",
        f"optimisation.checkpoint_images={80 * FEW}",
    ),
    "regularised": (
        "lora.targets=all",
        "optimisation.lr=1e-3",
        "optimisation.warmup_images=160",
        "optimisation.seen_images=1600",
        "optimisation.validate_images=800",
        "optimisation.checkpoint_images=800",
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
    parser.add_argument("--size", type=int, default=256, help="pixels: smaller is faster")
    parser.add_argument("--non-members", type=int, default=120)
    parser.add_argument("--noises", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    args.work.mkdir(parents=True, exist_ok=True)
    # at random: the order of a table may have to do with what its images show
    order = np.random.default_rng(0).permutation(pq.read_metadata(args.pairs).num_rows).tolist()
    others, rest = order[-args.non_members :], order[: -args.non_members]
    members = {"overfitted": rest[:FEW], "regularised": rest}
    pairs = read_pairs(args.pairs)
    rows = [*rest, *others]
    base = dict(zip(rows, errors(pairs, rows, None, args), strict=True))

    figures: dict[str, Any] = {}
    for name, settings in CASES.items():
        own, folder = members[name], args.work / name
        if not (folder / "adapter").is_dir():
            table_of_run = divided(args.pairs, args.work / f"{name}.parquet", own, others)
            train(table_of_run, folder, (*SHARED, f"size={args.size}", *settings), args)
        found = errors(pairs, [*own, *others], folder / "adapter", args)
        before = np.array([base[row] for row in [*own, *others]])
        figures[name] = {
            "members": len(own),
            "member_error": [float(each[: len(own)].mean()) for each in (before, found)],
            "held_out_error": [float(each[len(own) :].mean()) for each in (before, found)],
            "held_out_fall": mean_of("fall", (before - found)[len(own) :].mean(1)).as_dict(),
            "with reference": attack(found, len(own), before),
            "plain": attack(found, len(own)),
            "untouched": attack(before, len(own)),
        }
    show(figures)
    record(args.out, "membership", figures, told(args, members))


def divided(pairs: Path, path: Path, members: list[int], others: list[int]) -> Path:
    """The table with the members in train, the non-members in test and no other row in use."""
    content = pq.read_table(pairs)
    split = np.full(len(content), "unused", object)
    split[members], split[others] = "train", "test"
    column = content.schema.get_field_index("split")
    with atomic_path(path) as temporary:
        pq.write_table(content.set_column(column, "split", pa.array(split.tolist())), temporary)
    return path


def train(pairs: Path, out: Path, settings: Sequence[str], args: argparse.Namespace) -> None:
    """Train one LoRA as a user would."""
    command = [sys.executable, "-m", "vesalius", "train", "cytodiff", "--pairs", str(pairs)]
    command += [
        "--out",
        str(out),
        "--model",
        args.model,
        "--device",
        args.device,
        "--resume",
        *settings,
    ]
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


def attack(found: np.ndarray, members: int, base: np.ndarray | None = None) -> dict[str, Any]:
    """The attack on all times together, and its AUROC at each; the first rows are the members."""

    def of(times: slice) -> Any:
        both = [
            (each[:members, times], each[members:, times])
            for each in (found, base)
            if each is not None
        ]
        return membership(*both[0], both[1] if base is not None else None)

    each = {f"{time:g}": of(slice(k, k + 1)).detection.auroc.value for k, time in enumerate(TIMES)}
    whole: Membership = of(slice(None))
    curve = {name: values.tolist() for name, values in asdict(whole.curve).items()}
    return asdict(whole) | {"curve": curve, "auroc_by_time": each}


def show(figures: dict[str, Any]) -> None:
    rows: list[list[Any]] = [["model", "attack", "AUROC", "95 %", "TPR at 1 % FPR", "95 %"]]
    for name, case in figures.items():
        for kind in ("with reference", "plain", "untouched"):
            one = case[kind]["detection"]
            spans = [f"{f['low']:.2f} to {f['high']:.2f}" for f in (one["auroc"], one["found"])]
            values = one["auroc"]["value"], one["found"]["value"]
            rows.append([name, kind, values[0], spans[0], values[1], spans[1]])
    table(rows)
    for name, case in figures.items():
        before, after = case["held_out_error"]
        fall = case["held_out_fall"]
        print(
            f"{name}: error on images never seen {before:.4f} before, {after:.4f} after, fall "
            f"{fall['value']:.4f} [{fall['low']:.4f}, {fall['high']:.4f}]"
        )


def told(args: argparse.Namespace, members: dict[str, list[int]]) -> dict[str, Any]:
    return {
        "model": args.model,
        "size": args.size,
        "members": {name: len(rows) for name, rows in members.items()},
        "non_members": args.non_members,
        "times": TIMES,
        "noises": args.noises,
        "recipe": "cytodiff",
        "overrides": {name: [*SHARED, *settings] for name, settings in CASES.items()},
    }


if __name__ == "__main__":
    run(main)
