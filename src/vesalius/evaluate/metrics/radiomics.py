"""Fréchet radiomics distance (Konz et al. 2026), by its authors' own library, as an option.

FRD is the Fréchet distance of hand-made texture and intensity features, which need no network that
was trained on photographs. It is computed by `frd-score`; that needs `pyradiomics`, whose release
on PyPI does not build on today's Pythons: both are installed by hand, and an error names what is missing.
"""

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.evaluate.sets import ComparedSet
from vesalius.images.image_set import ImageSet
from vesalius.images.pixels import open_rgb, square
from vesalius.statistics.figure import Figure, Measured, measured, missing

INSTALL = (
    "pip install frd-score, and pyradiomics from its repository: "
    "pip install git+https://github.com/AIM-Harvard/pyradiomics.git@master"
)
LEAST = 10  # images on each side


def measure(reference: str, real: ComparedSet, fake: ImageSet) -> Measured:
    """FRD in its place among the figures, or why there is none."""
    where = {"extractor": "radiomics", "reference": reference}
    if why := available():
        return missing("fidelity", "frd", why, **where)
    try:
        return measured("fidelity", frd(real.images, fake), **where)
    except VesaliusError as error:
        return missing("fidelity", "frd", str(error), **where)


def available() -> str | None:
    """Why FRD cannot be had here, in one line; None where it can."""
    for module in ("frd_score", "radiomics"):
        try:
            import_module(module)
        except Exception as error:  # a broken build of pyradiomics raises anything
            why = " ".join(str(error).split())[:80]
            return f"FRD needs {module} ({why}): {INSTALL}"
    return None


def frd(real: ImageSet, fake: ImageSet, *, side: int = 256, workers: int = 1) -> Figure:
    """FRD, version 1 of the library: the log of the distance, of grey images at side x side.

    The library takes files, so grey PNGs are written to a folder that goes afterwards. It gives one
    figure and no features, so there is no interval; for a floor, give it real images on both sides.
    Raises VesaliusError where the library is missing or fails.
    """
    n_real, n = len(real), len(fake)
    if min(n, n_real) < LEAST:
        note = f"needs {LEAST} images on each side, there are {n} and {n_real}: left out"
        return Figure("frd", None, n=n, n_real=n_real, note=note)
    if reason := available():
        raise VesaliusError(reason)
    library: Any = import_module("frd_score")
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / name for name in ("real", "fake")]
        for images, folder in zip((real, fake), folders, strict=True):
            folder.mkdir()
            for row in range(len(images)):
                picture = Image.fromarray(square(open_rgb(images.encoded(row)), side)).convert("L")
                picture.save(folder / f"{row:06d}.png")
        try:
            value = library.compute_frd([str(each) for each in folders], num_workers=workers)
        except (
            Exception
        ) as error:  # the library raises RuntimeError, ValueError and pyradiomics' own
            raise VesaliusError(
                f"frd-score failed: {' '.join(str(error).split())[:120]}"
            ) from error
    note = "no interval: the library gives no features"
    return Figure("frd", float(value), n=n, n_real=n_real, note=note)
