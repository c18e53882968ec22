"""Textual Inversion's experiment: 200 real images and 2,000 synthetic ones, of two classes.

    vesalius pairs breast_ultrasound.parquet --captions mini --split val=0.2,test=0.4 --out us.parquet
    python -m benchmarks.utility.small_set --pairs us.parquet --model BASE --work WORK --out OUT

Benign against malignant masses in breast ultrasound. The generator learns from the same 200 images
as the classifier and from none other of this kind: BASE must not have seen the set. The paper, with
prostate MRI: AUC 0.780 +- 0.017 of 200 real images, 0.803 +- 0.009 with 2,000 synthetic ones.

On a GPU: `--model stabilityai/stable-diffusion-2-base --allow-unproven --side 512`.
"""

import random
from pathlib import Path

from benchmarks.utility.stages import cut, judged, once, options
from vesalius.pairs.table import read_pairs

CLASSES = ("benign", "malignant")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--real", type=int, default=200)
    parser.add_argument("--per-class", type=int, default=1000, help="synthetic images")
    parser.add_argument("--recipe", default="cytodiff", help="how the generator learns")
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE of the recipe")
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    pairs, run = work / "pairs.parquet", work / "run"
    if not pairs.exists():
        learned = _drawn(args.pairs, args.real)
        cut(
            args.pairs,
            pairs,
            lambda row: (
                None
                if row["label"] not in CLASSES
                else ("train" if row["key"] in learned else "unused")
                if row["split"] == "train"
                else row["split"]
            ),
        )
    once(
        work, run / "adapter", "train", args.recipe, "--pairs", pairs, "--model", args.model,
        "--out", run, "--device", args.device, "--resume", "per=set", *args.set,
    )  # fmt: skip
    ratio = 2 * args.per_class / args.real
    judged(args, "small_set", pairs, run / "adapter", ["--ratios", f"1,{ratio:g}"])


def _drawn(pairs: Path, count: int) -> set[str]:
    """Keys of so many training images of the two classes, drawn at random."""
    table = read_pairs(pairs)
    columns = zip(*(table.column(name) for name in ("key", "label", "split")), strict=True)
    able = sorted(key for key, label, split in columns if split == "train" and label in CLASSES)
    return set(random.Random(0).sample(able, count))


if __name__ == "__main__":
    main()
