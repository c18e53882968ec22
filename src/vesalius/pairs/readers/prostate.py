"""Prostate MRI as the Textual Inversion paper prepares it (Medical diffusion on a budget, 2023).

T2W, ADC and high-b diffusion volumes on one grid of 3.0 x 0.5 x 0.5 mm, each min-max normalised,
the centre of 30 x 300 x 300 voxels, one slice's three volumes as red, green and blue, Lanczos to
512 x 512 pixels.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vesalius.core.optional import need
from vesalius.images.pixels import BadImage, Pixels, to_range
from vesalius.pairs.readers.base import Found, Item, Note, Skipped, file_stamp
from vesalius.pairs.readers.dicom_series import DicomFile, Series, list_series
from vesalius.pairs.readers.dicom_stack import geometry, stack
from vesalius.pairs.readers.latest import Latest
from vesalius.pairs.readers.slices import choose
from vesalius.pairs.settings import ReaderOptions

SPACING = (0.5, 0.5, 3.0)  # mm, along x, y and z of the T2W series
SHAPE = (30, 300, 300)  # voxels: slices, rows, columns
SIZE = 512  # pixels of the image that is made
LEAST_HIGH_B = 800  # s/mm2
MOST_VOXELS = 2**27  # of a T2W series once it is resampled
LESIONS = ("lesion.nii", "lesion.nii.gz")  # masks that may lie beside a patient's series

_ADC = re.compile(r"adc|apparent")
_T2 = re.compile(r"t2")
_CALCULATED = re.compile(r"calc|bval|high.?b")  # from low b-values, to a high one
_B_IN_NAME = re.compile(r"(?<![a-z])b[_=]?([0-9]{3,4})")
_DIFFUSION = re.compile(rf"dwi|diff|{_CALCULATED.pattern}|{_B_IN_NAME.pattern}")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Patient:
    name: str
    t2w: Series
    adc: Series
    dwi: Series | None
    lesion: Path | None

    @property
    def volumes(self) -> tuple[Series, ...]:
        return (self.t2w, self.adc, *([self.dwi] if self.dwi else []))

    @property
    def stamp(self) -> str:
        stamps = [file.stamp for series in self.volumes for file in series.files]
        stamps += [file_stamp(self.lesion)] if self.lesion else []
        return hashlib.sha1("|".join(stamps).encode()).hexdigest()


def read(source: Path, options: ReaderOptions) -> Iterator[Item]:
    """Slices of every patient below `source`, a folder of DICOM.

    The series are recognised by description or folder name (t2, adc; dwi, b1400, calculated
    b-value). Where `lesion.nii` or `lesion.nii.gz` lies in a folder of the patient's series or the
    one above, and `options.slices` is `all`, its slice of the largest area is taken, as in the
    paper; else `options.slices` of those that the T2W series fills. Keys are
    `PatientID#sliceNN`, NN from 0 to 29 in the cropped volume; attribute `channels` is
    "T2W,ADC,DWI", or "T2W,ADC,-" where blue is black for want of a diffusion series. Patients
    without T2W or ADC are skipped.

    Raises VesaliusError where pydicom or SimpleITK is missing or the slices are wrong.
    """
    need("pydicom", "dicom")
    need("SimpleITK", "volumes")
    choose(options.slices, 0)
    patients: dict[str, list[Series]] = {}
    for item in list_series(source, (*options.exclude, *LESIONS)):
        if isinstance(item, Skipped | Note):
            yield item
        else:
            patients.setdefault(item.patient or item.files[0].folder, []).append(item)
    volumes = Latest(_volumes)
    for name, series in patients.items():
        try:
            yield from _slices(_recognise(name, series, source), options, volumes)
        except BadImage as error:
            yield Skipped(name, str(error))


def _slices(
    patient: _Patient, options: ReaderOptions, volumes: Latest[_Patient, np.ndarray]
) -> Iterator[Found]:
    grid = _grid(patient.t2w)
    depth = grid.GetSize()[2]
    shift = (SHAPE[0] - depth) // 2  # from a slice of the grid to the same one of the crop
    inside = [index + shift for index in range(depth) if 0 <= index + shift < SHAPE[0]]
    chosen = [inside[index] for index in choose(options.slices, len(inside))]
    if patient.lesion and options.slices == "all":
        chosen = [_largest_area(patient.lesion, grid) + shift]
    if not chosen or chosen[0] not in inside:
        raise BadImage("no slice: none is asked for, or the lesion lies outside of the crop")
    about = {
        **patient.t2w.files[0].attributes,
        "series_description": ", ".join(
            series.files[0].attributes.get("series_description", series.description)
            for series in patient.volumes
        ),
        "channels": "T2W,ADC,DWI" if patient.dwi else "T2W,ADC,-",
    }
    for index in chosen:
        yield Found(
            key=f"{patient.name}#slice{index:02d}",
            load=partial(_show, volumes, patient, index),
            stamp=patient.stamp,
            group=patient.name,
            attributes={**about, "slice": f"{index + 1}/{SHAPE[0]}"},
        )


def _recognise(name: str, series: Sequence[Series], source: Path) -> _Patient:
    """The series of a patient. Raises BadImage where T2W or ADC is missing."""
    stacks = [one for one in map(_highest_b, series) if len(one.files) > 1 and one.normal]
    stacks.sort(key=lambda one: (not _axial(one), -len(one.files), one.files[0].key))
    names = [(one, one.description.lower()) for one in stacks]
    adc = next((one for one, text in names if _ADC.search(text)), None)
    rest = [(one, text) for one, text in names if not _ADC.search(text)]
    t2w = next((one for one, text in rest if _T2.search(text)), None)
    diffusion = [one for one, text in rest if one is not t2w and _DIFFUSION.search(text)]
    dwi = max(diffusion, key=_high_b, default=None)
    if t2w is None or adc is None:
        missing = " and ".join(what for what, one in (("T2W", t2w), ("ADC", adc)) if one is None)
        raise BadImage(f"no {missing} series of single slices with their positions")
    if dwi and _high_b(dwi) < LEAST_HIGH_B:
        dwi = None
    return _Patient(name, t2w, adc, dwi, _lesion(t2w.files[0], source))


def _highest_b(series: Series) -> Series:
    """Of a diffusion series with several b-values, the files of the highest."""
    highest = _b_value(series)
    return Series([file for file in series.files if (file.b_value or 0) == highest])


def _b_value(series: Series) -> float:
    return max(file.b_value or 0 for file in series.files)


def _high_b(series: Series) -> float:
    """A diffusion series' b-value by its tags or name, s/mm2; infinite for a calculated one."""
    name = series.description.lower()
    if _CALCULATED.search(name):
        return math.inf
    return max(_b_value(series), *map(float, _B_IN_NAME.findall(name)), 0.0)


