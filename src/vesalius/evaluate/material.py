"""What an evaluation works on: all images read and named, once, and the networks to be had."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vesalius.core.progress import Progress
from vesalius.errors import VesaliusError
from vesalius.evaluate import comparison
from vesalius.evaluate.comparison import Naming, Seen, Side
from vesalius.evaluate.validity import Remark
from vesalius.images.image_set import ImageSet
from vesalius.models.device import pick_device
from vesalius.models.networks.extractors import NAMES, Extractor, find_extractor
from vesalius.models.networks.features import extract
from vesalius.pairs.open_images import open_images
from vesalius.statistics.record import PARTS


@dataclass(frozen=True)
class Settings:
    """What decides the figures; all of it is in metrics.json."""

    extractors: Sequence[str] = ("inception", "efficientnet-lite0")
    by: str = "label"  # column that classes are told apart by
    only: Sequence[str] = PARTS
    side: int | None = None  # pixels of the square that images are cut to; None: as `_sized` says
    match: bool = False  # as many real images of a class as synthetic ones
    clip: str | None = None
    vqa: str | None = None
    replicates: int = 200
    seed: int = 0
    device: str = "auto"
    samples: int = 6  # pictures of a class in the report; 0: no picture at all
    chexgenbench: bool = False


def find_all(names: Sequence[str]) -> tuple[list[Extractor], dict[str, str]]:
    """The extractors that can be had, and why the others cannot.

    Raises VesaliusError for a name that is none, and where none can be had.
    """
    found: dict[str, Extractor] = {}
    unavailable: dict[str, str] = {}
    for name in names:
        known = name.partition("=")[0]
        if known not in NAMES and ":" not in known:
            find_extractor(name)  # says what the names are
        try:
            found[name] = find_extractor(name)
        except VesaliusError as error:
            unavailable[name] = str(error)
    if not found:
        why = "; ".join(unavailable.values()) or "none was named"
        raise VesaliusError(f"no extractor can be had: {why}")
    return list(found.values()), unavailable


@dataclass(frozen=True)
class Material:
    """All images, read: what every part works on."""

    real: Side
    references: dict[str, Side]
    fakes: dict[str, Side]
    seen: Seen
    side: int | None
    notes: list[Remark]


def read_material(
    real: Path | str,
    synthetic: Mapping[str, Path | str],
    settings: Settings,
    extractors: Sequence[Extractor],
    *,
    train: Path | str | None,
    store: Path,
    model_folder: Path | None,
    progress: Progress,
) -> Material:
    """Open all sets, take their features, name their classes, and divide the real images.

    Raises VesaliusError where a set cannot be read or holds nothing to compare.
    """
    notes: list[Remark] = []
    seen = comparison.read_seen(train, model_folder)

    def features(images: ImageSet, name: str, what: str, side: int | None) -> Any:
        with progress(what) as count:
            found = extract(
                images,
                extractors,
                store,
                side=side,
                device=pick_device(settings.device),
                on_images=count,
                on_message=lambda message: notes.append(Remark("note", name, message)),
            )
        if not len(found.rows):
            why = next(iter(found.survey.warnings()), "it holds none")
            raise VesaliusError(f"{what}: no image can be read: {why}")
        where = "" if name else f"{what}: "
        notes.extend(Remark("note", name, where + said) for said in found.survey.warnings())
        return found

    made = {name: open_images(path) for name, path in synthetic.items()}
    read = {name: features(made[name], name, name, settings.side) for name in made}
    side = settings.side or _common_side([found.survey.sizes for found in read.values()])
    source = _used(open_images(real))
    found_real = features(source, "", "real images", side)
    found_train = features(seen.table, "", "training images", side) if seen.table else None

    known = [comparison.told(source, settings.by)]
    known += [comparison.told(seen.table, settings.by)] if seen.table else []
    naming = Naming.learn(known, settings.by)
    whole = comparison.make_side("real", source, found_real, naming)
    learned = None
    if seen.table and found_train:
        learned = comparison.make_side(comparison.TRAIN, seen.table, found_train, naming)
    split = [comparison.told(source, "split")["split"][k] for k in found_real.rows.tolist()]
    references = comparison.divide(whole, split, seen, learned)
    if not references:
        raise VesaliusError(f"{real} has no images of split train, val or test to compare with")
    if seen.images and (lost := len(seen.images.images - {*whole.survey.keys})):
        message = (
            f"{lost} of {len(seen.images.images)} training images are not in {Path(real).name}: copies of "
            "them cannot be found"
        )
        notes.append(Remark("note", "", message))
    fakes = {n: comparison.make_side(n, made[n], read[n], naming) for n in made}
    return Material(whole, references, fakes, seen, side, notes)


def _used(images: ImageSet) -> ImageSet:
    """Without the rows that a table has set aside."""
    split = comparison.told(images, "split")["split"]
    if "unused" not in split:
        return images
    return images.take([row for row, name in enumerate(split) if name != "unused"])


def _common_side(sizes: Sequence[Sequence[tuple[int, int]]]) -> int | None:
    """The side of all synthetic images, where they are squares of one size."""
    known = {size for each in sizes for size in each if size != (0, 0)}
    width, height = known.pop() if len(known) == 1 else (0, 1)
    return width if width == height else None


def compared(material: Material, fake: Side, settings: Settings) -> dict[str, Side]:
    """The references that fidelity is measured against: all, or cut to the set's own numbers."""
    if not settings.match:
        return material.references
    found = {n: comparison.matched(s, fake, settings.seed) for n, s in material.references.items()}
    return {name: side for name, side in found.items() if len(side)} or material.references
