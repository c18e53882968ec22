"""Draw, match and equalise the images of a study, and lay out every reader's trials."""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vesalius._version import __version__
from vesalius.core.atomic import atomic_path, clear_write_errors, writable_new_folder
from vesalius.core.callable_room import callable_as
from vesalius.core.documents import write_document
from vesalius.core.progress import Progress, no_progress
from vesalius.errors import VesaliusError
from vesalius.study.candidates import Material, read_material
from vesalius.study.cases import make_cases
from vesalius.study.clean import Cleaner
from vesalius.study.database import check_not_begun
from vesalius.study.design import lay_out
from vesalius.study.draw import Drawn, shares
from vesalius.study.equalise import write_images
from vesalius.study.key import RECONSTRUCTED, KeyItem, KeyTrial, write_key
from vesalius.study.layout import PROTOCOL, Layout
from vesalius.study.make_protocol import check_labels, make_protocol
from vesalius.study.needs import Needs, needs_of
from vesalius.study.pictures import Pictures, make_pictures
from vesalius.study.protocol import Protocol, read_protocol, write_protocol
from vesalius.study.settings import BuildSettings

callable_as(__name__, f"{__name__}:build")


@dataclass(frozen=True)
class Built:
    """A study that can be looked at, checked and locked."""

    folder: Path
    protocol: Protocol
    images: Mapping[str, int]  # of each arm
    excluded: Mapping[str, Mapping[str, int]]  # of each arm, by reason
    warnings: Sequence[str] = field(repr=False)
    trials: int  # of all readers

    def __repr__(self) -> str:
        arms = ", ".join(f"{number} {arm}" for arm, number in self.images.items())
        readers = len(self.protocol.readers)
        return (
            f"{self.folder}: {sum(self.images.values())} images ({arms}), {self.trials} trials of "
            f"{readers} reader{'s' * (readers > 1)}; next: vesalius study check {self.folder}"
        )


def build(
    real: Path | str,
    synthetic: Mapping[str, Path | str],
    out: Path | str,
    settings: BuildSettings | None = None,
    *,
    progress: Progress = no_progress,
    on_warning: Callable[[str], object] = lambda message: None,
) -> Built:
    """Make the folder `out` of a study of held-out real images and one synthetic set or several.

        vesalius.study.build("pairs.parquet", {"mine": "set"}, "study")

    Args:
        real: a pairs table.
        synthetic: each set by its name: whatever `vesalius evaluate` reads.
        out: the new folder.
        settings: see `BuildSettings`.
        progress: makes a progress bar of a few words.
        on_warning: gets what a user must know.

    Raises VesaliusError where no such study can be made, saying what is possible.
    """
    settings, layout = settings or BuildSettings(), Layout(Path(out))
    _check_folder(layout, overwrite=settings.overwrite)
    given = read_protocol(settings.protocol) if settings.protocol else None
    seed = given.seed if given else settings.design.seed
    material = read_material(real, synthetic, settings.images, seed)
    labels = sorted({one.label for one in material.real})
    protocol = given or make_protocol(settings.design, labels, layout.folder.absolute().name)
    check_labels(protocol, labels, settings.protocol or "the design")
    arms = [*material.sets, *([RECONSTRUCTED] if settings.images.reconstruct else [])]
    needs = needs_of(protocol, arms)
    cleaner = Cleaner(material, needs, seed, settings.images.reuse)
    with progress("looking for copies") as count:
        drawn = cleaner.draw(count)
    with progress("making images equal") as count:
        pictures = make_pictures(material, drawn, cleaner, settings.images, protocol, count)
    names = {source: secrets.token_hex(16) for source in pictures.sources}
    cases = make_cases(pictures.protocol, drawn, shares(drawn, needs), names)
    trials = lay_out(pictures.protocol, cases)
    _remark(material, drawn, needs)
    built = _described(layout, material, pictures, len(trials))
    with atomic_path(layout.folder) as temporary, clear_write_errors(out, pictures.size_bytes):
        _write(
            Layout(temporary), pictures, names, trials, _record(real, synthetic, settings, built)
        )
    for message in built.warnings:
        on_warning(message)
    return built


def _check_folder(layout: Layout, *, overwrite: bool) -> None:
    if layout.lock.exists():
        raise VesaliusError(f"{layout.folder} is a locked study, which stays: choose another --out")
    check_not_begun(layout)
    writable_new_folder(layout.folder, overwrite=overwrite, only_with=PROTOCOL)


def _remark(material: Material, drawn: Drawn, needs: Needs) -> None:
    """What a user must know of the images that were drawn."""
    warnings = material.ledger.warnings
    shared = [unit for unit in shares(drawn, needs).get("alignment", []) if not unit.same_prompt]
    if shared:
        warnings.append(
            f"{len(shared)} of the matched images of alignment have another prompt than their partner: "
            "make the set from captions of the table, or prompts may tell the arm"
        )
    unknown = sum(not one.group for one in drawn.used() if not one.set)
    if unknown:
        warnings.append(
            f"of {unknown} real images the patient is unknown: one may have several images here"
        )


def _described(layout: Layout, material: Material, pictures: Pictures, trials: int) -> Built:
    images = Counter(item.arm for item in pictures.items({}))
    ledger = material.ledger
    warnings = [*ledger.warnings, *pictures.warnings]
    return Built(
        layout.folder, pictures.protocol, dict(images),
        {arm: dict(some) for arm, some in ledger.excluded.items()}, warnings, trials,
    )  # fmt: skip


def _record(
    real: Path | str, synthetic: Mapping[str, Path | str], settings: BuildSettings, built: Built
) -> dict[str, Any]:
    """What build.json holds: no single image is named, and no arm of one."""
    images = settings.images
    return {
        "format": 1,
        "version": __version__,
        "real": str(real),
        "synthetic": {name: str(path) for name, path in synthetic.items()},
        "splits": list(images.splits),
        "sources": list(images.sources),
        "where": dict(images.where),
        "label": images.label,
        "match": list(images.match),
        "crop_borders": images.crop_borders,
        "reconstruct": images.reconstruct,
        "reuse": images.reuse,
        "images": dict(built.images),
        "excluded": {arm: dict(some) for arm, some in built.excluded.items()},
        "warnings": list(built.warnings),
        "design": built.protocol.design(),
    }


def _write(
    layout: Layout,
    pictures: Pictures,
    names: Mapping[Any, str],
    trials: Sequence[KeyTrial],
    record: Mapping[str, Any],
) -> None:
    layout.folder.mkdir()
    write_images(layout.images, ((names[source], data) for source, data in pictures.encoded()))
    items = sorted(pictures.items(names), key=lambda item: item.item)
    write_key(layout.key, items, KeyItem)
    write_key(layout.key_trials, trials, KeyTrial)
    write_protocol(layout.protocol, pictures.protocol)
    write_document(layout.build, record)
