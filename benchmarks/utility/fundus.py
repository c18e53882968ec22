"""EyeDiff's experiment: rare classes of fundus images topped up, against oversampling.

    vesalius train benchmarks/utility/base.yaml --pairs base.parquet --out BASE ...
    python -m benchmarks.utility.fundus --pairs base.parquet --model BASE/generator --work WORK --out OUT

Real images are those of `native` 400x400: in the others the class goes with the source. Among them
normal and diabetic retinopathy are three times as frequent as cataract and glaucoma. The generator
has learned from the training rows of the same table, and was chosen on its validation rows; the
test rows, whole groups of near-copies, are new to it and to the classifier.
"""

from pathlib import Path

from benchmarks.utility.stages import cut, judged, options


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="with the splits of the model")
    parser.add_argument("--per-class", type=int, default=420, help="synthetic images")
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    pairs = work / "fundus.parquet"
    if not pairs.exists():
        cut(
            args.pairs,
            pairs,
            lambda row: (
                row["split"] if row["source"] == "fundus" and row["native"] == "400x400" else None
            ),
        )
    judged(args, "fundus", pairs)


if __name__ == "__main__":
    main()
