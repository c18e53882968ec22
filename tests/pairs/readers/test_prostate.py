import io
from pathlib import Path

import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.images.pixels import BadImage
from vesalius.pairs.readers.base import Found, Skipped
from vesalius.pairs.readers.prostate import read
from vesalius.pairs.settings import ReaderOptions

pydicom = pytest.importorskip("pydicom")
sitk = pytest.importorskip("SimpleITK")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid  # noqa: E402

REAL = Path(__file__).parents[4] / "shared" / "data" / "dicom"
TILT = np.deg2rad(15)  # prostate scans are tilted
ACROSS = np.array([1.0, 0, 0])
DOWN = np.array([0, np.cos(TILT), -np.sin(TILT)])
NORMAL = np.cross(ACROSS, DOWN)
BALL = np.array([6.0, -4, 9])  # mm: where every series sees a bright ball of radius 10 mm


def write_series(
    folder, name, spacing, shape, patient="P1", b_value=None, skip=(), offset=100, **tags
):
    """A series (slices, rows, columns) centred on the same point, with the ball inside."""
    folder = folder / name
    folder.mkdir(parents=True)
    uid = generate_uid()
    steps = [-(count - 1) / 2 for count in shape]
    rows, columns = (
        np.arange(count) + first for count, first in zip(shape[1:], steps[1:], strict=True)
    )
    for index in range(shape[0]):
        centre = NORMAL * spacing[2] * (index + steps[0])
        places = (
            centre
            + (rows * spacing[1])[:, None, None] * DOWN
            + (columns * spacing[0])[None, :, None] * ACROSS
        )
        inside = np.linalg.norm(places - BALL, axis=-1) < 10
        pixels = np.where(inside, 9 * offset, offset).astype(np.uint16)
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = MRImageStorage
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
        made.StudyInstanceUID, made.SeriesInstanceUID = "1.2", uid
        made.Modality, made.PatientID, made.SeriesDescription = "MR", patient, name
        made.Rows, made.Columns, made.SamplesPerPixel = *pixels.shape, 1
        made.PhotometricInterpretation = "MONOCHROME2"
        made.BitsAllocated = made.BitsStored = 16
        made.HighBit, made.PixelRepresentation = 15, 0
        made.PixelSpacing = [spacing[1], spacing[0]]
        made.ImageOrientationPatient = [*ACROSS, *DOWN]
        made.ImagePositionPatient = [float(f"{part:.6f}") for part in places[0, 0]]
        made.InstanceNumber = index
        if b_value is not None:
            made.add_new("DiffusionBValue", "FD", b_value)
        made.PixelData = pixels.tobytes()
        for keyword, value in tags.items():
            setattr(made, keyword, value)
        if index not in skip:
            stream = io.BytesIO()
            pydicom.dcmwrite(stream, made, enforce_file_format=True)
            (folder / f"{b_value or 0}-{index:03}.dcm").write_bytes(stream.getvalue())


def write_patient(folder, patient="P1", *, dwi=True):
    write_series(folder, "t2_tse_tra", (0.8, 0.8, 3.6), (15, 100, 100), patient)
    write_series(folder, "ep2d_diff_ADC", (2, 2, 3), (19, 50, 46), patient, offset=40)
    if dwi:
        write_series(folder, "ep2d_calc_BVAL", (2, 2, 3), (19, 50, 46), patient)


def items(folder, **options):
    return list(read(folder, ReaderOptions(**options)))


def centre_of_ball(channel):
    """Column and row, in mm from the image's centre."""
    rows, columns = np.nonzero(channel > 128)
    return (columns.mean() - 255.5) * 150 / 512, (rows.mean() - 255.5) * 150 / 512


def test_the_three_series_lie_on_one_another_where_the_patient_has_them(tmp_path):
    write_patient(tmp_path / "P1")
    found = {item.key: item.load().array for item in items(tmp_path)}
    largest = max(found, key=lambda key: (found[key][..., 0] > 128).sum())
    # 18 slices of 3 mm (15 of 3.6) stand in the middle of 30; the ball is BALL . NORMAL above it
    assert int(largest[-2:]) == pytest.approx(14.5 + BALL @ NORMAL / 3, abs=1)
    expected = BALL @ ACROSS, BALL @ DOWN
    for channel in range(3):
        centre = centre_of_ball(found[largest][..., channel])
        assert centre == pytest.approx(expected, abs=0.6)
        area = (found[largest][..., channel] > 128).sum() * (150 / 512) ** 2
        assert area == pytest.approx(np.pi * 10**2, rel=0.15)


def test_a_slice_is_rgb_of_512_pixels_and_says_what_its_channels_are(tmp_path):
    write_patient(tmp_path / "P1")
    (item,) = items(tmp_path, slices="middle")
    assert isinstance(item, Found)
    assert item.key == "P1#slice14" and item.group == "P1" and item.label is None
    assert item.attributes["channels"] == "T2W,ADC,DWI"
    assert item.attributes["slice"] == "15/30"
    assert item.attributes["series_description"] == "t2_tse_tra, ep2d_diff_ADC, ep2d_calc_BVAL"
    pixels = item.load().array
    assert pixels.shape == (512, 512, 3) and pixels.dtype == np.uint8
    # 80 mm of the 150 were scanned; the rest is black
    assert pixels[:, 110:].any() and not pixels[:, :110].any()


def test_only_slices_that_were_scanned_are_offered(tmp_path):
    write_patient(tmp_path / "P1")
    keys = [item.key for item in items(tmp_path)]
    assert keys == [f"P1#slice{index:02}" for index in range(6, 24)]


