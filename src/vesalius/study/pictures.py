"""The images of a study, decoded and made equal, each with its line of the key."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from vesalius.core.progress import Count
from vesalius.images.image_set import ImageSet
from vesalius.study.candidates import Candidate, Material
from vesalius.study.clean import Cleaner
from vesalius.study.draw import Drawn
from vesalius.study.equalise import Seen, decide, encode, fit, is_grey, jpeg_quality, look, picture
from vesalius.study.fakes import gross_fake
from vesalius.study.key import FAKE, REAL, RECONSTRUCTED, KeyItem
from vesalius.study.make_protocol import take_pixels
from vesalius.study.protocol import Pixels, Protocol
from vesalius.study.settings import ImageSettings

Source = tuple[int, str]  # a row of all images, and the arm: one row may be in two
_SMALL = 0.6  # of the median side: a study as small as its smallest image


def source_of(one: Candidate) -> Source:
    """What tells an image from all others."""
    return one.row, one.arm


@dataclass(frozen=True)
class Pictures:
    """All images, by their sources; the pixels are made when they are asked for."""

    images: ImageSet
    sources: Mapping[Source, Candidate]
    protocol: Protocol
    sha1: Mapping[Source, str]
    matched: Mapping[Source, Source]
    warnings: list[str]
    open: Callable[[Source], Image.Image]

    @cached_property
    def size_bytes(self) -> int:
        """About what all files take."""
        pixels = self.protocol.pixels
        size = pixels.width * pixels.height * (1 if pixels.grey else 3)
        return len(self.sources) * (size + 1000)

    def encoded(self) -> Iterator[tuple[Source, bytes]]:
        """Every file."""
        for source in self.sources:
            yield source, encode(fit(self.open(source), self.protocol.pixels))

    def items(self, names: Mapping[Source, str]) -> list[KeyItem]:
        """The key of the images; without `names` its arms alone are of use."""
        found = []
        for source, one in self.sources.items():
            other = self.matched.get(source)
            view = json.dumps(dict(one.attributes), ensure_ascii=False)
            found.append(KeyItem(
                names.get(source, ""), one.arm, one.set, one.origin, self.sha1[source], one.group,
                one.label, one.prompt, view, names.get(other, "") if other else "",
            ))  # fmt: skip
        return found


def make_pictures(
    material: Material,
    drawn: Drawn,
    cleaner: Cleaner,
    settings: ImageSettings,
    protocol: Protocol,
    count: Count,
) -> Pictures:
    """Look at every image that was drawn, and decide what all have in common.

    Raises VesaliusError for a size that makes no sense, and a model that cannot be loaded.
    """
    sources = {source_of(one): one for one in (*drawn.used(), *drawn.fakes)}
    opener = _opener(material, drawn, settings, protocol.seed)
    stats: dict[Source, tuple[tuple[int, int], bool, Seen]] = {}
    for k, source in enumerate(sources):
        image = opener(source)
        stats[source] = image.size, is_grey(image), look(image)
        count(k + 1, len(sources))
    own = {source: one for source, one in sources.items() if one.arm != FAKE}
    rows = [row for row, _ in own]
    surveyed = cleaner.survey_of(rows)
    qualities = [
        jpeg_quality(material.images.encoded(row))
        for row, kind in zip(rows, surveyed.formats, strict=True)
        if kind == "JPEG"
    ]
    shapes = [s for s, one in zip(surveyed.sizes, own.values(), strict=True) if one.set]
    pixels = decide(
        [stats[source][0] for source in own],
        shapes or [stats[source][0] for source in own],
        [q for q in qualities if q],
        settings.size,
    )
    greys = {
        arm: [stats[s][1] for s, one in own.items() if _side(one) == arm] for arm in _sides(own)
    }
    grey = all(greys[REAL])
    warnings = _remarks(own, stats, greys, pixels)
    keys = dict(zip(own, surveyed.keys, strict=True))
    fakes = [source for source in sources if source not in own]
    keys |= dict(zip(fakes, cleaner.survey_of([row for row, _ in fakes]).keys, strict=True))
    done = take_pixels(protocol, **(pixels.model_dump() | {"grey": grey}))
    return Pictures(material.images, sources, done, keys, _matches(drawn), warnings, opener)


def _opener(
    material: Material, drawn: Drawn, settings: ImageSettings, seed: int
) -> Callable[[Source], Image.Image]:
    """What decodes an image, and makes the reconstructed and the fake ones."""
    number_of = {one.row: k for k, one in enumerate(drawn.fakes)}
    reconstruct = None
    if settings.reconstruct:
        from vesalius.study.reconstruct import reconstructor

        reconstruct = reconstructor(settings.reconstruct, settings.device)

    made: dict[Source, Image.Image] = {}  # reconstructions take long, and are asked for twice

    def opened(source: Source) -> Image.Image:
        row, arm = source
        if source in made:
            return made[source]
        image = picture(material.images.encoded(row), crop_borders=settings.crop_borders)
        if arm == FAKE:
            return gross_fake(image, number_of[row], seed)
        if arm == RECONSTRUCTED and reconstruct:
            image = made[source] = reconstruct(image)
        return image

    return opened


def _matches(drawn: Drawn) -> dict[Source, Source]:
    pairs = [(unit.real, unit.other) for unit in (*drawn.training, *drawn.units)]
    pairs += [*drawn.same, *zip(drawn.partners, drawn.fakes, strict=False)]
    found = {}
    for one, other in pairs:
        found[source_of(one)], found[source_of(other)] = source_of(other), source_of(one)
    return found


def _side(one: Candidate) -> str:
    return REAL if one.arm in (REAL, RECONSTRUCTED) else one.arm


def _sides(own: Mapping[Source, Candidate]) -> list[str]:
    return list(dict.fromkeys(map(_side, own.values())))


def _remarks(
    own: Mapping[Source, Candidate],
    stats: Mapping[Source, tuple[tuple[int, int], bool, Seen]],
    greys: Mapping[str, list[bool]],
    pixels: Pixels,
) -> list[str]:
    """What of the pictures themselves may tell the arms, or makes them worse."""
    said = []
    if not all(greys[REAL]) and any(greys[REAL]):
        shares = ", ".join(f"{arm} {sum(some)} of {len(some)}" for arm, some in greys.items())
        said.append(f"some images are grey and some are not: {shares} are grey")
    for what, of in (
        ("have a black border", lambda seen: seen.border > 0.02),
        ("have letters burned into a corner", lambda seen: seen.marker),
    ):
        counts = {}
        for arm in _sides(own):
            seen = [stats[source][2] for source, one in own.items() if _side(one) == arm]
            counts[arm] = sum(map(of, seen)) / len(seen)
        if max(counts.values()) - min(counts.values()) > 0.1:
            shares = ", ".join(f"{100 * share:.0f} % of {arm}" for arm, share in counts.items())
            said.append(f"{shares} images {what}, by which readers may tell them")
    median = np.median([min(size) for size, _, _ in stats.values()])
    if min(pixels.width, pixels.height) < _SMALL * median:
        said.append(
            f"the smallest image makes all {pixels.width} x {pixels.height}, where half have a side of "
            f"{median:.0f} or more: --size sets another"
        )
    return said
