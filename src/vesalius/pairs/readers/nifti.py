"""NIfTI volumes by nibabel: sheared, contradicting and missing orientations are read, and said."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.optional import need
from vesalius.images.pixels import BadImage

SUFFIXES = (".nii", ".nii.gz")
_AXES = "LPS"  # x to the patient's left, y to the back, z to the head
_SKEWED = 1e-3  # cosine between two axes
_DISAGREE = 0.05  # of a voxel's size, or in its direction


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a volume's voxels lie; all along left, back and head."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]  # mm
    notes: tuple[str, ...]  # what was assumed


def geometry(path: Path) -> Geometry:
    """Size, spacing and what had to be assumed, from the header alone. Raises BadImage."""
    image = _opened(path)
    turn = _to_axes(image)
    order = np.argsort(turn[:, 0])
    spacing = np.sqrt((image.affine[:3, :3] ** 2).sum(axis=0))
    size = tuple(int(image.shape[axis]) for axis in order)
    steps = tuple(float(spacing[axis]) for axis in order)
    return Geometry(size, steps, tuple(_assumed(image)))  # pyright: ignore[reportArgumentType]


def voxels(path: Path) -> tuple[np.ndarray, int]:
    """The scaled values (z, y, x), NaN where the file says so, and the bits of what is stored.

    z points to the head, y to the back, x to the patient's left. Raises BadImage.
    """
    nib = need("nibabel", "volumes")
    image = _opened(path)
    try:
        values = np.asanyarray(image.dataobj).reshape(image.shape[:3])
    except Exception as error:  # a stream that breaks off raises what it likes
        raise BadImage("damaged: its voxels cannot be read") from error
    turned = nib.orientations.apply_orientation(values, _to_axes(image))
    return turned.transpose(2, 1, 0), 8 * image.get_data_dtype().itemsize


def _opened(path: Path) -> Any:
    nib = need("nibabel", "volumes")
    try:
        image = nib.load(path, mmap=False)
        shape, kind = image.shape, image.get_data_dtype()
    except Exception as error:  # a header that is none raises what it likes
        raise BadImage("damaged, or not the format that its name says") from error
    if not isinstance(image, nib.Nifti1Image | nib.Nifti1Pair) or kind.kind not in "iuf":
        raise BadImage("colour or vector volume: only single 3-D volumes are read")
    if len(shape) < 3 or np.prod(shape[3:], dtype=np.float64) != 1:
        raise BadImage(f"{len(shape)}-D volume: only single 3-D volumes are read")
    if not np.isfinite(image.affine).all():
        raise BadImage("an orientation that is not numbers")
    return image


def _to_axes(image: Any) -> np.ndarray:
    """How the stored axes become left, back and head, as nibabel's orientations say it."""
    orientations = need("nibabel.orientations", "volumes")
    here = orientations.io_orientation(image.affine)
    if np.isnan(here).any():
        raise BadImage("an orientation in which two axes are one")
    return orientations.ornt_transform(here, orientations.axcodes2ornt(_AXES))


def _assumed(image: Any) -> list[str]:
    s_form, s_code = image.get_sform(coded=True)
    notes = []
    try:
        q_form, q_code = image.get_qform(coded=True)
    except ValueError:  # its quaternion is none
        q_form, q_code = s_form, s_code
        notes.append("its qform is no rotation: the sform is taken")
    if not q_code and not s_code:
        return [
            "it says nothing of its orientation: taken as Analyze files are stored (x to the left)"
        ]
    if q_code and s_code and _far(q_form, s_form):
        notes.append("its two orientations disagree: the sform is taken")
    axes = image.affine[:3, :3] / np.sqrt((image.affine[:3, :3] ** 2).sum(axis=0))
    cosines = np.abs(axes.T @ axes - np.eye(3))
    if cosines.max() > _SKEWED:
        notes.append("its axes are not at right angles: slices are shown as they are stored")
    return notes


def _far(first: np.ndarray, second: np.ndarray) -> bool:
    scale = np.sqrt((second[:3, :3] ** 2).sum(axis=0)).max()
    return bool(np.abs(first[:3, :3] - second[:3, :3]).max() > _DISAGREE * scale)
