"""The pixels of one DICOM image as it is meant to be looked at."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from vesalius.core.optional import need
from vesalius.images.dicom_frames import coded_size
from vesalius.images.dicom_header import attributes, identities, identity_tags
from vesalius.images.dicom_tags import broken_tags, number, numbers
from vesalius.images.pixels import (
    MOST_PIXELS,
    WINDOW_PRESETS,
    BadImage,
    Pixels,
    is_number,
    parse_window,
    show_range,
    to_range,
)

LARGEST_ASPECT = 20  # a pixel longer than that is a damaged header

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PREAMBLE = 128  # bytes before the letters DICM
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")  # what a file without a preamble starts with
_LONGEST_FIRST = 1024  # bytes of its first element


def is_dicom(data: bytes) -> bool:
    """Whether these are the first bytes (132 suffice) of a DICOM file with its preamble."""
    return data[_PREAMBLE : _PREAMBLE + 4] == b"DICM"


def is_bare_dicom(data: bytes) -> bool:
    """Whether they may be the first bytes of a DICOM data set written without preamble.

    The first element belongs to one of the first groups, and has a type that DICOM knows or a length
    that fits in a header.
    """
    if data[:2] not in _FIRST_GROUPS or len(data) < 12:
        return False
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    return explicit or int.from_bytes(data[4:8], "little") <= _LONGEST_FIRST


def decode(data: bytes, window: str = "auto", frame: int | None = None, bits: int = 8) -> Pixels:
    """One image of a DICOM file: (H, W) grey or (H, W, 3) RGB with square pixels.

    `window` says which rescaled values (Hounsfield units in CT) are shown: `auto` as the file says
    by its VOI LUT or its first window, and its 0.1 to 99.9 percentiles where it says nothing;
    `full` the whole range that it could store; else as `images.pixels.parse_window` says. Grey images
    of `bits` 16 come as uint16 over its full range; colour is always uint8. `frame` counts from 0.

    Raises BadImage with the reason, VesaliusError where pydicom is missing or `window` is wrong.
    """
    need("pydicom", "dicom")
    parse_window(window)
    return decode_dataset(parse(data), window, frame, bits)


def parse(data: bytes) -> Any:
    """The pydicom Dataset of a file's content. Raises BadImage."""
    pydicom = need("pydicom", "dicom")
    if not data:
        raise BadImage("empty file")
    if not is_dicom(data) and not is_bare_dicom(data):
        raise BadImage("not DICOM")
    with _told():
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = (
                pydicom.uid.ImplicitVRLittleEndian
                if dataset.original_encoding[0]
                else pydicom.uid.ExplicitVRLittleEndian
            )
    return dataset


def decode_dataset(dataset: Any, window: str, frame: int | None, bits: int = 8) -> Pixels:
    """As `decode`, of a pydicom Dataset, which is left as it was."""
    with _told():
        return _decode(dataset, window, frame, bits)


def slice_values(data: bytes) -> np.ndarray:
    """The rescaled values of a file with one grey image, float32 (H, W). Raises BadImage."""
    dataset = parse(data)
    with _told():
        stored, _ = stored_values(dataset, None)
        if stored.ndim != 2:
            raise BadImage("colour where grey values are needed")
        return _rescaled(dataset, stored)


