"""DICOM files of a folder as series of slices in their order, from their headers alone."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from vesalius.core.optional import need
from vesalius.images.dicom_header import (
    ATTRIBUTES,
    IDENTITY_TAGS,
    attributes,
    identities,
    identity_tags,
)
from vesalius.images.dicom_pixels import file_window, is_bare_dicom, is_dicom
from vesalius.images.dicom_tags import number, numbers
from vesalius.pairs.readers.base import Note, Skipped, file_stamp
from vesalius.pairs.readers.files import excluded, walk

Vector = tuple[float, ...]

_HEAD = 132  # bytes that identify a DICOM file
# Objects that hold no picture of a patient, or one of labels or doses.
_NO_IMAGE = {
    "SR",
    "PR",
    "KO",
    "SEG",
    "RTSTRUCT",
    "RTPLAN",
    "RTDOSE",
    "RTRECORD",
    "REG",
    "FID",
    "DOC",
}
_SLICED = {"CT", "MR", "PT", "NM"}  # modalities whose images are slices, wherever they lie
_PARALLEL = 0.99  # cosine of the angle between slices that belong to one stack
_TAGS = (
    "SyntheticData",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImageType",
    "InstanceNumber",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "DiffusionBValue",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
)


@dataclass(frozen=True, slots=True)
class DicomFile:
    """One DICOM file with an image, as its header describes it."""

    path: Path
    key: str  # its path below the source, posix
    uid: str  # of its series
    study: str
    stamp: str
    frames: int
    size: tuple[int, int]  # columns, rows
    spacing: Vector | None  # mm from row to row and from column to column
    number: int  # InstanceNumber, 0 where there is none
    position: Vector | None  # of the first pixel's centre, mm, patient coordinates (LPS)
    across: Vector | None  # direction in which columns follow each other
    down: Vector | None  # direction in which rows follow each other
    b_value: float | None  # of diffusion, s/mm2
    window: tuple[float, float] | None  # linear, lowest and highest value shown
    attributes: dict[str, str]
    identities: tuple[str, ...] | None  # what names the patient, to be removed elsewhere

    @property
    def folder(self) -> str:
        """The folder that holds it, below the source; empty at the top."""
        return self.key.rpartition("/")[0]

    @property
    def normal(self) -> Vector | None:
        """The direction that the slices of its stack follow each other in."""
        if self.across is None or self.down is None:
            return None
        (a, b, c), (d, e, f) = self.across, self.down
        return b * f - c * e, c * d - a * f, a * e - b * d


@dataclass(frozen=True, slots=True)
class Series:
    """The images of one series, in their order."""

    files: list[DicomFile] = field(default_factory=list)

    @property
    def description(self) -> str:
        """What the scanner calls it, and its folder where that has another name."""
        first = self.files[0]
        names = (first.attributes.get("series_description"), first.folder.rpartition("/")[2])
        return " ".join(dict.fromkeys(filter(None, names)))

    @property
    def kind(self) -> str:
        """What the scanner calls it, or else its folder."""
        first = self.files[0]
        name = first.attributes.get("series_description") or first.folder.rpartition("/")[2]
        return " ".join(name.split()) or "unnamed"

    @property
    def patient(self) -> str:
        """PatientID; the study where it is empty, since a study is of one patient.

        Synthetic images have none, and each is a group of its own.
        """
        first = self.files[0]
        if "synthetic" in first.attributes:
            return ""
        return first.attributes.get("patient_id") or first.study

    @property
    def window(self) -> str:
        """One window for all slices: the median of theirs; `auto` where each must be asked.

        Scanners write a window into each slice of an MRI, which would make the tone jump. The views of
        an X-ray or a mammogram are no slices, and each has its own.
        """
        limits = [file.window for file in self.files]
        of_slices = all(
            file.position or file.attributes.get("modality") in _SLICED for file in self.files
        )
        if len(limits) < 2 or None in limits or not of_slices:
            return "auto"
        lows, highs = zip(*(limit for limit in limits if limit), strict=True)
        low, high = f"{median(lows):g}", f"{median(highs):g}"
        return f"{low}..{high}" if float(low) < float(high) else "auto"  # equal: a threshold

    @property
    def normal(self) -> Vector | None:
        """Of all its slices; None where they are not parallel or their place is not known."""
        normals = [file.normal for file in self.files if file.position]
        first = normals[0] if normals else None
        if first is None or len(normals) < len(self.files):
            return None
        parallel = (other is not None and dot(first, other) > _PARALLEL for other in normals)
        return first if all(parallel) else None


def list_series(source: Path, exclude: Sequence[str] = ()) -> Iterator[Skipped | Note | Series]:
    """What is skipped of a folder or file, as it is met; then every series, by its first file."""
    series: dict[tuple[str, ...], Series] = {}
    seen: dict[str, DicomFile] = {}
    lying: list[str] = []
    single = source.is_file()
    for path in [source] if single else walk(source, exclude):
        key = path.name if single else path.relative_to(source).as_posix()
        if single and excluded(key, exclude):
            continue
        try:
            file, instance = _read(path, key)
        except (_NotAnImage, OSError) as error:
            yield Skipped(key, str(error) or type(error).__name__)
            continue
        if instance and (first := seen.setdefault(instance, file)) is not file:
            if _same_pixels(first.path, path):
                yield Skipped(key, f"same SOPInstanceUID and pixels as {first.key}", file.stamp)
                continue
            lying.append(f"{key} and {first.key}")
        series.setdefault(_series_key(file), Series()).files.append(file)
    if lying:
        yield Note(
            f"{len(lying)} DICOM files have the SOPInstanceUID of another and other pixels, such as "
            f"{lying[0]}: all are read"
        )
    for one in series.values():
        one.files.sort(key=_order(one))
        yield one


def dot(a: Vector, b: Vector) -> float:
    """The scalar product."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def _series_key(file: DicomFile) -> tuple[str, ...]:
    """What the files of a series share: its UID and patient, whatever the UID says.

    Without a UID only slices of one patient that know their place make a stack, folder by folder; any
    other image is alone.
    """
    patient = file.attributes.get("patient_id", "")
    if file.uid:
        return file.uid, patient
    size = "x".join(map(str, file.size))
    return ("", patient, file.folder, size) if file.position else ("", patient, file.key)


