"""What an evaluation reads: all images named and divided, once, and the networks that see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vesalius.core.progress import Progress
from vesalius.errors import VesaliusError
from vesalius.evaluate import comparison
from vesalius.evaluate.comparison import Naming, Seen, Side
from vesalius.evaluate.settings import EvaluateSettings
from vesalius.evaluate.validity import Remark
from vesalius.images.image_set import ImageSet
from vesalius.models.device import pick_device
from vesalius.models.networks.extractors import NAMES, Extractor, find_extractor
from vesalius.models.networks.features import Extracted, extract
from vesalius.pairs.open_images import open_images


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
class Inputs:
    """All images, read: what every metric works on."""

    real: Side
    references: dict[str, Side]
    fakes: dict[str, Side]
    seen: Seen
    side: int | None  # of the square that all images were cut to, in pixels
    remarks: list[Remark]

    def compared(self, fake: Side, settings: EvaluateSettings) -> dict[str, Side]:
        """The references that fidelity is measured against: all, or cut to the set's own numbers."""
        if not settings.match:
            return self.references
        found = {n: comparison.matched(s, fake, settings.seed) for n, s in self.references.items()}
        return {name: side for name, side in found.items() if len(side)} or self.references


@dataclass(frozen=True)
class Reader:
    """Takes the features of images; what is remarkable about them is kept in `remarks`."""

    extractors: Sequence[Extractor]
    store: Path
    device: str
    progress: Progress
    remarks: list[Remark] = field(default_factory=list)

    def read(self, images: ImageSet, what: str, side: int | None, name: str = "") -> Extracted:
        """The features of a set; `name` is that of a synthetic one.

        Raises VesaliusError where no image can be read.
        """
        with self.progress(what) as count:
            found = extract(
                images,
                self.extractors,
                self.store,
                side=side,
                device=pick_device(self.device),
                on_images=count,
                on_message=lambda message: self.remarks.append(Remark("note", name, message)),
            )
        if not len(found.rows):
            why = next(iter(found.survey.warnings()), "it holds none")
            raise VesaliusError(f"{what}: no image can be read: {why}")
        where = "" if name else f"{what}: "
        self.remarks.extend(Remark("note", name, where + w) for w in found.survey.warnings())
        return found


def read_inputs(
    real: Path | str,
    synthetic: Mapping[str, Path | str],
    settings: EvaluateSettings,
    reader: Reader,
    model_folder: Path | None = None,
) -> Inputs:
    """Open all sets, take their features, name their classes, and divide the real images.

    Raises VesaliusError where a set cannot be read or holds nothing to compare.
    """
    seen = comparison.read_seen(settings.train, model_folder)
    made = {name: open_images(path) for name, path in synthetic.items()}
    read = {name: reader.read(made[name], name, settings.side, name) for name in made}
    side = settings.side or _common_side([found.survey.sizes for found in read.values()])
    source = _used(open_images(real))
    found_real = reader.read(source, "real images", side)
    found_train = reader.read(seen.table, "training images", side) if seen.table else None

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
    reader.remarks.extend(_lost(seen, whole, Path(real).name))
    fakes = {n: comparison.make_side(n, made[n], read[n], naming) for n in made}
    return Inputs(whole, references, fakes, seen, side, reader.remarks)


def _lost(seen: Seen, real: Side, name: str) -> list[Remark]:
    """That training images are missing among the real ones."""
    if not seen.images or not (lost := len(seen.images.images - {*real.survey.keys})):
        return []
    message = (
        f"{lost} of {len(seen.images.images)} training images are not in {name}: copies of them "
        "cannot be found"
    )
    return [Remark("note", "", message)]


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
