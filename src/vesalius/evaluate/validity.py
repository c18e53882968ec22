"""Is the comparison fair? What makes figures say something else than they seem to, said aloud.

A remark is `unfair` where a figure may measure the files instead of the generator (JPEG against
PNG, another resolution, grey against colour, one set within the other), and a `note` where a reader
should know and the figures stand.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from vesalius.core.labels import listed
from vesalius.evaluate.sets import ComparedSet
from vesalius.images.image_set import ImageSet, Survey
from vesalius.images.pixels import open_rgb
from vesalius.images.provenance import count_synthetic

LOSSY = {"JPEG", "WEBP", "MPO"}
SHARE = 0.1  # of a set: files that differ in kind count from here on
MIX = 0.1  # total variation between two mixes of classes
SIZES = 1.25  # times as large
COUNTS = 2.0  # times as many images of a class
LOOKED_AT = 100  # images whose colour is looked at
COLOUR = 8.0  # levels between the channels, on average: a tint of grey has less


@dataclass(frozen=True)
class Remark:
    """One line for the reader."""

    severity: Literal["unfair", "note"]
    synthetic: str  # name of the set, "" for the real images
    message: str

    def __str__(self) -> str:
        where = f", {self.synthetic}" if self.synthetic else ""
        return f"{self.severity}{where}: {self.message}"


def compare_sets(
    real: ComparedSet, fake: ComparedSet, *, side: int | None = None, seed: int = 0
) -> list[Remark]:
    """What is unfair about comparing `fake` with `real`, then what a reader should know.

    `side` is the square that all images were cut to before any network saw them, if they were.
    """
    found = [Remark("unfair", fake.name, m) for m in _unfair(real, fake, side, seed)]
    return found + [Remark("note", fake.name, m) for m in _notes(real, fake, side)]


def shared_files(references: Iterable[ComparedSet], fake: ComparedSet) -> list[Remark]:
    """Files that are on both sides."""
    real = {key for side in references for key in side.survey.keys}
    both = sum(key in real for key in fake.survey.keys)
    if not both:
        return []
    message = (
        f"{both} of {len(fake)} synthetic files are among the real ones, byte for byte: one set "
        "holds the other, or a part of it"
    )
    return [Remark("unfair", fake.name, message)]


def _unfair(real: ComparedSet, fake: ComparedSet, side: int | None, seed: int) -> Iterator[str]:
    lossy = [_share(s.survey.formats, LOSSY) for s in (real, fake)]
    if abs(lossy[0] - lossy[1]) > SHARE:
        yield (
            f"{lossy[0]:.0%} of the real and {lossy[1]:.0%} of the synthetic files are JPEG or the "
            "like: a network sees the compression, so figures measure it too; write the set "
            "with --format jpeg"
        )
    deep = [_share([m[:1] for m in s.survey.modes], {"I", "F"}) for s in (real, fake)]
    if abs(deep[0] - deep[1]) > SHARE:
        yield (
            f"{deep[0]:.0%} of the real and {deep[1]:.0%} of the synthetic images have 16 bits: "
            "they are brought to 8 in ways that differ"
        )
    colour = [_colourful(s, seed) for s in (real, fake)]
    if abs(colour[0] - colour[1]) > SHARE and not _other_mix(real, fake):
        yield (
            f"{colour[0]:.0%} of the real and {colour[1]:.0%} of the synthetic images are in "
            "colour, the others grey"
        )
    if side is None:
        yield from _other_sizes(real.survey, fake.survey)
    yield from _other_counts(real, fake)


def _other_sizes(real: Survey, fake: Survey) -> Iterator[str]:
    short = [float(np.median([min(size) for size in s.sizes])) for s in (real, fake)]
    if max(short) > SIZES * min(short):
        yield (
            f"the shorter side is {short[0]:.0f} px for real images and {short[1]:.0f} for synthetic"
            " ones (medians): resizing blurs the two differently; cut both by --side"
        )
    shapes = [float(np.median([w / h for w, h in s.sizes])) for s in (real, fake)]
    if max(shapes) > SIZES * min(shapes):
        yield (
            f"real images are {shapes[0]:.2f} times as wide as high, synthetic ones {shapes[1]:.2f}:"
            " one is distorted more than the other; cut both by --side"
        )


def _other_counts(real: ComparedSet, fake: ComparedSet) -> Iterator[str]:
    ours, theirs = real.class_counts, fake.class_counts
    both = sorted(set(ours) & set(theirs))
    if apart := [n for n in both if max(ours[n], theirs[n]) > COUNTS * min(ours[n], theirs[n])]:
        few = ", ".join(f"{n} {ours[n]} to {theirs[n]}" for n in apart[:4])
        yield (
            f"{len(apart)} of {len(both)} classes have other numbers of real and synthetic images "
            f"({few}{', ...' if len(apart) > 4 else ''}): FID falls as images are added, so hold it "
            "only beside the floor at the same number, or cut the sets to one number by --match"
        )
    if _other_mix(real, fake):
        yield (
            f"the two sets mix the classes differently (by {mix_distance(real, fake):.0%}): pooled "
            "figures measure that too, so read those of the classes, or give --match"
        )


def _notes(real: ComparedSet, fake: ComparedSet, side: int | None) -> Iterator[str]:
    if side is not None and {*real.survey.sizes} != {*fake.survey.sizes}:
        yield (
            f"all images were made squares of {side} px (short side, centre cut out) before any "
            "network saw them, as generators see theirs"
        )
    ours, theirs = real.class_counts, fake.class_counts
    if missing := sorted(set(ours) - set(theirs)):
        yield f"no synthetic image is of {listed(missing, 5)}: nothing can be said of them"
    if alone := sorted(set(theirs) - set(ours)):
        yield f"no real image is of {listed(alone, 5)}: nothing can be said of them"
    if unnamed := sum(not each for each in fake.classes):
        yield (
            f"{unnamed} synthetic images name no class, and no real image has their caption: they "
            "count in the pooled figures only"
        )


def same_numbers(sides: Sequence[ComparedSet]) -> list[Remark]:
    """Sets of different sizes do not compare with each other by FID."""
    counts = {side.name: len(side) for side in sides}
    if len(set(counts.values())) < 2:
        return []
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    message = (
        f"the synthetic sets have different numbers of images ({listed}): their FIDs do not compare"
    )
    return [Remark("unfair", "", message)]


def synthetic_among(images: ImageSet) -> list[Remark]:
    """Images that say inside that they are synthetic, among those that are said to be real."""
    if not (found := count_synthetic(images)):
        return []
    message = f"{found} of the real images say inside that they are synthetic"
    return [Remark("unfair", "", message)]


def near_duplicates(share: float, reference: str, name: str) -> list[Remark]:
    """Where half of a set are near-duplicates of real images, it is no set of new images."""
    if share < 0.5:
        return []
    return [
        Remark(
            "unfair",
            name,
            f"{share:.0%} of the synthetic images are near-duplicates of {reference} images: is this "
            "a copy of the real set? Its fidelity says nothing",
        )
    ]


def mix_distance(real: ComparedSet, fake: ComparedSet) -> float:
    """Total variation between the mixes of classes: 0 for the same mix, 1 for no class in common."""
    shares: list[Mapping[str, float]] = []
    for side in (real, fake):
        counts = Counter(side.labels)
        shares.append({name: count / len(side) for name, count in counts.items()})
    names = {*shares[0], *shares[1]}
    return sum(abs(shares[0].get(n, 0) - shares[1].get(n, 0)) for n in names) / 2


def _other_mix(real: ComparedSet, fake: ComparedSet) -> bool:
    return mix_distance(real, fake) > MIX


def _share(values: Sequence[str], kinds: set[str]) -> float:
    return sum(value in kinds for value in values) / max(1, len(values))


def _colourful(side: ComparedSet, seed: int) -> float:
    """The share of images in colour, of those looked at."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(side))[:LOOKED_AT]
    found = 0
    for row in rows:
        pixels = np.asarray(open_rgb(side.encoded(int(row))).resize((32, 32), Image.Resampling.BOX))
        channels = pixels.astype(np.int16)
        found += (channels.max(axis=2) - channels.min(axis=2)).mean() > COLOUR
    return found / max(1, len(rows))