def _same_pixels(first: Path, second: Path) -> bool:
    """Whether two files hold the same pixel data, whatever their headers say."""
    pydicom = need("pydicom", "dicom")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one, other = (pydicom.dcmread(path, force=True) for path in (first, second))
        return one.get("PixelData") == other.get("PixelData")
    except Exception:  # a damaged file is reported when it is read
        return False


class _NotAnImage(Exception):
    """Why a file is skipped."""


def _order(series: Series) -> Any:
    """By place along the stack; by InstanceNumber where there is none; then by name."""
    normal = series.normal

    def place(file: DicomFile) -> tuple[float, int, str]:
        along = dot(file.position, normal) if normal and file.position else 0.0
        return round(along, 3), file.number, file.key

    return place


def _read(path: Path, key: str) -> tuple[DicomFile, str]:
    """A file and its SOPInstanceUID. Raises _NotAnImage with the reason."""
    pydicom = need("pydicom", "dicom")
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    bare = not is_dicom(head) and is_bare_dicom(head)
    if not is_dicom(head) and not bare:
        raise _NotAnImage("not DICOM" if head else "empty file")
    tags = [*_TAGS, *IDENTITY_TAGS, *(word for words in ATTRIBUTES.values() for word in words)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=list(dict.fromkeys(tags)), force=bare
            )
            return _described(header, path, key), str(header.get("SOPInstanceUID") or "")
    except _NotAnImage:
        raise
    except Exception as error:  # damaged files raise anything
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise _NotAnImage(f"damaged: {reason}") from error


def _described(header: Any, path: Path, key: str) -> DicomFile:
    modality = str(header.get("Modality") or "")
    if modality in _NO_IMAGE or not header.get("Rows") or not header.get("Columns"):
        kind = modality or getattr(header.file_meta.get("MediaStorageSOPClassUID"), "name", "")
        raise _NotAnImage(f"DICOM without an image of a patient{f' ({kind})' if kind else ''}")
    if "LOCALIZER" in (header.get("ImageType") or ()):
        raise _NotAnImage("localizer")
    frames = max(1, int(number(header, "NumberOfFrames") or 1))
    if frames > path.stat().st_size:  # a frame takes a byte at least, however it is compressed
        raise _NotAnImage(f"damaged: it says that it holds {frames:,} frames")
    about = attributes(header)
    if tags := identity_tags(header):
        about["identity_tags"] = "|".join(tags)
    orientation = numbers(header, "ImageOrientationPatient", 6) or None
    return DicomFile(
        path=path,
        key=key,
        uid=str(header.get("SeriesInstanceUID") or ""),
        study=str(header.get("StudyInstanceUID") or ""),
        stamp=file_stamp(path),
        frames=frames,
        size=(int(header.Columns), int(header.Rows)),
        spacing=numbers(header, "PixelSpacing", 2) or None,
        number=int(number(header, "InstanceNumber") or 0),
        position=numbers(header, "ImagePositionPatient", 3) or None,
        across=orientation and orientation[:3],
        down=orientation and orientation[3:],
        b_value=number(header, "DiffusionBValue"),
        window=_linear_window(header),
        identities=identities(header),
        attributes=about,
    )


def _linear_window(header: Any) -> tuple[float, float] | None:
    """The window of a header that has no more than that to say about how it is shown."""
    curved = header.get("VOILUTSequence") or str(header.get("VOILUTFunction")).upper() == "SIGMOID"
    return None if curved else file_window(header)
