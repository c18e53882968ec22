"""What epsilon costs on real images: FID and label AUROC by a private LoRA and by aggregated embeddings.

    python -m benchmarks.privacy.curve --data TABLE.parquet --unit image|patient --work WORK --out OUT \
        [--model mini] [--epsilons inf,10,3,1] [--seeds 3] [--ways dp-aggregate,dp-lora]
        [--per-class 20] [--audited-seeds 3] [--lora KEY=VALUE ...] [--aggregate KEY=VALUE ...]

--unit says whom the guarantee is for. `patient`: rows whose `patient_id` is known; of fundus images,
only those of a native size of 400 x 400, so that the class is not given away by the source. `image`:
each row is a unit of its own, and the guarantee is for an image. That is what it is for a patient only
where no patient has two images; with k of them a patient has k times that epsilon. It is for sets that
name no patients, and says how epsilon and quality go together, not what a hospital could promise.

70 % of the units are trained on. Each way and epsilon is trained with each seed, all at delta one tenth
of one over the units; the same plan, of equal numbers of each label, is drawn with each result and with
the base alone, and compared with the held-out images. The guard is not used: it compares with training
images. epsilon inf is the same training without noise.

Aggregated embeddings are one word a label. A unit counts in as many trainings as it has labels, and
`privacy.runs` is the most that any has. With `--aggregate embedding.captions=pairs` they are one word
for all, that stands before each caption: what these images have in common, learnt of all units at
once. What `embedding.initial` does there without any training is drawn as `beginning`. Inversions know nothing of epsilon: those of a seed are
computed once, for the first epsilon, and lent to the others, each with a secret of its own. Every
epsilon of this table is one release; who published several would owe their sum.

Each result of the first --audited-seeds seeds is audited by pairs of a trained and a held-out image of one label, by how much the loss
fell below the base's, asked with the words that were learnt. The bound is on replace-one epsilon, half
of it on the claim's; its ceiling stands beside. A LoRA with `--lora privacy.canaries=500` has the bound
of its canaries as well, which is on the claim's own epsilon.

WORK holds tables, runs and sets, and a repeated call goes on from them. They are of patients: they
never go into a repository. OUT receives curve.json.
"""

import argparse
import csv
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.recording import record, run, table
from vesalius.cli import app
from vesalius.core.labels import slug
from vesalius.core.privacy_card import read_card
from vesalius.evaluate.metrics.losses import denoising_errors
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.sample.generate import load
from vesalius.statistics.figure import POOLED, pick
from vesalius.statistics.privacy_audit import paired_bound
from vesalius.statistics.roc import detection
from vesalius.train.checkpoint import load_tensors, newest_checkpoint, save_checkpoint
from vesalius.train.privacy.gradient import new_secret

SPLIT, FEWEST = "val=0.05,test=0.25", 10  # images of a label, or it is left out
SIZE = 256
WORD, ONE_WORD = "<learnt>", "embedding.captions=pairs"
FIGURES = {"fid": "held_out", "kid": "held_out", "mean auroc": "synthetic"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--unit", choices=("patient", "image"), default="patient")
    parser.add_argument("--dictionary", default="", help="its set, where the file has another name")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--epsilons", default="inf,10,3,1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", default="dp-aggregate,dp-lora")
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--noises", type=int, default=1, help="of the audit, at each of four times")
    parser.add_argument("--audited", type=int, default=64, help="pairs of the audit, at most")
    parser.add_argument(
        "--audited-seeds", type=int, default=3, help="of them the results are audited"
    )
    parser.add_argument("--lora", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--aggregate", nargs="*", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    pairs = the_pairs(args)
    plan = args.work / "plan.csv"
    if not plan.exists():
        planned(pairs, plan, args)
    rows = [measured("base", None, 0, pairs, plan, [], args)]
    given = {"dp-lora": args.lora, "dp-aggregate": args.aggregate}
    if ONE_WORD in args.aggregate and (word := beginning(args.aggregate)):
        rows.append(measured("beginning", None, 0, pairs, led(plan, word), [], args))
    told = {name: str(value) for name, value in vars(args).items()}
    for seed in range(args.seeds):
        for way in args.ways.split(","):
            for epsilon in args.epsilons.split(","):
                adapters, own = trained(way, epsilon, seed, pairs, plan, given[way], args)
                rows.append(measured(way, epsilon, seed, pairs, own, adapters, args))
                record(args.out, "curve", rows, told)
    names = [
        "way",
        "epsilon",
        "seed",
        "noise_over_signal",
        *FIGURES,
        "attack_auroc",
        "bound",
        "canaries",
    ]
    table([names, *([row[name] for name in names] for row in rows)])


def vesalius(*arguments: object) -> None:
    """Run a command in this process; what it says goes to this program's output."""
    words = [str(word) for word in arguments]
    print("+ vesalius", *words, flush=True)
    if failed := app(words, standalone_mode=False):
        raise SystemExit(failed)


def planned(pairs: Path, out: Path, args: argparse.Namespace, *more: object) -> None:
    """As many prompts of each label, composed as those of the pairs' captions are."""
    vesalius("plan", "--pairs", pairs, "--per-class", args.per_class, "--captions", "mini",
             "--model", args.model, "--out", out, *more)  # fmt: skip


def beginning(given: list[str]) -> str:
    """The words that a word begins with, or ""."""
    words = (text.partition("=")[2] for text in given if text.startswith("embedding.initial="))
    return next(words, "")


def led(plan: Path, word: str) -> Path:
    """The plan with a word before each prompt: what that does where nothing is learnt."""
    out = plan.with_name("plan-beginning.csv")
    with plan.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"prompt": f"{word}, {row['prompt']}"} for row in rows)
    return out