def _rescaled(dataset: Any, stored: np.ndarray, frame: int = 0) -> np.ndarray:
    """Stored values through the modality LUT or the rescale slope and intercept; float32."""
    if dataset.get("ModalityLUTSequence"):
        lut = need("pydicom.pixels", "dicom").apply_modality_lut
        return lut(stored.astype(np.int32), dataset).astype(np.float32)
    macro = functional_group(dataset, frame, "PixelValueTransformationSequence")
    slope, intercept = (
        default if (value := number(macro, keyword)) is None else value
        for keyword, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    return (stored * np.float64(slope) + intercept).astype(np.float32)


def functional_group(dataset: Any, frame: int, sequence: str) -> Any:
    """Where a frame's attributes of one kind stand.

    Enhanced multi-frame objects keep them in functional groups, of the frame or shared by all;
    everything else keeps the same attributes in the data set itself.
    """
    for groups, index in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        items = dataset.get(groups) or []
        if index < len(items) and items[index].get(sequence):
            return items[index][sequence][0]
    return dataset


def stored_values(dataset: Any, frame: int | None) -> tuple[np.ndarray, int]:
    """The values as they are stored, (H, W) or (H, W, 3), and which frame they are of."""
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    frames = int(number(dataset, "NumberOfFrames") or 1)
    if not rows or not columns:
        raise BadImage("DICOM without an image")
    for width, height in ((columns, rows), coded_size(dataset) or (0, 0)):
        if width * height > MOST_PIXELS:
            raise BadImage(f"{width} x {height}: over {MOST_PIXELS // 10**6} M pixels")
    if frame is None and frames > 1:
        raise BadImage(f"{frames} frames: read the folder as DICOM")
    syntax = dataset.file_meta.TransferSyntaxUID
    pixels, index = need("pydicom.pixels", "dicom"), frame or 0
    if syntax.is_compressed and not pixels.get_decoder(syntax).is_available:
        raise BadImage(f"compressed as {syntax.name}: pip install 'vesalius[dicom]' to read it")
    data = next((d for d in map(dataset.get, _PIXELS) if d), b"")
    if not syntax.is_compressed and frames > 8 * len(data):
        raise BadImage(f"damaged: it says that it holds {frames:,} frames")
    stored, high = (int(dataset.get(keyword) or 0) for keyword in ("BitsStored", "HighBit"))
    if not syntax.is_compressed and 0 < stored <= high:  # as old files may; no decoder shifts them
        raise BadImage(f"its {stored} bits end at bit {high}: write it with HighBit {stored - 1}")
    try:
        values = pixels.pixel_array(dataset, index=index)
    except RuntimeError as error:
        values = _through_itk(dataset, index, syntax, error)
    return _without_unused_bits(values, dataset), index


def _without_unused_bits(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Stored values without what stands above BitsStored, such as an overlay (PS3.5, 8.1.1)."""
    unused = 8 * values.dtype.itemsize - int(dataset.get("BitsStored") or 0)
    if values.dtype.kind not in "iu" or not 0 < unused < 8 * values.dtype.itemsize:
        return values
    return (values << unused) >> unused  # keeps the sign of signed values


def _through_itk(dataset: Any, frame: int, syntax: Any, error: Exception) -> np.ndarray:
    """Compressed pixels that no installed plugin of pydicom decodes, by SimpleITK where it is there.

    Raises BadImage, which says what to install, where it is not or reads nothing either.
    """
    if not syntax.is_compressed:
        raise error
    try:
        import SimpleITK as sitk

        plain = copy(dataset)
        for keyword in ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"):
            if keyword in plain:
                del plain[keyword]
        with TemporaryDirectory() as folder:
            path = Path(folder) / "image.dcm"
            plain.save_as(path, enforce_file_format=True)
            read = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    except (ImportError, RuntimeError, AttributeError, OSError):
        raise BadImage(
            f"not supported by the installed decoders, or damaged: {syntax.name}; "
            "pip install pylibjpeg pylibjpeg-libjpeg reads more kinds, 12-bit JPEG for one"
        ) from error
    return read[min(frame, len(read) - 1)]


def _decode(dataset: Any, window: str, frame: int | None, bits: int) -> Pixels:
    stored, index = stored_values(dataset, frame)
    depth = int(dataset.get("BitsStored") or 8 * stored.dtype.itemsize)
    about, notes, known_by = attributes(dataset), broken_tags(dataset), identities(dataset)
    if tags := identity_tags(dataset):
        about["identity_tags"] = "|".join(tags)
    size = _square_size(dataset, index, stored.shape[:2], notes)
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR" or stored.ndim == 3:
        colour = _colour(dataset, stored, depth, photometric)
        notes += [f"{depth}-bit colour stored with 8 bits"] if depth > 8 else []
        return Pixels(_resized(colour, size), depth, about, tuple(notes), known_by)
    values, low, high, shown = _shown(dataset, stored, index, window)
    known = is_number(values)
    notes += [] if known.all() else ["pixels that are not numbers shown black"]
    grey = to_range(_resized(np.where(known, values, low), size), low, high, bits)
    if photometric == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        grey = np.iinfo(grey.dtype).max - grey
    return Pixels(grey, depth, {**about, "window": shown}, tuple(notes), known_by)


def _shown(
    dataset: Any, stored: np.ndarray, frame: int, window: str
) -> tuple[np.ndarray, float, float, str]:
    """Values, the two of them that become black and white, and what to call this window."""
    values = _rescaled(dataset, stored, frame)
    if window == "auto" and dataset.get("VOILUTSequence"):
        values, top = _voi_table(dataset, values)
        return values, 0.0, top, "VOI LUT"
    if window == "auto":
        voi = functional_group(dataset, frame, "FrameVOILUTSequence")
        if limits := file_window(voi):
            low, high = limits
            shown = f"{low:g}..{high:g}"
            if str(voi.get("VOILUTFunction", "")).upper() != "SIGMOID":
                return values, low, high, shown
            steepness = np.clip(-4 * (values - (low + high) / 2) / (high - low), -80, 80)
            return 1 / (1 + np.exp(steepness)), 0.0, 1.0, f"{shown} sigmoid"
        low, high = show_range(values[_not_padding(dataset, stored) & is_number(values)], "auto")
    elif window == "full":
        low, high = _storable(dataset, stored, frame)
    else:
        if window in WINDOW_PRESETS and (modality := dataset.get("Modality")) not in (
            None,
            "",
            "CT",
        ):
            raise BadImage(f"the window {window!r} is of Hounsfield units, and this is {modality}")
        low, high = show_range(values[is_number(values)], window)
    return values, low, high, f"{low:g}..{high:g}"


def file_window(voi: Any) -> tuple[float, float] | None:
    """The lowest and highest value of the first window, PS3.3 C.11.2.1.2; None where none holds.

    They are equal for a width of 1, which makes a threshold. Widths below that, which the linear
    function has no meaning for, are taken as LINEAR_EXACT does: programs with float pixels write them.

    The formula is pydicom's `apply_windowing`, whose answer is in stored values and of 64 bits: here
    the two ends are needed, for the record, for a whole series, and for the output's own depth.
    """
    centre, width = number(voi, "WindowCenter"), number(voi, "WindowWidth")
    if centre is None or width is None or width <= 0:
        return None
    if str(voi.get("VOILUTFunction") or "LINEAR").upper() == "LINEAR" and width >= 1:
        centre, width = centre - 0.5, width - 1
    return centre - width / 2, centre + width / 2


def _voi_table(dataset: Any, values: np.ndarray) -> tuple[np.ndarray, float]:
    """Values through the first VOI LUT, and the most that it can give."""
    entries, first, depth = (int(part) for part in dataset.VOILUTSequence[0].LUTDescriptor)
    inside = np.clip(np.rint(values), first, first + (entries or 2**16) - 1).astype(np.int32)
    table = need("pydicom.pixels", "dicom").apply_voi(inside, dataset)
    return table.astype(np.float32), float(2**depth - 1)


def _storable(dataset: Any, stored: np.ndarray, frame: int) -> tuple[float, float]:
    """The rescaled values of the least and the most that the image's bits can store."""
    if stored.dtype.kind == "f":
        return show_range(_rescaled(dataset, stored, frame), "full")
    depth = int(dataset.BitsStored)
    least = -(2 ** (depth - 1)) if stored.dtype.kind == "i" else 0
    ends = _rescaled(dataset, np.array([least, least + 2**depth - 1]), frame)
    return float(ends.min()), float(ends.max())


def _not_padding(dataset: Any, stored: np.ndarray) -> np.ndarray:
    """Where the image is no padding around what was scanned; everywhere if there is nothing else."""
    padding = _stored_number(dataset, "PixelPaddingValue", stored.dtype)
    if padding is None:
        return np.ones(stored.shape, bool)
    limit = _stored_number(dataset, "PixelPaddingRangeLimit", stored.dtype)
    limit = padding if limit is None else limit
    image = (stored < min(padding, limit)) | (stored > max(padding, limit))
    return image if image.any() else np.ones(stored.shape, bool)


def _stored_number(dataset: Any, keyword: str, kind: np.dtype) -> float | None:
    """A stored value as the pixels have it: PixelRepresentation decides whether it has a sign."""
    value = number(dataset, keyword)
    if value is None or kind.kind not in "iu":
        return value
    span = 2 ** (8 * kind.itemsize)
    value %= span
    return value - span if kind.kind == "i" and value >= span / 2 else value


def _colour(dataset: Any, stored: np.ndarray, depth: int, photometric: str) -> np.ndarray:
    """RGB uint8 (H, W, 3); pydicom has made RGB of YBR already."""
    if photometric == "PALETTE COLOR":
        stored = need("pydicom.pixels", "dicom").apply_color_lut(stored, dataset)[..., :3]
        depth = 16 if stored.max(initial=0) > 255 else 8
    if stored.shape[-1] != 3 or stored.dtype.kind != "u":
        raise BadImage(f"colour of type {photometric}, {stored.dtype} is not understood")
    return (stored >> max(0, depth - 8)).astype(np.uint8)


def _square_size(
    dataset: Any, frame: int, shape: tuple[int, ...], notes: list[str]
) -> tuple[int, int]:
    """Width and height with square pixels: the coarser side is enlarged, so that no detail goes."""
    measures = functional_group(dataset, frame, "PixelMeasuresSequence")
    down, across = (
        numbers(measures, "PixelSpacing", 2)
        or numbers(dataset, "ImagerPixelSpacing", 2)
        or numbers(dataset, "PixelAspectRatio", 2)
        or (1.0, 1.0)
    )
    ratio = down / across
    if not 1 / LARGEST_ASPECT <= ratio <= LARGEST_ASPECT:
        notes.append(f"pixels of {across:g} x {down:g} mm are taken for square")
        ratio = 1.0
    width, height = round(shape[1] * max(1, 1 / ratio)), round(shape[0] * max(1, ratio))
    if width * height > MOST_PIXELS:
        raise BadImage(f"{width} x {height}: over {MOST_PIXELS // 10**6} M pixels")
    return width, height


def _resized(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image (uint8 or float32) at a width and height, bicubic."""
    if array.shape[1::-1] == size:
        return array
    return np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BICUBIC))


@contextmanager
def _told() -> Iterator[None]:
    """Turn whatever a damaged file raises into a BadImage; pydicom's warnings are left out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BadImage:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise BadImage(f"damaged: {reason}") from error
