"""Several models, or ways of sampling, on the same captions and seeds: likeness, variety, labels.

    python -m benchmarks.mini.compare --pairs PAIRS --out OUT --model mini --model new=FOLDER \
        [--split test] [--rows benchmarks/mini/test_rows.txt] [--cases own:6 own:8@1.5] [--count N]

Image k of every model and case has the caption of row k of a fixed random order of the split, and
the seed SEED + k; the real images it is compared with are those rows themselves. `--rows` takes
only the rows whose sha1 a file lists: those that all the models compared have never seen.

Prints, and writes to compare.json, for each: FID and its floor (as many real training images), KID, precision, recall and coverage (k = 5, beside those of training images as many),
and the mean AUROC of the labels by a linear probe that has learnt them from real training images,
each label told from the others of its set, beside real images' own. All on Inception features of
256 px images, "bilinear" (see vesalius.models.networks.features). FID falls with N: compare equal N only.
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vesalius
from benchmarks.features import read_features, resized, write_features
from benchmarks.recording import record, run, table
from benchmarks.sample.cases import Case, parse_cases
from benchmarks.train.learning import SIDE, content_hash
from vesalius.evaluate.metrics.alignment import Judged, Probe, finding_auroc, fit_probe
from vesalius.models.device import pick_device
from vesalius.models.networks.features import ahead
from vesalius.models.networks.inception import Inception
from vesalius.pairs.divide import read_marks
from vesalius.pairs.table import Pairs, read_pairs, square
from vesalius.sample.generate import TextToImage
from vesalius.sample.settings import DrawSettings
from vesalius.statistics.distances import fid, kid, prdc

CHUNK = 64  # images measured at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", action="append", required=True, metavar="[NAME=]MODEL")
    parser.add_argument("--cases", nargs="+", default=[], help="see benchmarks.sample.steps")
    parser.add_argument("--split", default="test")
    parser.add_argument("--rows", type=Path, help="file of the sha1 of rows")
    parser.add_argument("--source", help="only the rows of this set")
    parser.add_argument("--count", type=int, help="images a model and case; default: all rows")
    parser.add_argument("--train", type=int, default=6000, help="real images the probe learns from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, help="changes speed alone")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    pairs, device = read_pairs(args.pairs), str(pick_device(args.device))
    judge = Judge(pairs, args, device)
    cases = [case for text in args.cases for case in parse_cases(text)] or [None]
    figures = []
    for asked in args.model:
        name, _, model = asked.rpartition("=")
        loaded = vesalius.load(model, device)
        for case in cases:
            figures.append(judge.judged(name or model, loaded, case, args))
    show(figures)
    settings = {key: str(value) for key, value in vars(args).items()}
    record(args.out, "compare", figures, settings | {"rows": content_hash(judge.hashes)})


class Judge:
    """The real images, what a probe has learnt of them, and how generated ones are held to them."""

    def __init__(self, pairs: Pairs, args: argparse.Namespace, device: str) -> None:
        self.pairs, self.out, self.device = pairs, args.out, device
        self.network: Any = Inception().to(device=torch.device(device))
        self.network.to(memory_format=torch.channels_last)
        marks = set(read_marks(args.rows)) if args.rows else None
        sha1, sources = pairs.column("sha1"), pairs.column("source")
        chance = np.random.default_rng(0)
        wanted = [k for k in pairs.rows(args.split) if args.source in (None, sources[k])]
        rows = [wanted[k] for k in chance.permutation(len(wanted))]
        self.rows = [k for k in rows if marks is None or sha1[k] in marks][: args.count]
        own = {sources[k] for k in self.rows}
        train = [k for k in pairs.rows("train") if sources[k] in own]
        train = [train[k] for k in chance.permutation(len(train))[: args.train]]
        self.hashes = [sha1[k] for k in self.rows]
        self.real, self.train = self.features_of(self.rows), self.features_of(train)
        labels = pairs.column("label")
        self.probe: Probe = fit_probe(
            self.train, [labels[k] for k in train], sources=[sources[k] for k in train]
        )

    def features_of(self, rows: Sequence[int]) -> np.ndarray:
        """Features (N, 2048) of real images, stored by their content."""
        path = self.out / "real" / f"{content_hash([self.pairs.column('sha1')[k] for k in rows])}"
        path = path.with_suffix(".safetensors")
        if not path.exists():
            with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
                decoded = ahead(pool, lambda k: self.pairs.image(k, SIDE), rows, 4 * CHUNK)
                images = (image for _, image in decoded)
                write_features(path, features=self.measured(images))
        return read_features(path)["features"]

    @torch.inference_mode()
    def measured(self, images: Iterator[np.ndarray]) -> np.ndarray:
        """Inception's features of uint8 images (H, W, 3), resized in threads."""
        found = []
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            while chunk := list(islice(images, CHUNK)):
                x = torch.stack(list(pool.map(lambda each: resized(each, "bilinear"), chunk)))
                x = x.to(self.device, memory_format=torch.channels_last)
                found.append(self.network(x).float().cpu().numpy())
        return np.concatenate(found)

    def judged(
        self, name: str, model: TextToImage, case: Case | None, args: argparse.Namespace
    ) -> dict[str, Any]:
        """Draw an image for each row and hold them to the real ones; stored features are taken."""
        captions = [self.pairs.column("caption")[k] or "" for k in self.rows]
        options: dict[str, Any] = dict(case.options) if case else {}
        request = model.request("any", args.seed, DrawSettings(**options))
        about = [model.generator.model_hash, repr(request), *self.hashes, str(args.seed)]
        path = self.out / "features" / f"{content_hash(about)}.safetensors"
        if not path.exists():
            began = time.perf_counter()
            drawn = model.stream(
                captions, **options | {"seed": args.seed, "batch_size": args.batch_size}
            )
            features = self.measured(square(each.image, SIDE) for each in drawn)
            seconds = (time.perf_counter() - began) / len(captions)
            write_features(path, features=features, seconds=np.array([seconds]))
        features = read_features(path)["features"]
        figures = {"model": name, "case": case.name if case else "own", "N": len(features)}
        return figures | self.held(features)

    def held(self, features: np.ndarray) -> dict[str, Any]:
        """All figures of generated images, beside those of real ones."""
        columns = (self.pairs.column(name) for name in ("label", "source", "group"))
        labels, sources, groups = ([column[k] for k in self.rows] for column in columns)
        both = [
            Judged(self.probe(each), labels, groups=groups, sources=sources)
            for each in (self.real, features)
        ]
        told = finding_auroc(self.probe.findings, *both)
        fake, floor = prdc(self.real, features), prdc(self.real, self.train[: len(self.real)])
        return {
            "FID": fid(self.real, features),
            "floor": fid(self.real, self.train[: len(self.real)]),
            "KID": kid(self.real, features).mean,
            "precision": [fake.precision, floor.precision],
            "recall": [fake.recall, floor.recall],
            "coverage": [fake.coverage, floor.coverage],
            "label AUROC": [told.generated_mean.value, told.real_mean.value],
            "AUROC 95 %": [told.generated_mean.low, told.generated_mean.high],
            "by label": {each.finding: each.generated.value for each in told.findings},
        }


def show(figures: list[dict[str, Any]]) -> None:
    head = ["model", "case", "N", "FID", "floor", "KID", "precision", "recall", "coverage", "AUROC"]

    def pair(values: Sequence[float]) -> str:
        return "{:.3f} ({:.3f})".format(*values)

    lines: list[list[Any]] = [head]
    for each in figures:
        plain = [each[name] for name in ("model", "case", "N", "FID", "floor")]
        several = [pair(each[name]) for name in ("precision", "recall", "coverage", "label AUROC")]
        lines.append([*plain, f"{each['KID']:.4f}", *several])
    print("\nin brackets: real images that were trained on; for AUROC, the real images themselves")
    table(lines)


if __name__ == "__main__":
    run(main)
