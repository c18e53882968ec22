"""Volumes (NIfTI, MetaImage, NRRD) as slices in one plane, seen as radiologists see them."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path

import numpy as np
from PIL import Image

from vesalius.core.optional import need
from vesalius.errors import VesaliusError
from vesalius.images.pixels import BadImage, Pixels, is_number, parse_window, show_range, to_range
from vesalius.pairs.readers import nifti
from vesalius.pairs.readers.base import Found, Item, Note, Skipped, file_stamp
from vesalius.pairs.readers.bids import participants
from vesalius.pairs.readers.files import PARTICIPANTS, excluded, walk
from vesalius.pairs.readers.latest import Latest
from vesalius.pairs.readers.slices import choose
from vesalius.pairs.settings import ReaderOptions
from vesalius.pairs.splits import folders_are_splits, take_split

SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")

_DATA_OF_HEADERS = (".raw", ".zraw")  # what .mhd files point to
_MOST_VOXELS = 2**31  # 8 GB as float32
_MOST_OF_A_PATIENT = 12  # volumes in a folder; a class has more
_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")  # a patient, in folders and names of BIDS
_NO_CLASS = re.compile(r"(images|labels)(tr|ts|va)", re.IGNORECASE)  # of nnU-Net and the Decathlon
# The end of a volume's name that says which of a patient's it is.
_SEQUENCE = re.compile(
    r"(?:^|[-_. ])(t1(?:w|c|n|ce|gd|post|pre|wi)?|t2(?:w|f|wi)?|flair|pdw?|mra|dwi|adc|swi|dti|bold|ct|cta|pet"
    r"|frame\d+)$",
    re.IGNORECASE,
)
_MASK = re.compile(r"[-_. ](seg|segmentation|mask|gt|label)$", re.IGNORECASE)
_LARGEST_ASPECT = 50  # slices further apart than that many pixels are a damaged header
# The axis that slices follow each other along: of an array (z, y, x) with z to the head, y to the
# back and x to the patient's left.
_PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}


@dataclass(frozen=True, slots=True)
class _Volume:
    array: np.ndarray  # (z, y, x), uint8 or uint16
    spacing: tuple[float, float, float]  # of z, y, x in mm
    bits: int
    window: str


def read(source: Path, options: ReaderOptions) -> Iterator[Item]:
    """The slices of every volume below `source`, a folder or one file, in `options.plane`.

    Axial slices have the front of the body up, coronal and sagittal ones the head; the patient's
    right is on the left of the image, and the front on the left of sagittal ones. Keys are
    `rel/case1.nii.gz#axial012`, indices from 0 at the feet, the front or the patient's right. In
    class folders the label is the folder and the group the file, without the sequence in its name
    (`p1_T1` and `p1_T2` are of `p1`); where a folder is a patient (see `patient_folders`) or its name
    or the file's says so (`sub-01` of BIDS), that is the group, and the label the folder above it.
    Folders called like splits give the split, as in `folders.read`. One window is taken
    for a whole volume, so that its slices compare. Attributes: `plane`, `slice` ("12/40", counted
    from 1), `spacing` (mm, to the left, the back and the head), `sequence` where the name says it, and
    `folder`, those above the label; of BIDS also what `participants.tsv` says of the subject.

    Raises VesaliusError where SimpleITK or nibabel is missing or plane, window or slices are wrong.
    """
    need("SimpleITK", "volumes")
    need("nibabel", "volumes")
    parse_window(options.window)
    choose(options.slices, 0)
    if options.plane not in _PLANES:
        raise VesaliusError(f"plane {options.plane!r} should be one of {', '.join(_PLANES)}")
    volume = Latest(partial(_load, window=options.window, bits=options.bits))
    single = source.is_file()
    keys = {
        path.name if single else path.relative_to(source).as_posix(): path
        for path in ([source] if single else walk(source, options.exclude))
    }
    volumes = [key for key in keys if key.lower().endswith(SUFFIXES)]
    patients = patient_folders(volumes)
    with_splits = folders_are_splits(key.split("/")[:-1] for key in volumes)
    yield from _several_sequences(volumes)
    people = {} if single else participants(source)
    for key, path in keys.items():
        if excluded(key, options.exclude) or path.suffix.lower() in _DATA_OF_HEADERS:
            continue
        if key == PARTICIPANTS and people:
            continue
        place = _place(key, patients, with_splits)
        if person := people.get(place.group.rpartition("/")[2]):
            about = person["attributes"] | place.attributes
            place = replace(place, label=place.label or person["label"], attributes=about)
        try:
            for found in _slices(path, key, options, volume):
                yield place.told(found) if isinstance(found, Found) else found
        except (BadImage, OSError) as error:
            yield Skipped(key, str(error))


def stem(name: str) -> str:
    """A volume's file name without its suffix, of which .nii.gz is one."""
    suffix = next((end for end in (".nii.gz", *SUFFIXES) if name.lower().endswith(end)), "")
    return name[: len(name) - len(suffix)]


