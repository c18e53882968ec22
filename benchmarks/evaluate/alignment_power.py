"""Does label consistency tell captions that are followed from captions that are not?

    python -m benchmarks.evaluate.alignment_power --pairs PAIRS --store STORE --out OUT

On real images, whose answer is known. For each set of PAIRS with two classes or more, a probe learns
the classes from images of the split train. The held-out images are halved by group: one half is the
ceiling, the other stands in for a generated set, first under its own labels, which must pass, then
under labels dealt out at random among its images, which must fail.

A set passes when the interval of its mean AUROC meets that of the ceiling and lies above chance, and
fails when it holds chance, 0.5. STORE keeps the Inception features.
"""

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recording import record, run, table
from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.alignment import Alignment, Judged, finding_auroc, fit_probe
from vesalius.models.networks.extractors import find_extractor
from vesalius.models.networks.features import extract
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.statistics.intervals import halves

SIDE = 256  # pixels, as the bundled model makes them
EXTRACTOR = "inception"
FEW = 10  # images in a half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, required=True, help="with train and val")
    parser.add_argument("--store", type=Path, required=True, help="folder of features")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", help="of these sources alone")
    parser.add_argument("--limit", type=int, default=400, help="images a set and split")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    pairs, rng = read_pairs(args.pairs), np.random.default_rng(0)
    head = ["set", "held out", "its own labels", "95 %", "shuffled labels", "95 %", "n", "verdict"]
    rows: list[list[Any]] = [head]
    figures: dict[str, Any] = {}
    for name in args.sets or sorted(set(pairs.column("source"))):
        parts = [drawn(pairs, name, split, args.limit, rng) for split in ("train", "val")]
        labels = pairs.column("label")
        if len({labels[row] for row in parts[0]}) < 2:
            continue
        found = powers(pairs, parts[0], parts[1], args.store, args.device, rng)
        if found is None:
            print(f"{name}: too few held-out images or groups to halve: left out")
            continue
        own, shuffled = found["own"].generated_mean, found["shuffled"].generated_mean
        spans = [f"{each.low:.2f} to {each.high:.2f}" for each in (own, shuffled)]
        verdicts = [verdict(found[kind]) for kind in ("own", "shuffled")]
        figures[name] = {kind: asdict(each) for kind, each in found.items()}
        figures[name]["verdicts"] = verdicts
        values = (found["own"].real_mean.value, own.value, spans[0], shuffled.value, spans[1])
        rows.append([name, *values, own.n, ", ".join(verdicts)])
    table(rows)
    counted = Counter(tuple(figure["verdicts"]) for figure in figures.values())
    figures["as it should be"] = [counted["passes", "fails"], counted.total()]
    print(
        f"own labels pass and shuffled ones fail in {counted['passes', 'fails']} of {len(rows) - 1}"
    )
    settings = {"extractor": EXTRACTOR, "side": SIDE, "limit": args.limit, "seed": 0}
    record(args.out, "alignment_power", figures, settings)


def drawn(pairs: Pairs, name: str, split: str, limit: int, rng: np.random.Generator) -> list[int]:
    """Up to `limit` rows of a set's split that have a label, at random."""
    sources, labels = pairs.column("source"), pairs.column("label")
    rows = [row for row in pairs.rows(split) if sources[row] == name and labels[row]]
    return sorted(rng.permutation(rows)[:limit].tolist())


def powers(
    pairs: Pairs,
    train: list[int],
    held_out: list[int],
    store: Path,
    device: str,
    rng: np.random.Generator,
) -> dict[str, Alignment] | None:
    """The alignment of one half of the held-out images under its own and under shuffled labels.

    None where a half would have under `FEW` images.
    """
    groups = [pairs.column("group")[row] or str(row) for row in [*train, *held_out]]
    first, second = halves(len(held_out), len(held_out) // 2, rng, groups[len(train) :])
    if min(len(first), len(second)) < FEW:
        return None
    every = [*train, *held_out]
    found = extract(pairs.take(every), [find_extractor(EXTRACTOR)], store, side=SIDE, device=device)
    if found.survey.unreadable:
        raise VesaliusError(f"{len(found.survey.unreadable)} images cannot be read")
    features, labels = found.features[EXTRACTOR], [pairs.column("label")[row] for row in every]
    count = len(train)
    probe = fit_probe(features[:count], labels[:count])

    def judged(rows: np.ndarray, told: list[str]) -> Judged:
        rows = rows + count
        return Judged(probe(features[rows]), told, [groups[row] for row in rows])

    own = [labels[count + row] for row in second]
    ceiling = judged(first, [labels[count + row] for row in first])
    dealt = [own[k] for k in rng.permutation(len(own))]
    return {
        "own": finding_auroc(probe.findings, ceiling, judged(second, own)),
        "shuffled": finding_auroc(probe.findings, ceiling, judged(second, dealt)),
    }


def verdict(found: Alignment) -> str:
    """passes, fails, or unclear where the interval meets neither or both."""
    real, generated = found.real_mean, found.generated_mean
    if None in (real.low, generated.low, generated.high):
        return "unclear"
    passes = generated.high >= real.low and generated.low > found.chance  # type: ignore[operator]
    fails = generated.low <= found.chance <= generated.high  # type: ignore[operator]
    return "passes" if passes else "fails" if fails else "unclear"


if __name__ == "__main__":
    run(main)
