"""Do the tests for memorising find a few copies, and leave honest images alone?

    python -m benchmarks.evaluate.memorising_power --pairs PAIRS --work WORK --out OUT [--times 200]

In pixels (16 tiles), on real images whose answer is known. PAIRS has training and held-out rows. Each
time the held-out images are halved by group: one half is the reference; the other, without those that
repeat a training image, stands in for a synthetic set, as it is, mirrored, or blurred, for an honest
generator does not draw as a camera does. Then 1, 2 and 5 % of it are replaced by copies of training
images, changed in the eleven ways of `planting`, of which pixels can show about half: they do not see
mirroring and turning. Both tests are asked, `memorising_test` of the dealt labels (--dealt times: it
takes longer) and `tail_test`; the rate of p <= 5 % is the type I error, or the power.

--synthetic adds folders of images, such as those of the bundled model, in the place of that half.
Distances are kept in WORK.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.evaluate.planting import KINDS, plant, png
from benchmarks.recording import record, table
from vesalius.evaluate.metrics.memorising import CROWD
from vesalius.evaluate.metrics.spaces import TileRows
from vesalius.images.calibration import nearest_of
from vesalius.images.image_set import ImageSet
from vesalius.images.nearness import Neighbours, as_tiles, neighbours
from vesalius.images.training_index import REPEAT, WHOLE, ImageIndex, open_index
from vesalius.pairs.open_images import open_images
from vesalius.pairs.table import read_pairs
from vesalius.statistics.share import Share
from vesalius.statistics.two_sample import log_ratio, memorising_test, tail_test

PLANTED = (0.0, 0.01, 0.02, 0.05)
COPIED = 100  # training images, each in every way
LEVEL = 0.05
WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "real": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "blurred": lambda image: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(4))),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--synthetic", type=Path, nargs="*", default=[])
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--dealt", type=int, default=50, help="times for the test of dealt labels")
    args = parser.parse_args()

    pairs, rng = read_pairs(args.pairs), np.random.default_rng(7)
    split = np.array(pairs.column("split"))
    train, held = (np.flatnonzero(np.isin(split, names)) for names in (["train"], ["val", "test"]))
    training, held_out = (
        open_index(images, args.work / "bank")
        for images in (pairs.take(train.tolist()), pairs.take(held.tolist()))
    )
    repeated = nearest_of(training, held_out, np.arange(len(held))).distance[:, 0] <= REPEAT
    trial = Trial(training, held_out, repeated)
    near = Near(training, held_out, args.work)
    chosen = np.sort(rng.permutation(train)[:COPIED])
    copies = near("copies", lambda: plant(pairs, chosen, rng)[0])
    sets = {name: (near(name, lambda way=way: seen_as(pairs, held, way)), True) for name, way in WAYS.items()}  # fmt: skip
    sets |= {
        path.name: (near(path.name, lambda path=path: open_images(path)), False)
        for path in args.synthetic
    }

    rows: list[list[Any]] = [["set", "planted", "tail", "95 %", "dealt labels", "95 %"]]
    figures: dict[str, Any] = {}
    for name, (images, is_held_out) in sets.items():
        for planted in PLANTED:
            found = [
                trial(images, is_held_out, copies, planted, seed, seed < args.dealt)
                for seed in range(args.times)
            ]
            rates = {
                test: Share(sum(p <= LEVEL for p in ps), len(ps)).as_dict()
                for test, ps in {
                    "tail": [tail for tail, _ in found],
                    "dealt labels": [dealt for _, dealt in found if dealt is not None],
                }.items()
                if ps
            }
            figures[f"{name}, {planted:.0%} planted"] = rates
            row: list[Any] = [name, f"{planted:.0%}"]
            for each in rates.values():
                row += [each["value"], f"{each['low']:.3f} to {each['high']:.3f}"]
            rows.append(row + [None] * (6 - len(row)))
            print(f"{name}, {planted:.0%}: {rates}", flush=True)
    table(rows)
    about = {"times": args.times, "dealt": args.dealt, "copies": COPIED * len(KINDS)}
    about |= {"training": len(train), "held_out": len(held), "repeated": int(repeated.sum())}
    record(args.out, "memorising_power", figures, about)


def seen_as(pairs: Any, rows: np.ndarray, way: Callable[[np.ndarray], np.ndarray]) -> ImageSet:
    """The images of `rows` as somebody else would have taken them."""
    return ImageSet([lambda row=row: png(way(pairs.image(int(row), WHOLE))) for row in rows], {})


class Near:
    """Nearest training and held-out images of a set, in tiles."""

    def __init__(self, training: ImageIndex, held_out: ImageIndex, work: Path) -> None:
        self.training, self.held_out, self.work = TileRows(training), tiles(held_out)[0], work

    def __call__(self, name: str, make: Callable[[], ImageSet]) -> tuple[Neighbours, Neighbours]:
        """Computed once: WORK has the rest."""
        path = self.work / f"near-{name}.npz"
        if not path.exists():
            images = make()
            views = tiles(open_index(images, self.work / "bank"))
            both = [neighbours(views, rows, CROWD) for rows in (self.training, self.held_out)]
            parts = ("index", "distance", "view")
            np.savez(path, *(getattr(each, part) for each in both for part in parts))
        with np.load(path) as kept:
            arrays = [kept[f"arr_{k}"] for k in range(6)]
        return Neighbours(*arrays[:3]), Neighbours(*arrays[3:])


def tiles(bank: ImageIndex) -> np.ndarray:
    return as_tiles(bank.look(range(len(bank))).thumbs[None][..., None])


class Trial:
    """One draw of who is the reference, who the set, and which copies are in it; both tests."""

    def __init__(self, training: ImageIndex, held_out: ImageIndex, repeated: np.ndarray) -> None:
        self.training, self.held_out, self.repeated = training, held_out, repeated
        self.sources, self.groups = np.array(training.sources), np.array(held_out.groups)
        self.number = np.unique(self.groups, return_inverse=True)[1]
        views = tiles(held_out)
        self.itself = neighbours(views, views[0], CROWD)
        self.to_training = neighbours(views, TileRows(training), 1)

    def __call__(
        self,
        images: tuple[Neighbours, Neighbours],
        is_held_out: bool,
        copies: tuple[Neighbours, Neighbours],
        planted: float,
        seed: int,
        dealt: bool,
    ) -> tuple[float, float | None]:
        """Both p: of the tail, and of the dealt labels if they are asked for."""
        rng = np.random.default_rng(1000 + seed)
        half = rng.permutation(self.number.max() + 1)[self.number] % 2 == 0
        rows = np.flatnonzero(half & ~self.repeated) if is_held_out else np.arange(len(images[0].index))  # fmt: skip
        rows = rng.permutation(rows)
        bad = rng.permutation(len(copies[0].index))[: round(planted * len(rows))]
        rows = rows[len(bad) :]
        train, new = (
            (np.concatenate([a.index[rows], b.index[bad]]),
             np.concatenate([a.distance[rows], b.distance[bad]]))
            for a, b in zip(images, copies, strict=True)
        )  # fmt: skip
        away = np.where(half[new[0]], np.inf, new[1])  # the other half is the reference
        known = np.isfinite(away).any(axis=1)
        others = np.flatnonzero(~half & ~self.repeated)
        near = self.itself.index[others]
        apart = ~half[near] & (self.groups[near] != self.groups[others][:, None])
        own = np.where(apart, self.itself.distance[others], np.inf).min(axis=1)
        honest = np.isfinite(own)
        tail = tail_test(
            log_ratio(train[1][known, 0], away[known].min(axis=1)),
            log_ratio(self.to_training.distance[others[honest], 0], own[honest]),
            (self.sources[train[0][known, 0]].tolist(),
             self.sources[self.to_training.index[others[honest], 0]].tolist()),
            permutations=199, seed=seed,
        )  # fmt: skip
        assert tail is not None
        return tail.p, self._dealt(train, (new[0], away), half, seed) if dealt else None

    def _dealt(self, train: Any, new: Any, half: np.ndarray, seed: int) -> float:
        count = len(self.sources)
        reference = np.flatnonzero(~half)
        place = np.full(len(half), -1)
        place[reference] = np.arange(len(reference))
        index = np.concatenate([train[0], place[new[0]] + count], axis=1)
        distance = np.concatenate([train[1], new[1]], axis=1)
        order = np.argsort(distance, axis=1, kind="stable")[:, :CROWD]
        index, distance = (np.take_along_axis(each, order, 1) for each in (index, distance))
        return memorising_test(
            index, distance, np.arange(count + len(reference)) >= count,
            groups=[*self.training.groups, *self.groups[reference].tolist()],
            strata=[*self.training.sources, *np.array(self.held_out.sources)[reference].tolist()],
            permutations=199, seed=seed,
        ).p  # fmt: skip


if __name__ == "__main__":
    main()