@dataclass(frozen=True, slots=True)
class _Place:
    """What the path of a volume says of it."""

    group: str
    label: str | None
    split: str | None
    attributes: dict[str, str]

    def told(self, found: Found) -> Found:
        """A slice with what its volume's path says."""
        about = found.attributes | self.attributes
        return replace(
            found, group=self.group, label=self.label, split=self.split, attributes=about
        )


def _several_sequences(volumes: Sequence[str]) -> Iterator[Note]:
    kinds = {kind.lower() for key in volumes if (kind := _sequence(key))}
    names = ", ".join(sorted(kind for kind in kinds if not kind.startswith("frame")))
    if ", " in names:
        yield Note(
            f"its volumes are of several sequences ({names}), which the attribute `sequence` names: leave "
            "some out by --exclude, as in '*_t2.nii.gz', or say it in captions"
        )


def _place(key: str, patients: set[str], with_splits: bool) -> _Place:
    folder, _, name = key.rpartition("/")
    above = tuple(folder.split("/")) if folder else ()
    group = folder
    if of_bids := [n for n, part in enumerate((*above, name)) if _SUBJECT.match(part)]:
        subject = _SUBJECT.match((*above, name)[of_bids[0]])
        above = tuple(takewhile(lambda part: part != "derivatives", above[: of_bids[0]]))
        group = "/".join([*above, subject[0] if subject else ""])
    elif folder in patients:
        above = above[:-1]
    else:
        bare = _SEQUENCE.sub("", _MASK.sub("", stem(name)))
        group = f"{folder}/{bare or stem(name)}".lstrip("/")
    split, above = take_split(above) if with_splits else (None, above)
    label = above[-1] if above and not _NO_CLASS.fullmatch(above[-1]) else None
    facts = {"sequence": _sequence(key), "folder": "/".join(above[:-1] if label else above)}
    return _Place(group, label, split, {fact: text for fact, text in facts.items() if text})


def _sequence(key: str) -> str:
    """The sequence that a volume's name ends in, "" where it says none."""
    found = _SEQUENCE.search(stem(key.rpartition("/")[2]))
    return found[1] if found else ""


def patient_folders(keys: Sequence[str]) -> set[str]:
    """The folders of `keys` that hold one patient's volumes each, rather than a class.

    `p1/t1.nii, p2/t1.nii`: a few volumes in each folder, some called alike and not just numbered (as in
    `covid/case1.nii, normal/case1.nii`, where the folders are not numbered either); or
    `p1/p1_t1.nii, p1/p1_t2.nii`: the folder's name in each. Such volumes must not come apart.
    """
    names: dict[str, set[str]] = {}
    for key in keys:
        folder, _, name = key.rpartition("/")
        names.setdefault(folder, set()).add(stem(name))
    names.pop("", None)
    patterns = {re.sub(r"\d+", "#", folder.rpartition("/")[2]) for folder in names}
    numbered = len(patterns) == 1 and "#" in next(iter(patterns))
    times = Counter(
        name
        for own in names.values()
        for name in own
        if not name.isdigit() and (numbered or not name[-1:].isdigit() or _SEQUENCE.search(name))
    )
    few = all(len(own) <= _MOST_OF_A_PATIENT for own in names.values())
    if few and times and max(times.values()) > 1:
        return set(names)
    return {
        folder
        for folder, own in names.items()
        if all(name.startswith(folder.rpartition("/")[2]) for name in own)
    }


