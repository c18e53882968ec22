"""NIfTI as scanners and their converters write it; SimpleITK is the independent reader."""

import struct

import numpy as np
import pytest

from vesalius.images.pixels import BadImage
from vesalius.pairs.readers import nifti
from vesalius.pairs.readers.base import Found, Note
from vesalius.pairs.readers.volumes import read
from vesalius.pairs.settings import ReaderOptions

nib = pytest.importorskip("nibabel")
sitk = pytest.importorskip("SimpleITK")

RAMP = (10 * np.arange(24)[:, None, None] + 2 * np.arange(20)[:, None] + 30 * np.arange(18)).astype(
    np.int16
)


def write(path, values=RAMP, affine=None, qform=None, codes=(1, 1), kind=nib.Nifti1Image):
    affine = np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine
    image = kind(values, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine if qform is None else qform, codes[1])
    nib.save(image, path)
    return path


def turned(degrees):
    a, b = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[a, -b, 0, 0], [b, a, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("degrees", [0, 20, 90, 170])
def test_values_and_places_are_those_of_another_reader(tmp_path, name, degrees):
    path = write(tmp_path / name, affine=turned(degrees))
    theirs = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    ours, bits = nifti.voxels(path)
    assert bits == 16
    assert (ours == sitk.GetArrayFromImage(theirs)).all()
    found = nifti.geometry(path)
    assert found.notes == ()
    assert (found.size, found.spacing) == (theirs.GetSize(), pytest.approx(theirs.GetSpacing()))


def test_scaled_values_are_scaled(tmp_path):
    image = nib.Nifti1Image(RAMP, np.eye(4))
    image.header.set_slope_inter(0.5, -100)
    nib.save(image, tmp_path / "v.nii")
    theirs = sitk.GetArrayFromImage(
        sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "v.nii")), "LPS")
    )
    assert np.allclose(nifti.voxels(tmp_path / "v.nii")[0], theirs, atol=1e-3)


def test_skewed_axes_are_read_and_said(tmp_path):
    skewed = np.diag([1.0, 1.0, 2.0, 1.0])
    skewed[0, 1], skewed[1, 2] = 0.05, 0.06
    path = write(tmp_path / "v.nii.gz", affine=skewed, codes=(1, 0))
    with pytest.raises(RuntimeError):  # SimpleITK reads no such file
        sitk.ReadImage(str(path))
    values, _ = nifti.voxels(path)
    assert sorted(values.ravel()) == sorted(RAMP.ravel())
    note, *found = read(tmp_path, ReaderOptions())
    assert isinstance(note, Note)
    assert "not at right angles" in note.message
    assert len(found) == 18
    assert all(isinstance(item, Found) and item.load().array.size for item in found)


def test_orientations_that_disagree_or_are_missing_are_said(tmp_path):
    both = write(tmp_path / "both.nii", qform=turned(90))
    assert "disagree" in nifti.geometry(both).notes[0]
    none = write(tmp_path / "none.nii", codes=(0, 0))
    assert "nothing of its orientation" in nifti.geometry(none).notes[0]
    one = write(tmp_path / "one.nii", codes=(0, 1))
    assert nifti.geometry(one).notes == ()


def test_what_is_not_a_number_is_the_low_end_of_the_window(tmp_path):
    values = np.random.default_rng(0).uniform(-1000, 1000, (24, 20, 18)).astype(np.float32)
    values[:6] = np.nan
    write(tmp_path / "v.nii.gz", values)
    assert np.isnan(nifti.voxels(tmp_path / "v.nii.gz")[0]).sum() == 6 * 20 * 18
    for item in read(tmp_path, ReaderOptions(slices="middle")):
        shown = item.load().array
        assert not shown[:, -6:].any()  # x to the left: the first columns of RAS are the last
        assert 100 < np.median(shown[:, :-6]) < 160


def test_a_fourth_axis_of_one_is_legal(tmp_path):
    write(tmp_path / "v.nii.gz", RAMP[..., None])
    assert nifti.voxels(tmp_path / "v.nii.gz")[0].shape == (18, 20, 24)


@pytest.mark.parametrize(
    ("write_it", "reason"),
    [
        (lambda path: write(path, np.zeros((9, 9, 9, 5), np.int16)), "4-D volume"),
        (lambda path: write(path, np.zeros((9, 9, 9), np.complex64)), "colour or vector"),
        (lambda path: path.write_bytes(b"no nifti"), "damaged"),
        (lambda path: path.write_bytes(write(path).read_bytes()[:900]), "damaged"),
    ],
)
def test_what_is_no_volume_of_grey_values_says_why(tmp_path, write_it, reason):
    path = tmp_path / "v.nii"
    write_it(path)
    with pytest.raises(BadImage, match=reason):
        nifti.geometry(path)
        nifti.voxels(path)


def test_a_quaternion_that_is_none_is_told_and_the_sform_taken(tmp_path):
    path = write(tmp_path / "x.nii")
    data = bytearray(path.read_bytes())
    data[256:268] = struct.pack("<3f", 1e30, 0, 0)
    path.write_bytes(data)
    found = nifti.geometry(path)
    assert "its qform is no rotation: the sform is taken" in found.notes
    assert np.array_equal(nifti.voxels(path)[0], nifti.voxels(write(tmp_path / "y.nii"))[0])