def test_without_diffusion_blue_is_black_and_said_to_be_missing(tmp_path):
    write_patient(tmp_path / "P1", dwi=False)
    (item,) = items(tmp_path, slices="middle")
    assert item.attributes["channels"] == "T2W,ADC,-"
    pixels = item.load().array
    assert pixels[..., 0].any() and pixels[..., 1].any() and not pixels[..., 2].any()


def test_of_a_diffusion_series_with_several_b_values_the_highest_is_taken(tmp_path):
    write_patient(tmp_path / "P1", dwi=False)
    write_series(tmp_path, "ep2d_diff_tra", (2, 2, 3), (19, 50, 46), b_value=1400)
    (item,) = items(tmp_path, slices="middle")
    assert item.attributes["channels"] == "T2W,ADC,DWI"
    low = tmp_path / "low"
    write_patient(low, dwi=False)
    write_series(low, "ep2d_diff_tra", (2, 2, 3), (19, 50, 46), b_value=50)
    (item,) = items(low, slices="middle")
    assert item.attributes["channels"] == "T2W,ADC,-"


def test_patients_that_lack_a_series_are_skipped_by_name(tmp_path):
    write_patient(tmp_path / "P1")
    write_series(tmp_path / "P2", "ep2d_diff_ADC", (2, 2, 3), (5, 60, 60), "P2")
    write_series(tmp_path / "P3", "t2_tse_tra", (2, 2, 3), (5, 60, 60), "P3")
    write_series(tmp_path / "P4", "localizer_cor", (2, 2, 3), (5, 60, 60), "P4")
    found = {item.key: item for item in items(tmp_path, slices="middle")}
    reasons = {key: item.reason for key, item in found.items() if isinstance(item, Skipped)}
    assert "no T2W series" in reasons["P2"]
    assert "no ADC series" in reasons["P3"]
    assert "no T2W and ADC series" in reasons["P4"]
    assert set(found) - set(reasons) == {"P1#slice14"}


def test_a_missing_slice_is_not_stretched_over(tmp_path):
    write_series(tmp_path, "t2_tse_tra", (0.8, 0.8, 3.6), (15, 80, 80), skip=(6,))
    write_series(tmp_path, "ADC", (2, 2, 3), (19, 60, 60))
    (item,) = items(tmp_path)
    assert isinstance(item, Skipped) and "not evenly spaced" in item.reason


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]}, "damaged orientation"),
        ({"PixelSpacing": [0, 0.8]}, "place in the patient is not given"),
        ({"PixelSpacing": [900, 900]}, "voxels of 0.5 x 0.5 x 3 mm"),
        ({"PixelSpacing": None}, "place in the patient is not given"),
        ({"ImagePositionPatient": [0, 0, 0]}, "several slices at one place"),
    ],
)
def test_a_scan_in_an_impossible_place_is_skipped(tmp_path, tags, reason):
    write_series(tmp_path, "t2_tse_tra", (0.8, 0.8, 3.6), (4, 40, 40), **tags)
    write_series(tmp_path, "ADC", (2, 2, 3), (4, 20, 20))
    (item,) = items(tmp_path)
    assert isinstance(item, Skipped) and reason in item.reason


def test_a_lesion_mask_decides_which_slice_is_taken(tmp_path):
    write_patient(tmp_path / "P1")
    mask = sitk.Image([60, 60, 60], sitk.sitkUInt8)
    mask.SetOrigin([-30, -30, -30])
    mask[33:37, 33:37, 20:22] = 1  # z from -10 to -9 mm
    sitk.WriteImage(mask, str(tmp_path / "P1" / "lesion.nii.gz"))
    (item,) = items(tmp_path)
    place = np.array([5, 5, -9.5]) @ NORMAL
    assert int(item.key[-2:]) == pytest.approx(14.5 + place / 3, abs=1)
    assert len(items(tmp_path, slices="middle:3")) == 3
    (tmp_path / "P1" / "lesion.nii.gz").write_bytes(b"x")
    (item,) = items(tmp_path)
    assert isinstance(item, Skipped) and "lesion.nii.gz is damaged" in item.reason


def test_damaged_pixels_fail_when_they_are_loaded(tmp_path):
    write_patient(tmp_path / "P1", dwi=False)
    victim = sorted((tmp_path / "P1" / "ep2d_diff_ADC").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:-50])
    (item,) = items(tmp_path, slices="middle")
    with pytest.raises(BadImage, match="damaged"):
        item.load()


def test_wrong_slices_are_told_before_the_folder_is_read(tmp_path):
    with pytest.raises(VesaliusError, match="slices 'few'"):
        items(tmp_path / "absent", slices="few")


@pytest.mark.skipif(not REAL.is_dir(), reason="shared/data, the real images, is not here")
def test_real_scans_are_prepared_and_aligned():
    found = items(REAL, slices="middle:3")
    images = [item for item in found if isinstance(item, Found)]
    assert {item.group for item in images} == {"ProstateX-0000"}
    assert [item.key for item in found if isinstance(item, Skipped)] == ["ProstateX-0001"]
    pixels = images[1].load().array.astype(float)
    # water is bright in both: shifting ADC off its place makes them agree less
    near = np.s_[100:400, 150:350]
    agreement = [
        np.corrcoef(pixels[*near, 0].ravel(), np.roll(pixels[..., 1], by, 1)[near].ravel())[0, 1]
        for by in (0, 60, -60)
    ]
    assert agreement[0] == max(agreement)
