"""EyeDiff's experiment: rare classes of fundus images topped up, against oversampling.

    vesalius train benchmarks/utility/base.yaml --pairs base.parquet --out BASE ...
    python -m benchmarks.utility.fundus --pairs base.parquet --model BASE/generator --work WORK --out OUT

Real images are those of `native` 400x400: in the others the class goes with the source. Among them
normal and diabetic retinopathy are three times as frequent as cataract and glaucoma. The generator
has learned from the training rows of the same table, and was chosen on its validation rows; the
test rows, whole groups of near-copies, are new to it and to the classifier.
"""

import json
from pathlib import Path

from benchmarks.utility.stages import cut, finish, once, options, proof, show, told


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="with the splits of the model")
    parser.add_argument("--per-class", type=int, default=420, help="synthetic images")
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    pairs, plan, made = work / "fundus.parquet", work / "plan.csv", work / "set"
    if not pairs.exists():
        cut(
            args.pairs,
            pairs,
            lambda row: (
                row["split"] if row["source"] == "fundus" and row["native"] == "400x400" else None
            ),
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
        "--seeds", args.seeds, "--side", args.side, "--device", args.device, *proof(args),
    )  # fmt: skip
    figures = told(json.loads((results / "results.json").read_text("utf-8")))
    show(figures)
    finish(args, f"fundus-{args.backbone}", figures)


if __name__ == "__main__":
    main()
