"""How much the data decide: a specialist on parts of a set, a generalist on all sets, a label left out.

    python -m benchmarks.mini.amounts --pairs PAIRS --work WORK --out OUT --autoencoder MODEL \
        [--set blood_cells] [--shares 0.1,0.3,1] [--without eosinophil] [--images 24000] [--count 384]
        [KEY=VALUE ...]

The recipe of ablations.yaml is trained from scratch on as many images seen, its learning rate falling
to zero over the last third: on each share of the patients of --set, on all of the set but the label
--without, and on all sets together, which is the generalist. The last is trained a second time, on as
many more images as makes it see those of --set as often as a specialist does.

Then each draws an image for each of the same test captions of the set, with the same seeds, and
`benchmarks.mini.compare` measures them. `asked` is what its probe says of the label that was left out:
the AUROC of images that were asked for by its words, and by `CAPTION AND its words` with a caption of
another label, each against images that were asked for by the captions of all other labels.

A call that was stopped goes on when it is repeated. WORK holds tables, latents and generators.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

import vesalius
from benchmarks.mini.ablate import COOLED, VARIANTS, logged, share, with_plan
from benchmarks.mini.common import SIDE
from benchmarks.mini.compare import Judge, show
from benchmarks.recording import record, run
from vesalius.config import load_recipe
from vesalius.core.atomic import atomic_path
from vesalius.pairs.table import Pairs, read_pairs, square
from vesalius.statistics.roc import detection
from vesalius.train.run import train_recipe
from vesalius.train.session import Session

VALIDATED = 256  # images


@dataclass(frozen=True)
class Variant:
    """What one generator learns from: rows of the table, and how many images it sees."""

    name: str
    rows: list[int]
    images: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of all recipes")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--autoencoder", required=True, help="the model whose latents are learnt")
    parser.add_argument("--set", default="blood_cells")
    parser.add_argument("--shares", default="0.1,0.3,1")
    parser.add_argument("--without", default="eosinophil", help="the label that is left out")
    parser.add_argument("--images", type=int, default=24_000, help="that each generator sees")
    parser.add_argument("--count", type=int, default=384, help="images of each that are measured")
    parser.add_argument("--only", help="names of generators, with commas")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pairs = read_pairs(args.pairs)
    wanted = args.only.split(",") if args.only else None
    plans = [one for one in variants(pairs, args) if wanted is None or one.name in wanted]
    folders = {one.name: trained(one, pairs, args) for one in plans}
    judge = Judge(pairs, judged_as(args), "cpu")
    figures = []
    for one in plans:
        model = vesalius.load(str(folders[one.name] / "generator"), "cpu")
        found = judge.judged(one.name, model, None, judged_as(args))
        loss = min(each["validation"]["loss"] for each in validations(folders[one.name]))
        known = {"rows": len(one.rows), "images": one.images, "loss": loss}
        figures.append(found | known | {"asked": asked(judge, model, args)})
    show(figures)
    for each in figures:
        print(f"{each['model']}: {each['rows']} rows, loss {each['loss']:.4f}, {each['asked']}")
    record(args.out, "amounts", figures, {key: str(value) for key, value in vars(args).items()})


def variants(pairs: Pairs, args: argparse.Namespace) -> list[Variant]:
    """Shares of the set's patients, each within the next; the set without a label; all sets."""
    sources, groups, labels = (pairs.column(name) for name in ("source", "group", "label"))
    train = pairs.rows("train")
    own = [k for k in train if sources[k] == args.set]
    patients = np.random.default_rng(0).permutation(sorted({groups[k] for k in own})).tolist()
    found = []
    for text in args.shares.split(","):
        kept = set(patients[: round(float(text) * len(patients))])
        rows = [k for k in own if groups[k] in kept]
        found.append(Variant(f"{float(text):.0%}", rows, args.images))
    rows = [k for k in own if labels[k] != args.without]
    found.append(Variant(f"without {args.without}", rows, args.images))
    found.append(Variant("generalist", train, args.images))
    often = Variant(
        "generalist, longer", train, round(args.images / chance_of(own, train, sources))
    )
    return [*found, often]


def chance_of(own: list[int], train: list[int], sources: list[str]) -> float:
    """How often one of `own` is drawn where sets are drawn by their size to the power of 0.6."""
    sizes = np.unique([sources[k] for k in train], return_counts=True)[1] ** 0.6
    return float(len(own) ** 0.6 / sizes.sum())


def trained(variant: Variant, pairs: Pairs, args: argparse.Namespace) -> Path:
    """The folder of a run, which is begun, gone on with or found."""
    folder = args.work / variant.name.replace(" ", "-").replace("%", "").replace(",", "")
    share(args.work / "latents", folder)
    table = folder / "pairs.parquet"
    if not table.exists():
        whole = pq.read_table(args.pairs)
        sources = pairs.column("source")
        own = {k for k in pairs.rows("val") if sources[k] == args.set}
        kept = own | set(variant.rows)
        splits = [
            name if row in kept else "unused" for row, name in enumerate(pairs.column("split"))
        ]
        place = whole.column_names.index("split")
        with atomic_path(table) as path:
            pq.write_table(
                whole.set_column(place, "split", pa.array(splits)), path, row_group_size=256
            )
    recipe = folder / "recipe-asked.yaml"
    values = yaml.safe_load(VARIANTS.read_text("utf-8"))["recipe"]
    recipe.write_text(yaml.safe_dump(values | {"autoencoder": args.autoencoder}, sort_keys=False))
    plan = with_plan(
        load_recipe(str(recipe), args.overrides),
        seen_images=variant.images,
        decay_images=int(COOLED * variant.images),
        validate_images=variant.images,
        validation_size=VALIDATED,
    )
    if not (folder / "generator").exists():
        train_recipe(plan, table, folder, session=Session("cpu", resume=True))
    return folder


def validations(folder: Path) -> list[dict[str, Any]]:
    return [each for each in logged(folder) if "validation" in each]


def asked(judge: Judge, model: Any, args: argparse.Namespace) -> dict[str, list[float | None]]:
    """AUROC and its interval of the label that was left out, by its words and by composition."""
    captions, labels = judge.pairs.column("caption"), judge.pairs.column("label")
    with_it = [captions[k] for k in judge.rows if labels[k] == args.without]
    others = [captions[k] for k in judge.rows if labels[k] != args.without][: 2 * len(with_it)]
    composed = [f"{other} AND {own}" for other, own in zip(others, with_it, strict=False)]
    column = judge.probe.findings.index(args.without)

    def scores(prompts: list[str]) -> list[float]:
        drawn = model.stream(prompts, seed=1000, batch_size=8)
        features = judge.measured(square(each.image, SIDE) for each in drawn)
        return judge.probe(features)[:, column].tolist()

    rest, found = scores(others), {}
    for name, prompts in (("words", with_it), ("composition", composed)):
        both = np.array(scores(prompts) + rest)
        told = detection(both, np.arange(len(both)) < len(prompts)).auroc
        found[name] = [told.value, told.low, told.high]
    return found


def judged_as(args: argparse.Namespace) -> Any:
    """The settings of `benchmarks.mini.compare` for the set's test images."""
    return SimpleNamespace(
        out=args.work / "features", split="test", rows=None, source=args.set, count=args.count,
        train=6000, seed=0, batch_size=8,
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
