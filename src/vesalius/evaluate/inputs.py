"""What an evaluation reads: all images named and divided, once, and the networks that see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vesalius.core.privacy_card import NO_ROWS
from vesalius.core.progress import Progress
from vesalius.errors import VesaliusError
from vesalius.evaluate.naming import Naming, columns_of
from vesalius.evaluate.references import (
    TRAIN,
    Training,
    divide,
    matched,
    of_a_private_model,
    read_training,
    recorded_training,
    why_no_coin,
)
from vesalius.evaluate.sets import ComparedSet, make_set
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

    real: ComparedSet
    references: dict[str, ComparedSet]
    fakes: dict[str, ComparedSet]
    training: Training
    side: int | None  # of the square that all images were cut to, in pixels
    remarks: list[Remark]
    no_coin: str = ""  # why no fair coin decided who was trained on

    def compared(self, fake: ComparedSet, settings: EvaluateSettings) -> dict[str, ComparedSet]:
        """The references that fidelity is measured against: all, or cut to the set's own numbers."""
        if not settings.match:
            return self.references
        found = {n: matched(s, fake, settings.seed) for n, s in self.references.items()}
        return {name: one for name, one in found.items() if len(one)} or self.references


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
    training = read_training(settings.learned_from, model_folder)
    if not training.known:
        folders = [Path(path) for path in synthetic.values()]
        training = recorded_training(folders, Path(real)) or training
        if not training.known and of_a_private_model(folders):
            training = Training(False, NO_ROWS)
    made = {name: open_images(path) for name, path in synthetic.items()}
    read = {name: reader.read(made[name], name, settings.side, name) for name in made}
    side = settings.side or _common_side([found.survey.sizes for found in read.values()])
    source = _used(open_images(real))
    found_real = reader.read(source, "real images", side)
    found_train = reader.read(training.table, "training images", side) if training.table else None

    known = [columns_of(source, settings.by)]
    known += [columns_of(training.table, settings.by)] if training.table else []
    naming = Naming.learn(known, settings.by)
    whole = make_set("real", source, found_real, naming)
    learned = None
    if training.table and found_train:
        learned = make_set(TRAIN, training.table, found_train, naming)
    split = [columns_of(source, "split")["split"][k] for k in found_real.rows.tolist()]
    references = divide(whole, split, training, learned)
    if not references:
        raise VesaliusError(f"{real} has no images of split train, val or test to compare with")
    reader.remarks.extend(_lost(training, whole, Path(real).name))
    fakes = {n: make_set(n, made[n], read[n], naming) for n in made}
    return Inputs(
        whole, references, fakes, training, side, reader.remarks, why_no_coin(Path(real), training)
    )


def _lost(training: Training, real: ComparedSet, name: str) -> list[Remark]:
    """That training images are missing among the real ones."""
    if not training.images or not (lost := len(training.images.images - {*real.survey.keys})):
        return []
    message = (
        f"{lost} of {len(training.images.images)} training images are not in {name}: copies of them "
        "cannot be found"
    )
    return [Remark("note", "", message)]


def _used(images: ImageSet) -> ImageSet:
    """Without the rows that a table has set aside."""
    split = columns_of(images, "split")["split"]
    if "unused" not in split:
        return images
    return images.take([row for row, name in enumerate(split) if name != "unused"])


def _common_side(sizes: Sequence[Sequence[tuple[int, int]]]) -> int | None:
    """The side of all synthetic images, where they are squares of one size."""
    known = {size for each in sizes for size in each if size != (0, 0)}
    width, height = known.pop() if len(known) == 1 else (0, 1)
    return width if width == height else None
