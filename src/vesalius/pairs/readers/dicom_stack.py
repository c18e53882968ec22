"""A DICOM series of single slices as a volume that knows its place in the patient."""

from typing import Any

import numpy as np

from vesalius.core.optional import need
from vesalius.images.dicom_pixels import slice_values
from vesalius.images.pixels import BadImage
from vesalius.pairs.readers.dicom_series import Series, dot

UNEVEN = 0.1  # of the distance between slices; a gap that is further off means a missing slice


def geometry(series: Series) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Spacing (mm), origin and direction of a stack as SimpleITK takes them. Raises BadImage."""
    first, normal = series.files[0], series.normal
    across, down, spacing = first.across, first.down, first.spacing
    places = [dot(file.position, normal) for file in series.files if normal and file.position]
    steps = np.diff(places)
    step = float(np.median(steps))
    if not (normal and across and down and spacing and first.position):
        raise BadImage(f"{series.description}: its place in the patient is not given")
    axes = np.array([across, down, normal])
    if not np.allclose(axes @ axes.T, np.eye(3), atol=1e-3) or min(spacing) <= 0:
        raise BadImage(f"{series.description}: damaged orientation or pixel spacing")
    if step <= 0:
        raise BadImage(f"{series.description}: several slices at one place")
    if np.abs(steps - step).max() > UNEVEN * step:
        raise BadImage(f"{series.description}: its slices are not evenly spaced: one is missing")
    return (spacing[1], spacing[0], step), first.position, tuple(axes.T.ravel().tolist())


def stack(series: Series) -> Any:
    """The rescaled values of a series as a SimpleITK image (float32) with its place in the patient.

    Raises BadImage where a file is damaged or the slices do not make a volume.
    """
    spacing, origin, direction = geometry(series)
    slices = [slice_values(file.path.read_bytes()) for file in series.files]
    if len({values.shape for values in slices}) > 1:
        raise BadImage(f"{series.description}: slices of different sizes")
    image = need("SimpleITK", "volumes").GetImageFromArray(np.stack(slices))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image
