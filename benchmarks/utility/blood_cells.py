"""CytoDiff's experiment in a clean protocol, and what each fault of the published one is worth.

    vesalius pairs blood_cells.parquet --captions mini --folds 5 --out blood.parquet
    vesalius pairs blood_cells=blood_cells_other_lab.parquet --captions mini --split none --out foreign.parquet
    python -m benchmarks.utility.blood_cells --pairs blood.parquet --foreign foreign.parquet \
      --model BASE --work WORK --out OUT

In each fold 16 images a class, drawn outside of it, train a LoRA of BASE, which must not have seen
the set, and the same 16 train the classifiers; 16 others validate. Tested on all images of the fold
and, four classes that both have, on another laboratory's. One LoRA learns all classes by their
captions, where the paper has one a class.

Then the faults, one at a time, with the same generators and the same recipe:

    pooled      folds are drawn over real and synthetic images together: most of a test fold is
                synthetic
    recoloured  test images are randomly recoloured
    seen shots  synthetic images alone train a classifier that is tested on the very images which
                taught the generator

On a GPU: `--model stabilityai/stable-diffusion-2-1-base --allow-unproven
--amounts 100,500,1000,2000 --side 512`.
"""

import argparse
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageEnhance

from benchmarks.recording import table
from benchmarks.utility.stages import cut, finish, once, options
from vesalius.images.pixels import open_rgb
from vesalius.models.networks.extractors import find_extractor
from vesalius.models.networks.features import extract
from vesalius.pairs import splits
from vesalius.pairs.table import read_pairs
from vesalius.pairs.trained_on import read_trained_on
from vesalius.statistics.paired import student_test
from vesalius.utility import leakage
from vesalius.utility.arms import Arm
from vesalius.utility.curricula import curriculum
from vesalius.utility.folds import Fold
from vesalius.utility.pool import Pool, make_pool, read_real, read_synthetic
from vesalius.utility.probe import Probe
from vesalius.utility.scores import by_seed, truth_of

SCORES = ("auroc", "accuracy", "macro_f1")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="with a column fold")
    parser.add_argument("--foreign", type=Path, required=True)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--amounts", default="16,48", help="synthetic images a class")
    parser.add_argument("--folds", type=int, default=5, help="how many of them are run")
    parser.add_argument("--recipe", default="cytodiff")
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE of the recipe")
    parser.add_argument("--steps", type=int, default=1000, help="of a classifier")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    amounts = [int(each) for each in args.amounts.split(",")]
    made = [_fold(args, number, max(amounts)) for number in range(args.folds)]
    figures = {"arms": {}, "gains": [], "faults": {}, "honesty": [each.proof for each in made]}
    clean = [_clean(args, each, amounts) for each in made]
    for where in ("own laboratory", "other laboratory"):
        figures["arms"][where] = _summary([each[where] for each in clean])
        for name in SCORES:
            figures["gains"] += _gains(where, name, [each[where] for each in clean])
    figures["faults"] = _faults(args, made, [each["own laboratory"] for each in clean])
    _show(figures)
    finish(args, f"blood_cells-{args.backbone}", figures)


@dataclass
class Made:
    """A fold: its images, behind them the foreign ones and the recoloured test images."""

    fold: Fold
    real: int  # the first rows are real images, then synthetic ones
    foreign: np.ndarray  # rows
    recoloured: np.ndarray  # rows, in the order of fold.test
    features: np.ndarray  # (P, D)
    targets: np.ndarray  # (P, C)
    proof: list[str]


