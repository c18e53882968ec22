"""MediSyn's experiment: 1 %, 10 % and all of the dermoscopy images, with and without synthetic ones.

    vesalius train benchmarks/utility/base.yaml --pairs base.parquet --out BASE ...
    python -m benchmarks.utility.dermoscopy --pairs base.parquet --model BASE/generator --work WORK --out OUT

Splits keep the images of a lesion together. As in the paper, the generator has learned from all
training images whatever part of them a classifier gets: with 1 % real images, synthetic ones carry
what was learned from the other 99 %.
"""

import json
from pathlib import Path

from benchmarks.utility.stages import cut, finish, once, options, proof, show, told


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="with the splits of the model")
    parser.add_argument("--per-class", type=int, default=250, help="synthetic images")
    parser.add_argument("--fractions", default="0.01,0.1,1")
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    pairs, plan, made = work / "dermoscopy.parquet", work / "plan.csv", work / "set"
    if not pairs.exists():
        cut(
            args.pairs,
            pairs,
            lambda row: row["split"] if row["source"] == "dermoscopy" else None,
        )
    once(work, plan, "plan", "--pairs", pairs, "--per-class", args.per_class, "--out", plan)
    once(
        work, made / "manifest.jsonl", "synthesize", plan, "--model", args.model, "--guard", pairs,
        "--out", made, "--device", args.device,
    )  # fmt: skip
    results = work / f"utility-{args.backbone}"
    once(
        work, results / "results.json", "utility", "--real", pairs, "--synthetic", made,
        "--out", results, "--store", work / "features", "--backbone", args.backbone,
        "--fractions", args.fractions, "--ratios", "1,5", "--seeds", args.seeds,
        "--side", args.side, "--device", args.device, *proof(args),
    )  # fmt: skip
    figures = told(json.loads((results / "results.json").read_text("utf-8")))
    show(figures)
    finish(args, f"dermoscopy-{args.backbone}", figures)


if __name__ == "__main__":
    main()