def the_pairs(args: argparse.Namespace) -> Path:
    """The table, divided by unit."""
    name = args.dictionary or args.data.stem
    source, out = args.work / "source" / f"{name}.parquet", args.work / "pairs.parquet"
    if out.exists():
        return out
    rows = pq.read_table(args.data)
    if args.unit == "image":
        each = pa.array([f"image {row}" for row in range(len(rows))])
        rows = rows.append_column("unit", each)
    else:
        rows = rows.filter(pc.call_function("is_valid", [rows["patient_id"]]))
        rows = rows.append_column("unit", rows["patient_id"])
        if "native" in rows.column_names:
            rows = rows.filter(pc.call_function("equal", [rows["native"], "400x400"]))
    many = [label for label, n in Counter(rows["label"].to_pylist()).items() if n >= FEWEST]
    rows = rows.filter(pa.array([label in many for label in rows["label"].to_pylist()]))
    source.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, source)
    vesalius("pairs", source, "--captions", "mini", "--group-column", "unit", "--split", SPLIT,
             "--out", out)  # fmt: skip
    return out


def units(pairs: Pairs, split: str) -> dict[str, list[int]]:
    """The rows of each patient, or of each image that is a unit of its own."""
    found, groups = defaultdict(list), pairs.column("group")
    for row in pairs.rows(split):
        found[groups[row]].append(row)
    return found


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
    out, held = args.work / f"{way}-{epsilon}-{seed}", read_pairs(pairs)
    own = units(held, "train")
    shared = [f"privacy.epsilon={'.inf' if epsilon == 'inf' else epsilon}", *given]
    shared += [f"privacy.delta={1 / (10 * len(own))}", f"optimisation.seed={seed}", f"size={SIZE}"]
    first = args.epsilons.split(",")[0]
    if way == "dp-lora":
        train(way, pairs, out, shared, args)
        return [out / "adapter"], plan
    if ONE_WORD in given:
        if first != epsilon:
            lend(args.work / f"{way}-{first}-{seed}", out, float(epsilon))
        train(way, pairs, out, [*shared, f"embedding.token={WORD}"], args)
        worded = args.work / "plan-worded.csv"
        if not worded.exists():
            planned(pairs, worded, args, "--adapter", out / "adapter")
        return [out / "adapter"], worded
    column = held.column("label")
    labels = sorted({column[row] for row in held.rows("train")})
    most = max(len({column[row] for row in rows}) for rows in own.values())
    for label in labels:
        folder = out / slug(label)
        if first != epsilon:
            lend(args.work / f"{way}-{first}-{seed}" / slug(label), folder, float(epsilon))
        words = [f"label={label}", f"embedding.token=<{slug(label)}>", f"privacy.runs={most}"]
        train(way, pairs, folder, [*shared, *words], args)
    worded = args.work / "words.csv"
    if not worded.exists():
        prompts = [word for label in labels for word in ("--prompt", f"<{slug(label)}>")]
        named = [word for label in labels for word in ("--label", label)]
        vesalius("plan", *prompts, *named, "-n", args.per_class, "--out", worded)
    return [out / slug(label) / "adapter" for label in labels], worded


def lend(source: Path, folder: Path, epsilon: float) -> None:
    """Begin the run in `folder` with the inversions of another, which has another epsilon alone.

    The secret is new: the same noise at two sizes on one sum could be subtracted.
    """
    kept = folder / "private" / "checkpoints"
    known = newest_checkpoint(source / "private" / "checkpoints")
    if kept.exists() or known is None:
        return
    kept.mkdir(parents=True)
    about = {**known.made_with, "privacy": {**known.made_with["privacy"], "epsilon": epsilon}}
    state = {**known.state, "kept": {"secret": new_secret()}}
    save_checkpoint(kept, load_tensors(known), state, about)