def _fold(args: argparse.Namespace, number: int, per_class: int) -> Made:
    """Teach the generator of a fold, draw its images, and compute all features."""
    work: Path = args.work / f"fold{number}"
    work.mkdir(exist_ok=True)
    pairs, run, plan_file, made = (
        work / "pairs.parquet", work / "run", work / "plan.csv", work / "set",
    )  # fmt: skip
    if not pairs.exists():
        roles = _roles(args.pairs, number, args.shots)
        cut(args.pairs, pairs, lambda row: roles[row["key"]])
    once(
        args.work, run / "adapter", "train", args.recipe, "--pairs", pairs, "--model", args.model,
        "--out", run, "--device", args.device, "--resume", "per=set", *args.set,
    )  # fmt: skip
    once(
        args.work, plan_file, "plan", "--pairs", pairs, "--per-class", per_class, "--out", plan_file
    )
    once(
        args.work, made / "manifest.jsonl", "synthesize", plan_file, "--model", args.model,
        "--adapter", run / "adapter", "--guard", pairs, "--out", made, "--device", args.device,
    )  # fmt: skip
    real = read_real(pairs, {}, "label")
    pool = make_pool(real, [read_synthetic(made, real, "label")])
    train, validation, test = (np.array(real.of(name)) for name in ("train", "val", "test"))
    fold = Fold(train, validation, test, pool.rows(0))
    given = [known for path in (args.trained_on, run) if path for known in read_trained_on(path)]
    folds, checks = leakage.check_all(pool, [fold], given, allow_unproven=args.allow_unproven)
    foreign = read_real(args.foreign, {}, "label")
    extractor = find_extractor(args.backbone)
    store = args.work / "features"

    def features(images: Any) -> np.ndarray:
        found = extract(images, [extractor], store, side=args.side, device=_device(args.device))
        if found.survey.unreadable:
            raise SystemExit(f"unreadable images: {found.survey.unreadable}")
        return found.features[extractor.name]

    fold, columns = folds[0], {name: k for k, name in enumerate(pool.classes)}
    of_foreign = np.eye(len(columns), dtype=np.float32)[[columns[each] for each in foreign.labels]]
    return Made(
        fold=fold,
        real=len(real),
        foreign=len(pool) + np.arange(len(foreign)),
        recoloured=len(pool) + len(foreign) + np.arange(len(fold.test)),
        features=np.concatenate(
            [features(pool), features(foreign), features(Recoloured(pool, fold.test))]
        ),
        targets=np.concatenate([pool.targets, of_foreign, pool.targets[fold.test]]),
        proof=[check.message for check in checks],
    )


def _roles(pairs: Path, number: int, shots: int) -> dict[str, str]:
    """The split of each image of fold `number`, by its key."""
    whole = read_pairs(pairs)
    keys, labels, groups, part = (whole.column(n) for n in ("key", "label", "group", "fold"))
    roles = {
        key: "test" if str(p) == str(number) else "unused"
        for key, p in zip(keys, part, strict=True)
    }
    rest = [k for k, key in enumerate(keys) if roles[key] == "unused"]
    for role in ("train", "val"):
        own = [groups[k] or f"\0{k}" for k in rest], [labels[k] for k in rest]
        taken = splits.few_shots(*own, shots, seed=number)
        for k, mark in zip(rest, taken, strict=True):
            if mark:
                roles[keys[k]] = role
        gone = {own[0][k] for k, mark in enumerate(taken) if mark}
        rest = [k for k, group in zip(rest, own[0], strict=True) if group not in gone]
    return roles


class Recoloured:
    """Images with random brightness, contrast and saturation, each a function of its content."""

    def __init__(self, pool: Pool, rows: np.ndarray) -> None:
        self.pool, self.rows = pool, rows

    def __len__(self) -> int:
        return len(self.rows)

    def encoded(self, index: int) -> bytes:
        """The changed image file."""
        row = int(self.rows[index])
        rng = np.random.default_rng(int(self.pool.real.keys[row][:15], 16))
        image = open_rgb(self.pool.encoded(row))
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = change(image).enhance(rng.uniform(0.5, 1.5))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    def column(self, name: str) -> list[str]:
        """Of the same rows."""
        whole = self.pool.column(name)
        return [whole[row] for row in self.rows]


def _arms(amounts: Sequence[int], shots: int) -> list[Arm]:
    mixed = [Arm("mixed", each / shots) for each in amounts]
    return [Arm("real"), Arm("synthetic"), *mixed, Arm("pretrained")]


def _probe(args: argparse.Namespace, made: Made) -> Probe:
    return Probe(made.features, made.targets, exclusive=True, steps=args.steps,
                 device=_device(args.device))  # fmt: skip


def _scores(
    made: Made, rows: np.ndarray, p: np.ndarray, few: bool = False
) -> dict[str, np.ndarray]:
    """Each score by seed (S,). With `few` among the classes that at least ten images have."""
    y = made.targets[rows]
    if few:
        kept = np.flatnonzero(y.sum(0) >= 10)
        inside = y[:, kept].sum(1) > 0
        y, p = y[inside][:, kept], p[:, inside][..., kept]
        p = p / p.sum(-1, keepdims=True)
    truth = truth_of(y.argmax(1), tuple(str(k) for k in range(y.shape[1])))
    return {name: by_seed(name, truth, p) for name in SCORES}


def _clean(args: argparse.Namespace, made: Made, amounts: Sequence[int]) -> dict[str, Any]:
    """Scores by place and arm, tested on real images that nobody has seen."""
    found: dict[str, Any] = {"own laboratory": {}, "other laboratory": {}}
    asked = np.concatenate([made.fold.test, made.foreign])
    for arm in _arms(amounts, args.shots):
        p = _train(args, made, arm, asked)
        own, other = p[:, : len(made.fold.test)], p[:, len(made.fold.test) :]
        found["own laboratory"][arm.name] = _scores(made, made.fold.test, own)
        found["other laboratory"][arm.name] = _scores(made, made.foreign, other, few=True)
    return found