def _slices(
    path: Path, key: str, options: ReaderOptions, volume: Latest[Path, _Volume]
) -> Iterator[Found | Note]:
    if not key.lower().endswith(SUFFIXES):
        raise BadImage(f"not a volume ({', '.join(SUFFIXES)})")
    axis = _PLANES[options.plane]
    stamp = file_stamp(path)
    size, spacing, notes = _geometry(path)
    for note in notes:
        yield Note(f"{key}: {note}")
    count = size[2 - axis]
    chosen = choose(options.slices, count)
    if not chosen:
        raise BadImage(f"none of its {count} slices is in {options.slices}")
    for index in chosen:
        about = {
            "plane": options.plane,
            "slice": f"{index + 1}/{count}",
            "spacing": "x".join(f"{step:.4g}" for step in spacing),
        }
        yield Found(
            key=f"{key}#{options.plane}{index:03d}",
            load=partial(_show, volume, path, options.plane, index),
            stamp=stamp,
            attributes=about,
        )


def _geometry(path: Path) -> tuple[Sequence[int], Sequence[float], Sequence[str]]:
    """Size, spacing (mm) along left, back and head, and what is assumed. Raises BadImage."""
    if path.name.lower().endswith(nifti.SUFFIXES):
        found = nifti.geometry(path)
        size, spacing, notes = found.size, found.spacing, found.notes
    else:
        size, spacing, notes = *_itk_geometry(path), ()
    if np.prod(size, dtype=np.float64) > _MOST_VOXELS:
        raise BadImage(f"{' x '.join(map(str, size))} voxels: too many")
    if not 0 < max(spacing) <= _LARGEST_ASPECT * min(spacing):
        raise BadImage(f"voxels of {' x '.join(f'{step:g}' for step in spacing)} mm")
    return size, spacing, notes


def _itk_geometry(path: Path) -> tuple[list[int], list[float]]:
    sitk = need("SimpleITK", "volumes")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:  # all that ITK raises
        raise BadImage("damaged, or not the format that its name says") from error
    size, spacing = reader.GetSize(), reader.GetSpacing()
    if len(size) != 3 or reader.GetNumberOfComponents() != 1:
        what = "colour or vector" if reader.GetNumberOfComponents() != 1 else f"{len(size)}-D"
        raise BadImage(f"{what} volume: only single 3-D volumes are read")
    letters = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(reader.GetDirection())
    order = [
        next(axis for axis, letter in enumerate(letters) if letter in pair)
        for pair in ("RL", "AP", "IS")
    ]
    return [size[axis] for axis in order], [spacing[axis] for axis in order]


def _load(path: Path, window: str, bits: int) -> _Volume:
    """A whole volume in 8 or 16 bits, oriented: z to the head, y to the back, x to the left."""
    if path.name.lower().endswith(nifti.SUFFIXES):
        values, depth = nifti.voxels(path)
        x, y, z = nifti.geometry(path).spacing
    else:
        sitk = need("SimpleITK", "volumes")
        try:
            image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
        except RuntimeError as error:  # all that ITK raises
            raise BadImage("damaged: its voxels cannot be read") from error
        values = sitk.GetArrayViewFromImage(image)
        depth = 8 * values.dtype.itemsize
        x, y, z = image.GetSpacing()
    low, high = show_range(values[is_number(values)], window)
    shown = np.empty(values.shape, np.uint8 if bits == 8 else np.uint16)
    for index, part in enumerate(values):  # one by one: as float32 the whole would be much larger
        known = np.isfinite(part)
        shown[index] = to_range(np.where(known, part, low), low, high, bits)
    return _Volume(shown, (z, y, x), depth, f"{low:g}..{high:g}")


def _show(volume: Latest[Path, _Volume], path: Path, plane: str, index: int) -> Pixels:
    """One slice as it is displayed, with square pixels of the finer of its two spacings."""
    held = volume.get(path)
    axis = _PLANES[plane]
    pixels = held.array.take(index, axis)
    down, across = (step for at, step in enumerate(held.spacing) if at != axis)
    if plane != "axial":
        pixels = np.flipud(pixels)  # the head up
    height, width = pixels.shape
    finest = min(down, across)
    size = round(width * across / finest), round(height * down / finest)
    if size != (width, height):
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    return Pixels(pixels, held.bits, {"window": held.window})