def _axial(series: Series) -> bool:
    return series.normal is not None and abs(series.normal[2]) > 0.7


def _lesion(file: DicomFile, source: Path) -> Path | None:
    """A lesion mask in the folder of a series, or in the one above where that is in the source."""
    folders = [folder for folder in file.path.parents[:2] if folder.is_relative_to(source)]
    masks = [folder / name for folder in folders for name in LESIONS]
    return next((mask for mask in masks if mask.is_file()), None)


def _grid(t2w: Series) -> Any:
    """An empty SimpleITK image with voxels of `SPACING` over what the T2W series covers."""
    spacing, origin, direction = geometry(t2w)
    shape = (*t2w.files[0].size, len(t2w.files))
    size = [
        max(1, round(count * old / new))
        for count, old, new in zip(shape, spacing, SPACING, strict=True)
    ]
    if math.prod(size) > MOST_VOXELS:
        raise BadImage(f"a T2W series of {' x '.join(map(str, size))} voxels of 0.5 x 0.5 x 3 mm")
    grid = need("SimpleITK", "volumes").Image(size, 1)
    # the outer faces of both grids fall together, not the centres of their first voxels
    shift = (np.array(SPACING) - spacing) / 2
    grid.SetSpacing(SPACING)
    grid.SetDirection(direction)
    grid.SetOrigin((np.array(origin) + np.reshape(direction, (3, 3)) @ shift).tolist())
    return grid


def _largest_area(mask: Path, grid: Any) -> int:
    """The slice of the grid that holds most of a lesion mask. Raises BadImage."""
    sitk = need("SimpleITK", "volumes")
    try:
        lesion = sitk.ReadImage(str(mask))
        lesion = sitk.Resample(lesion, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0)
    except RuntimeError as error:  # all that ITK raises
        raise BadImage(f"{mask.name} is damaged") from error
    areas = (sitk.GetArrayViewFromImage(lesion) > 0).sum(axis=(1, 2))
    if not areas.any():
        raise BadImage(f"{mask.name} holds no lesion where the T2W series is")
    return int(areas.argmax())


def _volumes(patient: _Patient) -> np.ndarray:
    """Uint8 (30, 300, 300, 3): T2W, ADC and DWI on one grid; DWI 0 where there is none."""
    sitk = need("SimpleITK", "volumes")
    grid = _grid(patient.t2w)
    rgb = np.zeros((*SHAPE, 3), np.uint8)
    for channel, series in enumerate(patient.volumes):
        scan = stack(series)
        before = sitk.GetArrayViewFromImage(scan)
        least, most = float(before.min()), float(before.max())
        scan = sitk.Resample(scan, grid, sitk.Transform(), sitk.sitkBSpline, least)
        # splines swing past steep edges: without this, an ADC of 0 would become a dark grey
        values = sitk.GetArrayFromImage(scan).clip(least, most)
        rgb[..., channel] = _centre(to_range(values, float(values.min()), float(values.max())))
    return rgb


def _centre(array: np.ndarray) -> np.ndarray:
    """The centre of `SHAPE`, cut out or padded with zeros."""
    out = np.zeros(SHAPE, array.dtype)
    source, target = [], []
    for have, want in zip(array.shape, SHAPE, strict=True):
        shift = (want - have) // 2
        start, stop = max(0, shift), min(want, have + shift)
        target.append(slice(start, stop))
        source.append(slice(start - shift, stop - shift))
    out[tuple(target)] = array[tuple(source)]
    return out


def _show(volumes: Latest[_Patient, np.ndarray], patient: _Patient, index: int) -> Pixels:
    image = Image.fromarray(volumes.get(patient)[index])
    shown = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    return Pixels(shown, identities=patient.t2w.files[0].identities)
