"""Which way of comparing images finds copies of training images, at 1 % false alarms?

    python -m benchmarks.evaluate.planted_copies --pairs PAIRS --work WORK --out OUT
        [--per-set 25] [--bank-per-set N] [--networks inception,sscd=FILE.onnx] [--lpips]

PAIRS is a table with training and held-out rows. --per-set training images of each source are copied
in each of eleven ways, among them through the autoencoder of `mini`, which is what a latent model
gives out that has learnt an image by heart. A copy is detected when it is nearer to its nearest
training image than the threshold of that image's source.

Thresholds are the 1 % quantile of held-out real images' distances, by source: of all of them, and of
those that are no duplicates of a training image by the standard of `vesalius pairs`, as in some
public sets a third of them are. False alarms are counted on held-out images of the other half: each
half is judged by thresholds of the other.

Last, a synthetic set of one half of the held-out images is audited as it is, and with 5 % planted
copies, by `vesalius.evaluate.metrics.nearest_training.find_copies`, the other half being held out.

--networks adds extractors (their features are kept in WORK), --lpips the perceptual distance over
a shortlist by the first of them; with --bank-per-set fewer training images of a source are used for
all ways, as networks are slow on a CPU. WORK keeps small images and features between runs.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evaluate.perceptual import nearest
from benchmarks.evaluate.planting import KINDS, plant
from benchmarks.recording import record, run, table
from vesalius.evaluate.metrics.memorising import CROWD
from vesalius.evaluate.metrics.nearest_training import find_copies
from vesalius.evaluate.metrics.spaces import TileRows
from vesalius.images.calibration import nearest_of
from vesalius.images.image_set import ImageSet
from vesalius.images.nearness import as_tiles, calibrate, crowding_ratio, neighbours, turned
from vesalius.images.pixels import open_rgb, square
from vesalius.images.training_index import REPEAT, WHOLE, ImageIndex, open_index
from vesalius.models.networks.extractors import find_extractor
from vesalius.models.networks.features import extract
from vesalius.models.networks.lpips import LPIPS
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.statistics.share import Share

LEAST = 50  # held-out images of a source for a threshold of its own
QUANTILE = 0.01
PLANTED = 0.05
SEEN_AT = 128  # pixels for LPIPS

Way = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # held-out and planted: row, distance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-set", type=int, default=25)
    parser.add_argument("--bank-per-set", type=int)
    parser.add_argument("--held-out-per-set", type=int)
    parser.add_argument("--networks", default="")
    parser.add_argument("--lpips", action="store_true")
    parser.add_argument("--no-audit", action="store_true")
    args = parser.parse_args()

    pairs, rng = read_pairs(args.pairs), np.random.default_rng(0)
    split = np.array(pairs.column("split"))
    chosen = drawn(pairs, np.flatnonzero(split == "train"), args.per_set, rng)
    train = drawn(pairs, np.flatnonzero(split == "train"), args.bank_per_set, rng, keep=chosen)
    held = drawn(pairs, np.flatnonzero(np.isin(split, ["val", "test"])), args.held_out_per_set, rng)
    training, held_out = pairs.take(train.tolist()), pairs.take(held.tolist())
    planted, kinds = plant(pairs, chosen, rng)
    print(f"{len(train)} training and {len(held)} held-out images, {len(kinds)} copies")

    banks = [open_index(images, args.work / "bank")
             for images in (training, held_out, planted)]  # fmt: skip
    names = [name for name in args.networks.split(",") if name]
    ways, seconds = all_ways(banks, (training, held_out, planted), names, args)
    repeats = nearest_of(banks[0], banks[1], np.arange(len(held))).distance[:, 0] <= REPEAT
    judged = Judged(banks, repeats, kinds, np.searchsorted(train, np.tile(chosen, len(KINDS))))
    figures: dict[str, Any] = {"ways": {name: judged(way) for name, way in ways.items()}}
    figures["seconds"] = seconds
    figures["repeats"] = {
        str(source): Share(int(repeats[judged.held == source].sum()),
                           int((judged.held == source).sum())).as_dict()
        for source in np.unique(judged.held)
    }  # fmt: skip
    show(figures["ways"])
    if not args.no_audit:
        figures["audit"] = audit(training, held_out, planted, args.work / "bank", rng)
    given = {name: str(value) for name, value in vars(args).items() if name not in ("out", "work")}
    record(args.out, "planted_copies", figures, given)


def drawn(
    pairs: Pairs,
    rows: np.ndarray,
    per_set: int | None,
    rng: np.random.Generator,
    keep: Sequence[int] | np.ndarray = (),
) -> np.ndarray:
    """Sorted rows, at most `per_set` of a source besides those to `keep`."""
    if per_set is None:
        return rows
    source = np.array(pairs.column("source"))[rows]
    parts = [rng.permutation(rows[source == name])[:per_set] for name in np.unique(source)]
    return np.unique(np.concatenate([*parts, np.asarray(keep, int)]))


def all_ways(
    banks: Sequence[ImageIndex], sets: Sequence[ImageSet], names: Sequence[str], args: Any
) -> tuple[dict[str, Way], dict[str, float]]:
    """Nearest training row and distance of held-out and planted images by each way; ms an image."""
    training, held, planted = banks
    count = len(held) + len(planted)
    found: dict[str, Way] = {}
    seconds: dict[str, float] = {}

    def timed(
        name: str, way: Callable[[ImageIndex, ImageSet], tuple[np.ndarray, np.ndarray]]
    ) -> None:
        start = time.process_time()
        found[name] = (*way(held, sets[1]), *way(planted, sets[2]))
        seconds[name] = round(1000 * (time.process_time() - start) / count, 2)
        print(f"{name}: {seconds[name]} ms of one core an image", flush=True)

    def structure(bank: ImageIndex, _: ImageSet) -> tuple[np.ndarray, np.ndarray]:
        near = nearest_of(training, bank, np.arange(len(bank)))
        return near.index[:, 0], near.distance[:, 0]

    def layout(bank: ImageIndex, _: ImageSet) -> tuple[np.ndarray, np.ndarray]:
        views = turned(bank.look(range(len(bank))).layouts).reshape(8, len(bank), 1, -1)
        near = neighbours(views, training.layouts, 1)
        return near.index[:, 0] % len(training), near.distance[:, 0]

    def tiles(symmetries: Sequence[int], ratio: bool) -> Callable[..., Any]:
        def way(bank: ImageIndex, _: ImageSet) -> tuple[np.ndarray, np.ndarray]:
            thumbs = turned(bank.look(range(len(bank))).thumbs)[list(symmetries)]
            near = neighbours(as_tiles(thumbs[..., None]), TileRows(training), CROWD)
            distance = crowding_ratio(near.distance) if ratio else near.distance[:, 0]
            return near.index[:, 0], distance

        return way

    def by_features(name: str) -> Callable[..., Any]:
        theirs = features(sets[0], name, args.work)

        def way(_: ImageIndex, images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
            ours = features(images, name, args.work)
            near = neighbours(ours[None, :, None], theirs[:, None], 1)
            return near.index[:, 0], near.distance[:, 0]

        return way

    def perceptual(_: ImageIndex, images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
        near = nearest(
            lambda i: square(open_rgb(images.encoded(i)), SEEN_AT),
            features(images, names[0], args.work),
            lambda i: square(open_rgb(sets[0].encoded(i)), SEEN_AT),
            features(sets[0], names[0], args.work),
            size=8,
            distance=LPIPS("alex"),
        )
        return near.index, near.distance

    timed("structure", structure)
    timed("layout alone", layout)
    timed("16 tiles", tiles([0], ratio=False))
    timed("16 tiles over their neighbours", tiles([0], ratio=True))
    timed("16 tiles, eight symmetries", tiles(range(8), ratio=False))
    for name in names:
        timed(name.partition("=")[0], by_features(name))
    if args.lpips:
        timed(f"LPIPS, shortlist by {names[0].partition('=')[0]}", perceptual)
    return found, seconds


def features(images: ImageSet, name: str, work: Path) -> np.ndarray:
    """Features (N, D) of length sqrt(D), so that a tile's distance is their chord."""
    taken = extract(images, [find_extractor(name)], work / "features", side=WHOLE)
    found = taken.features[name]
    length = np.linalg.norm(found, axis=1, keepdims=True).clip(min=1e-12)
    return found / length * np.float32(found.shape[1] ** 0.5)


