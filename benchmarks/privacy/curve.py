"""What epsilon costs on real images: FID and label AUROC by a private LoRA and by aggregated embeddings.

    python -m benchmarks.privacy.curve --data fundus.parquet --work WORK --out OUT \
        [--model mini] [--epsilons inf,10,3,1] [--seeds 3] [--ways dp-lora,dp-aggregate]
        [--per-class 128] [--lora KEY=VALUE ...] [--aggregate KEY=VALUE ...]

Fundus images by patient: rows whose native size is 400 x 400 and whose patient is known, so that the
class is not given away by the source. 70 % of the patients are trained on. Each way and epsilon is
trained with each seed; the same plan, of equal numbers of each label, is drawn with each result and
with the base alone, and compared with the held-out images. The guard is not used: it compares with
training images. epsilon inf is the same training without noise.

Aggregated embeddings are one word a label. A patient may have images of several labels, so each
word is a training of its own, and `privacy.runs` is the number of labels.

WORK holds tables, runs and sets, and a repeated call goes on from them. They are of patients: they
never go into a repository. OUT receives curve.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.recording import record, run, table
from vesalius.core.labels import slug
from vesalius.core.privacy_card import read_card
from vesalius.pairs.table import read_pairs
from vesalius.statistics.figure import POOLED, pick


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="fundus.parquet")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--epsilons", default="inf,10,3,1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", default="dp-lora,dp-aggregate")
    parser.add_argument("--per-class", type=int, default=128)
    parser.add_argument("--lora", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--aggregate", nargs="*", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    pairs = the_pairs(args.data, args.work)
    plan = args.work / "plan.csv"
    if not plan.exists():
        vesalius("plan", "--pairs", pairs, "--per-class", args.per_class, "--captions", "mini",
                 "--model", args.model, "--out", plan)  # fmt: skip
    rows = [measured("base", None, 0, pairs, plan, [], args)]
    given = {"dp-lora": args.lora, "dp-aggregate": args.aggregate}
    for seed in range(args.seeds):
        for way in args.ways.split(","):
            for epsilon in args.epsilons.split(","):
                adapters, own = trained(way, epsilon, seed, pairs, plan, given[way], args)
                rows.append(measured(way, epsilon, seed, pairs, own, adapters, args))
                record(args.out, "curve", rows, {"per_class": args.per_class, **given})
    table([["way", "epsilon", "seed", "noise / signal", "FID", "label AUROC"]]
          + [[r["way"], r["epsilon"], r["seed"], r["noise_over_signal"], r["fid"], r["auroc"]]
             for r in rows])  # fmt: skip


def vesalius(*arguments: object) -> None:
    """Run the command; what it says goes to this program's output."""
    words = [sys.executable, "-m", "vesalius", *map(str, arguments)]
    print("+", *words[2:], flush=True)
    subprocess.run(words, check=True, env=os.environ)


def the_pairs(data: Path, work: Path) -> Path:
    """The table: one native size, patients known, divided by patient."""
    source, out = work / "fundus", work / "pairs.parquet"
    if not out.exists():
        source.mkdir(parents=True, exist_ok=True)
        rows = pq.read_table(data)
        rows = rows.filter(pc.call_function("equal", [rows["native"], "400x400"]))
        pq.write_table(
            rows.filter(pc.call_function("is_valid", [rows["patient_id"]])),
            source / "fundus.parquet",
        )
        vesalius("pairs", source / "fundus.parquet", "--captions", "mini",
                 "--split", "val=0.05,test=0.25", "--out", out)  # fmt: skip
    return out


def trained(
    way: str,
    epsilon: str,
    seed: int,
    pairs: Path,
    plan: Path,
    given: list[str],
    args: argparse.Namespace,
) -> tuple[list[Path], Path]:
    """The adapters of a way, and the plan for them: with each label's own word, where it has one."""
    out = args.work / f"{way}-{epsilon}-{seed}"
    shared = [f"privacy.epsilon={'.inf' if epsilon == 'inf' else epsilon}", *given]
    shared += [f"optimisation.seed={seed}", "size=256"]
    if way == "dp-lora":
        train(way, pairs, out, shared, args)
        return [out / "adapter"], plan
    held = read_pairs(pairs)
    column = held.column("label")
    labels = sorted({column[row] for row in held.rows("train")})
    adapters = []
    for label in labels:
        own = [f"label={label}", f"embedding.token=<{slug(label)}>", f"privacy.runs={len(labels)}"]
        train(way, pairs, out / slug(label), [*shared, *own], args)
        adapters.append(out / slug(label) / "adapter")
    worded = out / "plan.csv"
    if not worded.exists():
        prompts = [word for label in labels for word in ("--prompt", f"<{slug(label)}>")]
        named = [word for label in labels for word in ("--label", label)]
        vesalius("plan", *prompts, *named, "-n", args.per_class, "--out", worded)
    return adapters, worded


def train(way: str, pairs: Path, out: Path, overrides: list[str], args: argparse.Namespace) -> None:
    latents, known = out / "private" / "latents", args.work / "latents"
    if known.exists() and not latents.exists():  # each run has its own, of the same images
        shutil.copytree(known, latents)
    if not (out / "adapter").exists():
        again = ["--resume"] if (out / "private" / "checkpoints").exists() else []
        vesalius("train", way, "--pairs", pairs, "--out", out, "--model", args.model,
                 *again, *overrides)  # fmt: skip
    if not known.exists():
        shutil.copytree(latents, known)


def measured(
    way: str,
    epsilon: str | None,
    seed: int,
    pairs: Path,
    plan: Path,
    adapters: list[Path],
    args: argparse.Namespace,
) -> dict[str, Any]:
    """The figures of a set drawn with `adapters`, against held-out images."""
    name = f"{way}-{epsilon}-{seed}"
    made, found = args.work / "sets" / name, args.work / "evidence" / name
    if not (made / "manifest.jsonl").exists():
        words = [word for adapter in adapters for word in ("--adapter", adapter)]
        vesalius("synthesize", plan, "--model", args.model, "--out", made, *words)
    if not (found / "metrics.json").exists():
        vesalius("evaluate", "--real", pairs, "--synthetic", made, "--out", found, "--extractors",
                 "inception", "--side", 256, "--only", "fidelity,alignment",
                 "--store", args.work / "features")  # fmt: skip
    document = json.loads((found / "metrics.json").read_text())
    figures = next(iter(document["sets"].values()))["figures"]

    def of(metric: str, reference: str) -> float | None:
        found = pick(figures, metric=metric, of=POOLED, reference=reference)
        return found[0]["value"] if found else None

    card = read_card(adapters[0]) if adapters else None
    ratio = None
    if card:
        ratio = card.sigma * card.dimensions**0.5 / card.patients_per_step
    return {
        "way": way,
        "epsilon": epsilon,
        "seed": seed,
        "card": card.as_dict() if card else None,
        "noise_over_signal": ratio,
        "fid": of("fid", "held_out"),
        "auroc": of("mean auroc", "synthetic"),
    }


if __name__ == "__main__":
    run(main)
