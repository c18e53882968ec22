"""LiRA with shadow adapters: does an attacker who trains models alike tell who was in this one?

    python -m benchmarks.privacy.shadow --pairs PAIRS --work WORK --out OUT [--images 32] [--shadows 8]
        [--model mini] [--seen 320] [--lr 1e-3] [--seed 0]

--shadows LoRAs of the base are trained, each on a random half of --images rows of PAIRS, every row a
patient of its own. Each in turn is attacked with the others as shadows (Carlini et al. 2022,
arXiv:2112.03570): of each image, the logarithm of how much likelier its loss is among the losses of
shadows that had it than of those that had not, both normal, with one spread for all images, as few
shadows cannot say more. Who is in is exchangeable by design, so that no blind classifier can know. The
attack on the base's own losses must find nothing, and the plain loss difference stands beside.

WORK holds tables and runs, and a repeated call goes on from them. OUT receives shadow.json.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.evaluate.membership import SHARED, divided, errors, train
from benchmarks.recording import record, run, table
from vesalius.pairs.table import read_pairs
from vesalius.statistics.roc import Detection, detection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--pairs", type=Path, required=True, help="a set that the base has not seen"
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--shadows", type=int, default=8)
    parser.add_argument("--seen", type=int, default=320, help="images that each LoRA sees")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--noises", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(args.seed)
    count = pq.read_metadata(args.pairs).num_rows
    order = rng.permutation(count).tolist()
    rows, validation = order[: args.images], order[-16:]
    inside = halves(args.shadows, args.images, rng)
    pairs = read_pairs(args.pairs)
    base = errors(pairs, rows, None, args).mean(1)
    losses = []
    for number, member in enumerate(inside):
        folder = args.work / f"shadow-{number}"
        if not (folder / "adapter").is_dir():
            own = [row for row, there in zip(rows, member, strict=True) if there]
            of_run = divided(args.pairs, args.work / f"shadow-{number}.parquet", own, validation)
            train(of_run, folder, (*SHARED, f"size={args.size}", *settings(args)), args)
        losses.append(errors(pairs, rows, folder / "adapter", args).mean(1))
    found = attacked_in_turn(np.array(losses), inside, base)
    show(found)
    figures = {name: asdict(each) for name, each in found.items()}
    record(args.out, "shadow", figures, {name: str(value) for name, value in vars(args).items()})


def settings(args: argparse.Namespace) -> tuple[str, ...]:
    """What an attacker knows of the training: the recipe."""
    return (
        "lora.targets=all",
        f"optimisation.lr={args.lr}",
        "optimisation.warmup_images=0",
        f"optimisation.seen_images={args.seen}",
        f"optimisation.validate_images={args.seen}",
        f"optimisation.checkpoint_images={args.seen}",
    )


def halves(several: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(several, count) bool: each image is in half of the sets, each set has about half of the images."""
    columns = [rng.permutation(several) < several // 2 for _ in range(count)]
    return np.array(columns).T


def lira(target: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(N,) log likelihood ratios of losses `target` (N,), from `shadows` (K, N) and who was in each."""
    known = [np.where(kind, shadows, np.nan) for kind in (inside, ~inside)]
    means = [np.nanmean(each, 0) for each in known]
    spread = [
        np.sqrt(np.nanmean((each - mean) ** 2)) for each, mean in zip(known, means, strict=True)
    ]
    likely = [
        -0.5 * ((target - mean) / scale) ** 2 - np.log(scale)
        for mean, scale in zip(means, spread, strict=True)
    ]
    return likely[0] - likely[1]


def attacked_in_turn(
    losses: np.ndarray, inside: np.ndarray, base: np.ndarray
) -> dict[str, Detection]:
    """Each model attacked with the others; intervals are by image, over all models."""
    several, count = inside.shape
    scores: dict[str, list[Any]] = {"LiRA": [], "loss difference": [], "base alone": []}
    for number in range(several):
        others = np.arange(several) != number
        scores["LiRA"].append(lira(losses[number], losses[others], inside[others]))
        scores["loss difference"].append(base - losses[number])
        scores["base alone"].append(-base)
    groups = np.tile(np.arange(count), several).tolist()
    return {
        name: detection(np.concatenate(each), inside.ravel(), groups)
        for name, each in scores.items()
    }


def show(found: dict[str, Detection]) -> None:
    rows: list[list[Any]] = [["attack", "AUROC", "low", "high", "found at 1 % false alarms"]]
    for name, each in found.items():
        rows.append([name, each.auroc.value, each.auroc.low, each.auroc.high, each.found.value])
    table(rows)


if __name__ == "__main__":
    run(main)