def train(way: str, pairs: Path, out: Path, overrides: list[str], args: argparse.Namespace) -> None:
    latents, known = out / "private" / "latents", args.work / "latents"
    if (out / "adapter").exists():
        return
    if known.exists() and not latents.exists():  # each run has its own, of the same images
        shutil.copytree(known, latents)
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
        vesalius("synthesize", plan, "--model", args.model, "--format", "jpeg", "--out", made,
                 *words)  # fmt: skip
    if not (found / "metrics.json").exists():
        vesalius("evaluate", "--real", pairs, "--synthetic", made, "--out", found, "--extractors",
                 "inception", "--side", SIZE, "--match", "--only", "fidelity,alignment",
                 "--trained-on", pairs, "--store", args.work / "features")  # fmt: skip
    document = json.loads((found / "metrics.json").read_text())
    figures = next(iter(document["sets"].values()))["figures"]
    known = {}
    for metric, reference in FIGURES.items():
        one = next(iter(pick(figures, metric=metric, of=POOLED, reference=reference)), None)
        known[metric] = one and one["value"]
    card = read_card(adapters[0]) if adapters else None
    cards = [read_card(adapter) for adapter in adapters]
    ratios = [c.sigma * c.dimensions**0.5 / c.patients_per_step for c in cards if c]
    return {
        "way": way,
        "epsilon": epsilon,
        "seed": seed,
        "card": card.as_dict() if card else None,
        "noise_over_signal": max(ratios, default=None),
        "canaries": card.audit.lower_bound if card and card.audit else None,
        **known,
        **audited(name, pairs, adapters if seed < args.audited_seeds else [], args),
    }


def audited(
    name: str, pairs: Path, adapters: list[Path], args: argparse.Namespace
) -> dict[str, Any]:
    """The bound and the attack's AUROC by pairs of a trained and a held-out unit of one label."""
    if not adapters:
        return {"attack_auroc": None, "bound": None}
    held, kept = read_pairs(pairs), args.work / "evidence" / name / "audit.json"
    if not kept.exists():
        members, others = pairs_of_units(held, args.audited)
        both, seen = [*members, *others], len(members)
        captions, labels = held.column("caption"), held.column("label")
        words = [captions[row] for row in both]
        before = args.work / "base-errors.npy"
        if not before.exists():
            np.save(before, errors(held, both, words, [], args))
        if len(adapters) > 1:
            words = [f"<{slug(labels[row])}>" for row in both]
        elif name.startswith("dp-aggregate"):
            words = [f"{WORD}, {caption}" for caption in words]
        fell = (np.load(before) - errors(held, both, words, adapters, args)).mean(1)
        bound = paired_bound(fell[:seen] - fell[seen:], 1 / (10 * len(units(held, "train"))))
        auroc = detection(fell, np.arange(len(both)) < seen).auroc
        told = {"attack": auroc.as_dict(), "audit": asdict(bound)}
        kept.write_text(json.dumps(told))
    told = json.loads(kept.read_text())
    return {**told, "attack_auroc": told["attack"]["value"], "bound": told["audit"]["epsilon"]}


def pairs_of_units(pairs: Pairs, most: int) -> tuple[list[int], list[int]]:
    """Rows of trained units, and of as many held-out ones of the same labels; one image of each unit."""
    rng, labels = np.random.default_rng(0), pairs.column("label")
    sides = []
    for split in ("train", "test"):
        by_label = defaultdict(list)
        for rows in units(pairs, split).values():
            by_label[labels[rows[0]]].append(rows[0])
        sides.append(by_label)
    found: list[tuple[int, int]] = []
    for label in sorted({*sides[0]} & {*sides[1]}):
        found += zip(*(rng.permutation(side[label]).tolist() for side in sides), strict=False)
    chosen = [found[k] for k in rng.permutation(len(found))[:most]]
    return [own for own, _ in chosen], [new for _, new in chosen]


def errors(
    pairs: Pairs,
    rows: Sequence[int],
    captions: Sequence[str],
    adapters: list[Path],
    args: argparse.Namespace,
) -> np.ndarray:
    """Denoising errors (N, times) of the model with the adapters."""
    model = load(args.model, "cpu", "float32", [str(adapter) for adapter in adapters])
    images = (pairs.image(row, SIZE) for row in rows)
    return denoising_errors(model.generator, images, captions, noises=args.noises)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    run(main)