class Judged:
    """Detection and false alarms of a way."""

    def __init__(
        self,
        banks: Sequence[ImageIndex],
        repeats: np.ndarray,
        kinds: Sequence[str],
        true: np.ndarray,
    ) -> None:
        self.sources = np.array(banks[0].sources)
        self.held, self.planted = np.array(banks[1].sources), np.array(banks[2].sources)
        self.repeats, self.kinds, self.true = repeats, np.array(kinds), true
        _, number = np.unique(banks[1].groups, return_inverse=True)
        self.half = np.random.default_rng(1).permutation(number.max() + 1)[number] % 2 == 0

    def __call__(self, way: Way) -> dict[str, Any]:
        held_row, held_distance, row, distance = way
        near, kind = self.sources[held_row], self.sources[row]
        figures: dict[str, Any] = {
            "original is nearest": self._by_kind(row == self.true),
            "false alarms": {},
        }
        for name, honest in (("", ~self.repeats), (", repeats kept", np.ones_like(self.repeats))):
            limits = self._limits(near[honest], held_distance[honest], kind)
            found = distance <= limits
            figures[f"detected{name}"] = self._by_kind(found)
            figures[f"detected by set{name}"] = {
                str(source): {
                    str(k): Share(int(found[mine].sum()), int(mine.sum())).as_dict()
                    for k in KINDS
                    if (mine := (self.planted == source) & (self.kinds == k)).any()
                }
                for source in np.unique(self.planted)
            }
            alarms = np.zeros(len(near), bool)
            for half in (self.half, ~self.half):
                other = ~half & honest
                limit = self._limits(near[other], held_distance[other], near[half])
                alarms[half] = held_distance[half] <= limit
            figures["false alarms"][name.strip(", ") or "repeats left out"] = {
                "all": Share(int(alarms[honest].sum()), int(honest.sum())).as_dict()
            } | {
                str(source): Share(int(alarms[mine].sum()), int(mine.sum())).as_dict()
                for source in np.unique(self.held)
                if (mine := honest & (self.held == source)).any()
            }
        return figures

    def _by_kind(self, found: np.ndarray) -> dict[str, Any]:
        return {
            kind: Share(int(found[self.kinds == kind].sum()),
                        int((self.kinds == kind).sum())).as_dict()
            for kind in KINDS
        }  # fmt: skip

    def _limits(self, near: np.ndarray, distance: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        every = calibrate(distance, QUANTILE).value
        own = {
            source: calibrate(distance[near == source], QUANTILE).value
            for source in np.unique(near)
            if np.count_nonzero(near == source) >= LEAST
        }
        return np.array([own.get(source, every) for source in wanted])


def show(ways: dict[str, Any]) -> None:
    """Percent detected, by kind, and of false alarms."""
    for title in ("detected", "detected, repeats kept", "original is nearest"):
        rows: list[list[Any]] = [[title, *ways]]
        for kind in KINDS:
            rows.append([kind, *(100 * way[title][kind]["value"] for way in ways.values())])
        table(rows)
    rows = [["false alarms", *ways]]
    for which in ("repeats left out", "repeats kept"):
        rows.append(
            [which, *(100 * way["false alarms"][which]["all"]["value"] for way in ways.values())]
        )
    table(rows)


def audit(
    training: ImageSet, held_out: ImageSet, planted: ImageSet, cache: Path, rng: np.random.Generator
) -> dict[str, Any]:
    """A set of real images as it is, and with copies in the place of 5 % of it."""
    groups = np.unique(held_out.column("group"), return_inverse=True)[1]
    half = rng.permutation(groups.max() + 1)[groups] % 2 == 0
    ours, others = np.flatnonzero(half).tolist(), np.flatnonzero(~half).tolist()
    bad = rng.permutation(len(planted))[: round(PLANTED * len(ours))].tolist()
    clean = held_out.take(ours)
    loads = [lambda i=i: clean.encoded(i) for i in range(len(bad), len(ours))]
    mixed = ImageSet([*(lambda i=i: planted.encoded(i) for i in bad), *loads], {})
    found = {}
    for name, images in (("real images", clean), ("5 % of them copies", mixed)):
        seen = find_copies(images, training, held_out.take(others), cache=cache)
        found[name] = seen.as_dict()
        for space, each in seen.spaces.items():
            caught = Share(int(each.flagged[: len(bad)].sum()), len(bad)).as_dict()
            found[name]["spaces"][space]["planted copies caught"] = (
                caught if images is mixed else None
            )
            (low, high), test = each.share.interval, each.memorising
            print(
                f"{name}, {space}: {100 * each.share.value:.1f} % copies "
                f"[{100 * low:.1f}, {100 * high:.1f}], n = {each.share.n}"
                + (f"; ratio {test.ratio:.3f}, p {test.p:.3f}" if test else "")
            )
    return found


if __name__ == "__main__":
    run(main)
