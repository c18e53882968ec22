"""DICOM Secondary Capture (PS3.3 A.8.1): one synthetic image a file, and no patient in it.

The tags say that the image is synthetic; the patient is a name for the set. Identifiers are hashes
of the content under the root 2.25 (PS3.5 B.2), and no date is written: the same image gives the same
bytes, another image another identifier.
"""

import hashlib
import io
import json
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from vesalius.core.optional import need
from vesalius.errors import VesaliusError
from vesalius.images.dicom_kept import Kept, StoredGrey
from vesalius.images.provenance import statement

# Kinds of images that `modality` in a provenance may name (PS3.3 C.7.3.1.1.1); all else is OT.
_KINDS = "CR CT DG DX ES GM IO IVOCT MG MR NM OCT OP OPT PT PX RF SM TG US XA XC"
MODALITIES = frozenset(_KINDS.split(" "))

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_GREY_WITHIN = 2  # levels that the channels of a grey image may differ by
_MOST_COMMENT = 10_240  # characters of an LT
_MOST_WORDS = 64  # characters of an LO; bytes to some checkers
_REQUIRED_EMPTY = (
    *("PatientBirthDate", "PatientSex", "PatientOrientation", "Laterality", "SeriesNumber"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "vesalius: synthetic images")


def encode_dicom(
    pixels: np.ndarray,
    provenance: Mapping[str, Any],
    *,
    study: str = "",
    number: int | None = None,
    window: tuple[float, float] | None = None,
    kept: Kept | None = None,
) -> bytes:
    """`pixels`, uint8 (H, W, 3) or (H, W) or uint16 (H, W), as the content of a DICOM file.

    Written as they are, uncompressed; colour whose channels nowhere differ by more than 2 levels
    becomes grey, their mean. Images of one `study` and model share a patient and a study, and those
    of one prompt a series; `number` is the InstanceNumber and `window` the grey values that are shown
    black and white, all by default. `kept` is what an edited file keeps: grey then is stored as in that
    file. `modality` in `provenance` is taken over where it is one of
    `MODALITIES`.

    Raises VesaliusError where pydicom is missing, or `provenance` is longer than a tag holds.
    """
    pydicom = need("pydicom", "dicom")
    comments = json.dumps(provenance, ensure_ascii=False)
    if len(comments) > _MOST_COMMENT:
        raise VesaliusError(
            f"the provenance takes {len(comments):,} characters, and DICOM holds {_MOST_COMMENT:,}:"
            " choose png"
        )
    pixels = _grey(pixels)
    prompt = str(provenance.get("prompt", ""))
    of_study = [study, *(provenance.get(key) for key in ("model", "model_hash", "adapters"))]
    of_series = [*of_study, prompt, _modality(provenance)]
    of_image = [*of_series, number, comments, str(pixels.dtype), pixels.shape]

    dataset = pydicom.Dataset()
    dataset.file_meta = _file_meta(pydicom, _uid(of_image, pixels.tobytes()))
    dataset.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    dataset.SOPClassUID = _SECONDARY_CAPTURE
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    _say_synthetic(dataset, provenance)
    dataset.PatientName = "SYNTHETIC^VESALIUS"
    dataset.PatientID = f"SYNTHETIC-{_digest(of_study)[:16]}"
    dataset.StudyInstanceUID = _uid(of_study)
    dataset.SeriesInstanceUID = _uid(of_series)
    dataset.SeriesDescription = _words(prompt)
    dataset.Modality = of_series[-1]
    dataset.InstanceNumber = number
    dataset.ImageComments = comments
    for keyword in _REQUIRED_EMPTY:
        setattr(dataset, keyword, None)
    _add_pixels(dataset, pixels, window, kept or Kept())
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(H, W) where all channels say the same; else as it is."""
    if pixels.ndim == 2:
        return pixels
    apart = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
    if apart.max(initial=0) > _GREY_WITHIN:
        return pixels
    return ((pixels.sum(axis=2, dtype=np.uint16) + 1) // 3).astype(np.uint8)  # their mean, rounded


def _file_meta(pydicom: Any, instance: str) -> Any:
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = _SECONDARY_CAPTURE
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    # pydicom would write its own, version included
    meta.ImplementationClassUID = _uid(["implementation"])
    meta.ImplementationVersionName = "VESALIUS"
    return meta


def _say_synthetic(dataset: Any, provenance: Mapping[str, Any]) -> None:
    version = str(provenance.get("version", ""))
    model = f"{provenance.get('model', '')} {provenance.get('model_hash', '')}"
    dataset.SyntheticData = "YES"
    dataset.ImageType = ["DERIVED", "SECONDARY", "SYNTHETIC"]
    dataset.ConversionType = "SYN"  # synthetic image
    dataset.DerivationDescription = f"{statement(provenance)}: made by vesalius {version}".strip()
    dataset.ContentQualification = "RESEARCH"
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.Manufacturer = "vesalius"
    dataset.ManufacturerModelName = _words(model)
    dataset.SoftwareVersions = _words(version)


def _add_pixels(
    dataset: Any, pixels: np.ndarray, window: tuple[float, float] | None, kept: Kept
) -> None:
    bits, plain = 8 * pixels.dtype.itemsize, pixels.ndim == 2
    stored = kept.grey if plain else None
    dataset.SamplesPerPixel = 1 if plain else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if plain else "RGB"
    if plain:  # viewers would else stretch the values that happen to occur
        dataset.WindowCenter, dataset.WindowWidth = _shown(window, 2**bits - 1, stored)
    else:
        dataset.PlanarConfiguration = 0  # RGBRGB...
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = bits
    dataset.BitsStored = stored.bits if stored else bits
    dataset.HighBit = dataset.BitsStored - 1
    if stored:
        pixels = stored.values(pixels)
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in kept.tags.items():
        setattr(dataset, keyword, value)
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.add_new("PixelData", "OW" if bits == 16 else "OB", data + b"\0" * (len(data) % 2))


def _shown(
    window: tuple[float, float] | None, top: int, stored: StoredGrey | None
) -> tuple[str, str]:
    """Centre and width of the grey values from black to white, of 0 to `top`, as they are stored."""
    ends = window or (0, top)
    if stored:
        ends = sorted(stored.units(end, top) for end in ends)
    low, high = map(round, ends)
    return f"{(low + high + 1) / 2:.12g}", str(high - low + 1)


def _modality(provenance: Mapping[str, Any]) -> str:
    asked = str(provenance.get("modality", "")).upper()
    return asked if asked in MODALITIES else "OT"


def _words(text: str) -> str:
    """`text` as a long string (LO): cut to its length, no separator of values and no controls."""
    plain = "".join(c if c.isprintable() else " " for c in text.replace("\\", "/"))
    plain = " ".join(plain.split()).encode()
    if len(plain) > _MOST_WORDS:
        plain = plain[: _MOST_WORDS - 3] + b"..."
    return plain.decode(errors="ignore")  # the cut may go through a letter


def _digest(about: list[Any], content: bytes = b"") -> str:
    return hashlib.sha256(json.dumps(about).encode() + b"\0" + content).hexdigest()


def _uid(about: list[Any], content: bytes = b"") -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, _digest(about, content)).int}"
