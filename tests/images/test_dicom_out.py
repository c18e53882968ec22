"""DICOM files that other tools accept, that say they are synthetic, and that name nobody."""

import io
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.images.encode import encode_image
from vesalius.images.provenance import read_provenance

pydicom = pytest.importorskip("pydicom")

rng = np.random.default_rng(0)
COLOUR = rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)  # odd: PixelData must be padded
GREY = rng.integers(0, 256, (33, 47), dtype=np.uint8)
DEEP = rng.integers(0, 65_536, (33, 47), dtype=np.uint16)
IMAGES = {"colour": COLOUR, "grey": GREY, "deep": DEEP}
ABOUT = {
    "synthetic": True,
    "prompt": "thorax \\ œdème pulmonaire → 肺水腫 AND effusion:0.5, " + "seen from afar " * 9,
    "seed": 5,
    "model": "mini",
    "model_hash": "0123456789abcdef",
    "adapters": "",
    "version": "0.1.0",
}


def encoded(pixels, about=ABOUT, **options):
    return encode_image(pixels, about, "dicom", **options)


def opened(pixels, about=ABOUT, **options):
    return pydicom.dcmread(io.BytesIO(encoded(pixels, about, **options)))


@pytest.mark.parametrize("kind", IMAGES)
def test_pixels_come_back_to_the_bit_from_pydicom_and_our_reader(kind):
    from vesalius.images.dicom_pixels import decode

    pixels = IMAGES[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pydicom warns of values that break the standard
        dataset = opened(pixels)
        assert np.array_equal(dataset.pixel_array, pixels)
    bits = 16 if kind == "deep" else 8
    assert np.array_equal(decode(encoded(pixels), bits=bits).array, pixels)  # by its own window


def test_colour_that_is_grey_but_for_rounding_becomes_grey():
    nearly = np.stack([GREY, GREY, np.minimum(GREY, 253) + 2], axis=2).astype(np.uint8)
    dataset = opened(nearly)
    assert (dataset.PhotometricInterpretation, dataset.SamplesPerPixel) == ("MONOCHROME2", 1)
    assert np.array_equal(dataset.pixel_array, np.rint(nearly.astype(float).mean(axis=2)))
    nearly[0, 0] = (100, 100, 103)
    assert opened(nearly).PhotometricInterpretation == "RGB"


def test_tags_say_that_it_is_synthetic():
    dataset = opened(GREY, number=7)
    assert dataset.SOPClassUID.name == "Secondary Capture Image Storage"
    assert dataset.SyntheticData == "YES"
    assert list(dataset.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert "Synthetic image, not for diagnosis" in dataset.DerivationDescription
    assert (dataset.ContentQualification, dataset.ConversionType) == ("RESEARCH", "SYN")
    assert dataset.BurnedInAnnotation == "NO"
    assert str(dataset.PatientName).startswith("SYNTHETIC")
    assert dataset.PatientID.startswith("SYNTHETIC-")
    assert (dataset.Manufacturer, dataset.SoftwareVersions) == ("vesalius", "0.1.0")
    assert dataset.InstanceNumber == 7
    assert dataset.SeriesDescription.startswith("thorax / œdème pulmonaire")
    assert len(dataset.SeriesDescription.encode()) <= 64
    changed = opened(GREY, {**ABOUT, "strength": 0.4})  # from an image that may be a patient's
    assert "drawn from another image" in changed.DerivationDescription


def test_nothing_names_anybody_or_tells_a_time():
    from vesalius.images.dicom_header import identity_tags

    dataset = opened(COLOUR)
    assert set(identity_tags(dataset)) <= {"PatientName", "PatientID"}  # SYNTHETIC, both
    times = [e.keyword for e in dataset if e.VR in ("DA", "TM", "DT") and e.value]
    assert not times


def test_images_of_a_set_are_one_study_and_of_a_prompt_one_series():
    def uids(pixels=GREY, about=ABOUT, **options):
        dataset = opened(pixels, about, **options)
        return dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID

    first, again = uids(study="a"), uids(study="a")
    assert first == again
    neighbour = uids(GREY[::-1], study="a")
    assert neighbour[:2] == first[:2]
    other_prompt = uids(about={**ABOUT, "prompt": "skull"}, study="a")
    assert other_prompt[0] == first[0]
    assert other_prompt[1] != first[1]
    other_set = uids(study="b")
    assert not set(other_set) & set(first)
    assert opened(GREY, study="a").PatientID != opened(GREY, study="b").PatientID
    every = {first[2], neighbour[2], other_prompt[2], uids(about={**ABOUT, "seed": 6})[2]}
    assert len(every) == 4
    for uid in {*first, *neighbour, *other_prompt, *other_set}:
        assert uid.startswith("2.25.")
        assert len(uid) <= 64
        assert pydicom.uid.UID(uid).is_valid


def test_modality_is_taken_over_only_where_dicom_knows_it():
    wanted = {"CT": "CT", "mr": "MR", "chest X-ray": "OT", "SEG": "OT", "": "OT"}
    for asked, given in wanted.items():
        assert opened(GREY, {**ABOUT, "modality": asked}).Modality == given


def test_without_pydicom_the_message_says_what_to_install(monkeypatch):
    content = encoded(GREY)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for attempt in (lambda: encoded(GREY), lambda: read_provenance(content)):
        with pytest.raises(VesaliusError, match=r"pip install 'vesalius\[dicom\]'"):
            attempt()


def test_dicom_that_says_nothing_of_its_making_is_told_from_broken_files():
    dataset = opened(GREY)
    for comment in (None, "", "reviewed twice", "[1]"):
        dataset.ImageComments = comment
        stream = io.BytesIO()
        dataset.save_as(stream)
        assert read_provenance(stream.getvalue()) == {}
    whole = encoded(GREY)
    for length in (140, 150, 700, len(whole) - 10):
        with pytest.raises(VesaliusError, match="this content cannot be read as an image: "):
            read_provenance(whole[:length])


@pytest.mark.skipif(not shutil.which("dcm2pnm"), reason="dcmtk is not installed")
@pytest.mark.parametrize("kind", IMAGES)
def test_dcmtk_reads_them_and_sees_the_same_pixels(tmp_path, kind):
    (tmp_path / "x.dcm").write_bytes(encoded(IMAGES[kind]))

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        assert not done.stderr
        return done.stdout

    assert run("dcmftest", "x.dcm").startswith(b"yes")
    assert b"SYNTHETIC" in run("dcmdump", "x.dcm")
    size = b"47 33"
    if kind == "deep":  # written as text
        lines = run("dcm2pnm", "--write-16-bit-pnm", "x.dcm").split(b"\n")
        lines = [line for line in lines if not line.startswith(b"#")]
        assert lines[:3] == [b"P2", size, b"65535"]
        seen = np.array(b" ".join(lines[3:]).split(), dtype=np.uint16)
    else:
        run("dcm2pnm", "x.dcm", "x.pnm")
        magic, *head, data = (tmp_path / "x.pnm").read_bytes().split(b"\n", 3)
        assert [magic, *head] == [{"colour": b"P6", "grey": b"P5"}[kind], size, b"255"]
        seen = np.frombuffer(data, np.uint8)
    assert np.array_equal(seen.reshape(IMAGES[kind].shape), IMAGES[kind])


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
@pytest.mark.parametrize("kind", IMAGES)
def test_the_validator_of_dicom3tools_finds_no_error(tmp_path, kind):
    path = tmp_path / "x.dcm"
    path.write_bytes(encoded(IMAGES[kind]))
    found = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
    told = [line for line in (found.stdout + found.stderr).splitlines() if "Error" in line]
    # SyntheticData came into the standard after the validators that Linux distributions ship
    assert not [line for line in told if "(0x0008,0x001c)" not in line]
