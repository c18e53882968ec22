"""DICOM: a folder or a file of it, by series; slices in their order, windowed as the file says."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from vesalius.core.optional import need
from vesalius.errors import VesaliusError
from vesalius.images.dicom_header import ATTRIBUTES
from vesalius.images.dicom_pixels import decode, decode_dataset, parse
from vesalius.images.pixels import Pixels, parse_window
from vesalius.pairs.readers.base import Found, Item, Note, Skipped
from vesalius.pairs.readers.columns import listed
from vesalius.pairs.readers.dicom_series import DicomFile, Series, list_series
from vesalius.pairs.readers.latest import Latest
from vesalius.pairs.readers.slices import choose
from vesalius.pairs.settings import ReaderOptions
from vesalius.pairs.splits import folders_are_splits, take_split

LIST = "list"  # in the place of a series: say which there are


def read(source: Path, options: ReaderOptions) -> Iterator[Item]:
    """The images of every series below `source`, a folder or one file.

    `options.series` takes the series whose description or folder holds it, `options.slices` of
    each series, or of each file of several frames, the slices; `options.label_column` names the
    attribute that is the label. Keys are `rel/path.dcm`, or `rel/path.dcm#frame` counted from 0;
    the group is the PatientID. Attributes are those of `dicom_header.ATTRIBUTES`, `folder`,
    `slice` ("7/19", counted from 1) and `identity_tags`, the keywords of filled tags that identify
    somebody ("PatientName|InstitutionName"). Where each of several folders holds several patients, in
    folders of their own or not, the folder is the label; folders called like splits give the split.

    Raises VesaliusError where pydicom is missing, a window or slices are wrong, no series
    matches, or `options.series` is `LIST`.
    """
    need("pydicom", "dicom")
    parse_window(options.window)
    choose(options.slices, 0)
    if (column := options.label_column) and column not in ATTRIBUTES:
        raise VesaliusError(
            f"--label-column {column}: DICOM is labelled by one of {', '.join(ATTRIBUTES)}"
        )
    dataset = Latest(_parsed)
    found: list[Series] = []
    for item in list_series(source, options.exclude):
        if isinstance(item, Skipped | Note):
            yield item
        else:
            found.append(item)
    labels = _Labels(class_folders(found), options.label_column)
    if options.series == LIST:
        raise VesaliusError(_listing(found))
    if names := {label for _, label, _ in map(labels.of, labels.classes) if label}:
        yield Note(
            f"its folders hold several patients each and are taken for labels: {listed(sorted(names))}"
        )
    wanted = (options.series or "").lower()
    taken = [item for item in found if wanted in item.description.lower()]
    for item in taken:
        yield from _images(item, options, dataset, labels)
    if not names and not labels.column and (mixed := mixed_series(taken)):
        yield Note(mixed)
    if found and not taken:
        known = ", ".join(sorted({item.description for item in found})[:5])
        raise VesaliusError(f"no DICOM series is called {options.series!r}: there are {known}")


def class_folders(series: Sequence[Series]) -> dict[str, str]:
    """By each folder of images the one that is its class: itself or the nearest above of several patients.

    A patient's folder, or a study's, is of one patient; a folder that holds the whole set, or another
    class, is no class. Empty where the folders are no classes.
    """
    patients: dict[str, set[str]] = {}  # of each folder, those of the folders in it included
    folders: dict[str, None] = {}
    for one in series:
        for file in one.files:
            folders[file.folder] = None
            for folder in _upwards(file.folder):
                patients.setdefault(folder, set()).add(one.patient or file.key)
    classes = {
        folder: next((above for above in _upwards(folder) if len(patients[above]) > 1), "")
        for folder in folders
    }
    found = set(classes.values())
    nested = any(above in found for folder in found for above in _upwards(folder)[1:])
    return classes if len(found) > 1 and "" not in found and not nested else {}


def _upwards(folder: str) -> list[str]:
    """A folder and those above it, the whole source ("") last."""
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:end]) for end in range(len(parts), -1, -1)]


def mixed_series(series: Sequence[Series]) -> str:
    """What to tell of a table in which several kinds of series of one patient are mixed, or nothing."""
    kinds: dict[str, dict[str, int]] = {}
    for one in series:
        of_patient = kinds.setdefault(one.patient, {})
        of_patient[one.kind] = of_patient.get(one.kind, 0) + len(one.files)
    if all(len(of_patient) < 2 for of_patient in kinds.values()):
        return ""
    counts: Counter[str] = Counter()
    for of_patient in kinds.values():
        counts.update(of_patient)
    names = " ".join(counts).lower()
    prostate = ", or T2W, ADC and diffusion as one image by --reader prostate"
    numbers = ", ".join(f"{count:,}" for _, count in counts.most_common(6))
    return (
        f"{len(counts)} kinds of DICOM series are mixed ({numbers} files), and nothing says which an "
        "image is of: label them by --label-column series_description, or take one by --series NAME "
        f"(--series {LIST} names them)" + (prostate if "t2" in names and "adc" in names else "")
    )


def _listing(series: Sequence[Series]) -> str:
    """The names of series, for the one who asks."""
    counts = Counter(one.description or "without a name" for one in series)
    names = ", ".join(f"{name!r} ({count:,})" for name, count in counts.most_common())
    return f"the DICOM series are {names}: --series takes those whose name holds its text"


def _images(
    series: Series, options: ReaderOptions, dataset: Latest[Path, Any], labels: "_Labels"
) -> Iterator[Item]:
    slices = [file for file in series.files if file.frames == 1]
    window = series.window if options.window == "auto" else options.window
    chosen = choose(options.slices, len(slices))
    if slices and not chosen:
        yield _none_chosen(slices[0].folder or slices[0].key, options.slices, len(slices))
    for index in chosen:
        file = slices[index]
        load = partial(_load_file, file.path, window, options.bits)
        yield _found(series, file, file.key, load, f"{index + 1}/{len(slices)}", labels)
    for file in series.files:
        if file.frames == 1:
            continue
        frames = choose(options.slices, file.frames)
        if not frames:
            yield _none_chosen(file.key, options.slices, file.frames)
        for index in frames:
            load = partial(_load_frame, dataset, file.path, index, options.window, options.bits)
            key, place = f"{file.key}#{index}", f"{index + 1}/{file.frames}"
            yield _found(series, file, key, load, place, labels)


def _found(
    series: Series,
    file: DicomFile,
    key: str,
    load: Callable[[], Pixels],
    place: str,
    labels: "_Labels",
) -> Found:
    about = {**file.attributes, "slice": place}
    split, label, folder = labels.of(file.folder)
    if folder:
        about["folder"] = folder
    if labels.column in ATTRIBUTES:  # a label is no attribute beside it
        label = about.pop(labels.column, None)
    return Found(
        key, load, file.stamp, label, group=series.patient or None, split=split, attributes=about
    )


@dataclass(frozen=True)
class _Labels:
    """Where labels are: folders that are classes, or an attribute, which goes before them."""

    classes: Mapping[str, str]  # see `class_folders`
    column: str | None

    @cached_property
    def with_splits(self) -> bool:
        return folders_are_splits(path.split("/") for path in self.classes.values())

    def of(self, folder: str) -> tuple[str | None, str | None, str]:
        """Split and label of the images in a folder, and what else its path says."""
        if not (path := self.classes.get(folder)):
            return None, None, folder
        parts, below = path.split("/"), folder[len(path) + 1 :]
        split, rest = take_split(parts) if self.with_splits else (None, tuple(parts))
        return split, rest[-1] if rest else None, "/".join(filter(None, [*rest[:-1], below]))


def _none_chosen(key: str, slices: str, count: int) -> Skipped:
    return Skipped(key, f"none of its {count} slices is in {slices}")


def _load_file(path: Path, window: str, bits: int) -> Pixels:
    return decode(path.read_bytes(), window, bits=bits)


def _load_frame(
    dataset: Latest[Path, Any], path: Path, frame: int, window: str, bits: int
) -> Pixels:
    return decode_dataset(dataset.get(path), window, frame, bits)


def _parsed(path: Path) -> Any:
    return parse(path.read_bytes())
