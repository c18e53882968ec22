"""MediSyn's experiment: 1 %, 10 % and all of the dermoscopy images, with and without synthetic ones.

    vesalius train benchmarks/utility/base.yaml --pairs base.parquet --out BASE ...
    python -m benchmarks.utility.dermoscopy --pairs base.parquet --model BASE/generator --work WORK --out OUT

Splits keep the images of a lesion together. As in the paper, the generator has learned from all
training images whatever part of them a classifier gets: with 1 % real images, synthetic ones carry
what was learned from the other 99 %.
"""

from pathlib import Path

from benchmarks.utility.stages import cut, judged, options


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="with the splits of the model")
    parser.add_argument("--per-class", type=int, default=250, help="synthetic images")
    parser.add_argument("--fractions", default="0.01,0.1,1")
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    pairs = work / "dermoscopy.parquet"
    if not pairs.exists():
        cut(
            args.pairs,
            pairs,
            lambda row: row["split"] if row["source"] == "dermoscopy" else None,
        )
    more = ["--fractions", args.fractions, "--ratios", "1,5"]
    judged(args, "dermoscopy", pairs, more=more)


if __name__ == "__main__":
    main()