def _train(args: argparse.Namespace, made: Made, arm: Arm, test: np.ndarray) -> np.ndarray:
    seeds = range(args.seeds)
    fold, targets = made.fold, made.targets
    plans = [curriculum(arm, targets, fold.train, fold.synthetic, s, exclusive=True) for s in seeds]
    return _probe(args, made)(plans, seeds, fold.validation, test).test


def _faults(
    args: argparse.Namespace, made: Sequence[Made], clean: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Accuracy with a fault beside accuracy without, mean over folds and seeds."""
    largest = list(clean[0])[-2]  # the mixed arm with most synthetic images
    found: dict[str, list[float]] = {
        f"clean: {name}": [float(each[name]["accuracy"].mean()) for each in clean]
        for name in ("real", largest, "synthetic only")
    }
    pooled, share, recoloured, real_recoloured, shots = [], [], [], [], []
    for each in made:
        everything = np.concatenate([each.fold.train, each.fold.synthetic])
        part = np.random.default_rng(0).permutation(len(everything)) % 5
        of_part = []
        for k in range(5):
            test = everything[part == k]
            of_part.append(_pooled(args, each, everything[part != k], test))
            share.append(float(np.mean(test >= each.real)))
        pooled.append(float(np.mean(of_part)))
        ratio = int(args.amounts.split(",")[-1]) / args.shots
        for arm, kept in ((Arm("mixed", ratio), recoloured), (Arm("real"), real_recoloured)):
            p = _train(args, each, arm, each.recoloured)
            kept.append(float(_scores(each, each.recoloured, p)["accuracy"].mean()))
        p = _train(args, each, Arm("synthetic"), each.fold.train)
        shots.append(float(_scores(each, each.fold.train, p)["accuracy"].mean()))
    found |= {
        "pooled folds": pooled,
        "recoloured test: real": real_recoloured,
        f"recoloured test: {largest}": recoloured,
        "synthetic only, tested on the generator's shots": shots,
    }
    told: dict[str, Any] = {name: _interval(np.array(values)) for name, values in found.items()}
    told["synthetic share of pooled test folds"] = float(np.mean(share))
    return told


def _pooled(args: argparse.Namespace, made: Made, train: np.ndarray, test: np.ndarray) -> float:
    """Accuracy when real and synthetic images are one pool that is cut into folds."""
    targets = made.targets
    plans = [
        curriculum(Arm("real"), targets, train, train[:0], s, exclusive=True)
        for s in range(args.seeds)
    ]
    p = _probe(args, made)(plans, range(args.seeds), made.fold.validation, test).test
    return float(_scores(made, test, p)["accuracy"].mean())


def _interval(values: np.ndarray) -> dict[str, float]:
    """Mean over folds with Student's 95 % interval; `values` (folds,)."""
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return {"value": mean}
    variance = float(values.var(ddof=1)) / n
    if not variance:
        return {"value": mean, "low": mean, "high": mean, "p": 1.0}
    return {"value": mean, **asdict(student_test(mean, variance, n - 1))}


def _summary(folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        arm: {s: _interval(np.array([each[arm][s].mean() for each in folds])) for s in SCORES}
        for arm in folds[0]
    }


def _gains(where: str, name: str, folds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each arm over real images alone, taking the folds' means for independent.

    Test folds do not overlap, and few-shot training sets hardly do.
    """
    return [
        {"where": where, "score": name, "arm": arm,
         **_interval(np.array([(each[arm][name] - each["real"][name]).mean() for each in folds]))}
        for arm in folds[0] if arm != "real"
    ]  # fmt: skip


def _show(figures: dict[str, Any]) -> None:
    for where, arms in figures["arms"].items():
        rows: list[Sequence[Any]] = [[where, *SCORES]]
        for arm, each in arms.items():
            rows.append([arm, *(_told(each[s]) for s in SCORES)])
        table(rows)
        print()
    table([["fault", "accuracy"], *([k, _told(v)] for k, v in figures["faults"].items())])


def _told(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    ends = f" [{value['low']:.3f}, {value['high']:.3f}]" if "low" in value else ""
    return f"{value['value']:.3f}{ends}"


def _device(name: str) -> str:
    from vesalius.models.device import pick_device

    return str(pick_device(name))


if __name__ == "__main__":
    main()
