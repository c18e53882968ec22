import io
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.images.dicom_header import identity_tags
from vesalius.images.dicom_pixels import decode, is_dicom
from vesalius.images.pixels import BadImage, Pixels
from vesalius.pairs.readers import sources
from vesalius.pairs.readers.base import Found, Note, Skipped
from vesalius.pairs.readers.dicom import read
from vesalius.pairs.settings import ReaderOptions

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import apply_modality_lut, apply_voi_lut  # noqa: E402
from pydicom.uid import (  # noqa: E402
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    generate_uid,
)

RAMP = np.arange(32 * 24, dtype=np.uint16).reshape(32, 24) * 5  # 0 to 3835: 12 bits


def dataset(pixels=RAMP, bits=12, **tags):
    """A DICOM data set of (frames,) rows, columns(, 3); int16 is stored as signed."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = CTImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    made.Modality, made.PatientID, made.PatientName = "CT", "case-7", "Doe^Jane"
    colour = pixels.ndim >= 3 and pixels.shape[-1] == 3
    frames = pixels.ndim - colour > 2
    if frames:
        made.NumberOfFrames = len(pixels)
    made.Rows, made.Columns = pixels.shape[1:3] if frames else pixels.shape[:2]
    made.SamplesPerPixel = 3 if colour else 1
    made.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        made.PlanarConfiguration = 0
    made.BitsAllocated = 8 * pixels.dtype.itemsize
    made.BitsStored = min(bits, made.BitsAllocated)
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


def written(made):
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    return stream.getvalue()


def image(*args, **tags):
    return decode(written(dataset(*args, **tags))).array


def lut(data, first, depth):
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(data), first, depth], data
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "US"
    return item


def write_series(folder, count=5, **tags):
    """Axial slices 3 mm apart, their files named against the order of their places."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        made = dataset(
            InstanceNumber=count - index,
            ImagePositionPatient=[0, 0, 3 * index],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1, 1],
            SeriesInstanceUID=f"1.2.{zlib.crc32(str(folder).encode())}",
        )
        for keyword, value in tags.items():
            setattr(made, keyword, value)
        (folder / f"{count - index:03}.dcm").write_bytes(written(made))


# Windows


@pytest.mark.filterwarnings("ignore:overflow")  # of pydicom's own sigmoid
@settings(max_examples=40, deadline=None)
@given(
    centre=st.integers(-500, 2500),
    width=st.integers(2, 4000),
    function=st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    signed=st.booleans(),
    slope=st.sampled_from([None, 1, 0.5, 2.25]),
)
def test_windows_of_the_file_are_applied_as_pydicom_applies_them(
    centre, width, function, signed, slope
):
    pixels = RAMP.astype(np.int16) - 2000 if signed else RAMP
    made = dataset(pixels, WindowCenter=centre, WindowWidth=width)
    if function:
        made.VOILUTFunction = function
    if slope:
        made.RescaleSlope, made.RescaleIntercept = slope, -100
    values = apply_voi_lut(apply_modality_lut(pixels, made), made).astype(np.float64)
    ends = np.array([0, 4095]) - 2048 * signed
    low, high = apply_modality_lut(ends, made).astype(np.float64)
    expected = np.clip(255 * (values - low) / (high - low), 0, 255)
    assert np.abs(decode(written(made)).array - expected).max() <= 0.51


def test_a_voi_table_is_applied_as_pydicom_applies_it():
    table = (np.sqrt(np.linspace(0, 1, 2000)) * 1023).astype(int).tolist()
    made = dataset(VOILUTSequence=[lut(table, 500, 10)], WindowCenter=10, WindowWidth=20)
    expected = apply_voi_lut(RAMP, made) / 1023 * 255
    pixels = decode(written(made))
    assert np.abs(pixels.array - expected).max() <= 0.51
    assert pixels.attributes["window"] == "VOI LUT"


def test_a_modality_table_is_applied_before_the_window():
    made = dataset(RAMP // 20, ModalityLUTSequence=[lut([3 * i for i in range(200)], 0, 16)])
    made.WindowCenter, made.WindowWidth = 300, 601
    expected = np.clip((RAMP // 20) * 3, 0, 597) / 600 * 255
    assert np.abs(decode(written(made)).array - expected).max() <= 1


def test_presets_and_ranges_are_hounsfield_units_whatever_the_file_stores():
    stored = np.full((32, 32), 1024, np.uint16)
    stored[0], stored[1] = 1024 + 40, 1024 + 80
    made = dataset(stored, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=1, WindowWidth=2)
    brain = decode(written(made), "brain")  # 0..80
    assert [brain.array[row, 0] for row in (0, 1, 2)] == [128, 255, 0]
    assert brain.attributes["window"] == "0..80"
    assert decode(written(made), "-40..120").array[2, 0] == 64


def test_full_shows_what_the_bits_can_store():
    assert np.array_equal(
        decode(written(dataset(WindowCenter=9, WindowWidth=3)), "full").array,
        np.rint(RAMP / 4095 * 255),
    )


@pytest.mark.parametrize("width", [0, -5, None])
def test_a_useless_window_in_the_file_gives_way_to_the_percentiles(width):
    tags = {} if width is None else {"WindowCenter": 100, "WindowWidth": width}
    shown = image(**tags)
    assert shown.min() == 0 and shown.max() == 255
    assert np.unique(shown).size > 200


def test_the_first_of_several_windows_is_taken():
    several = image(WindowCenter=[1000, 40], WindowWidth=[500, 80])
    assert np.array_equal(several, image(WindowCenter=1000, WindowWidth=500))


def test_padding_around_a_scan_does_not_decide_how_bright_it_is():
    pixels = RAMP.astype(np.int16) % 100
    pixels[:16] = -2000
    seen = decode(written(dataset(pixels, 16, PixelPaddingValue=-2000))).array
    assert np.ptp(seen[16:]) == 255
    assert np.ptp(decode(written(dataset(pixels, 16))).array[16:]) < 30


def test_sixteen_bits_keep_every_grey_value():
    pixels = decode(written(dataset()), "full", bits=16)
    assert pixels.array.dtype == np.uint16 and pixels.bits == 12
    assert np.unique(pixels.array).size == RAMP.size


def test_an_unknown_window_is_told_before_any_file_is_blamed():
    with pytest.raises(VesaliusError, match="window 'lungs'"):
        decode(b"", "lungs")


# Photometry and geometry


def test_monochrome1_is_shown_as_its_positive_and_inverted_once():
    plain = image()
    for tags in (
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        {"PresentationLUTShape": "INVERSE"},
    ):
        assert np.array_equal(image(**tags), 255 - plain)


def test_bits_beyond_those_stored_do_not_show():
    assert np.array_equal(image(RAMP | 0xF000), image(RAMP))


def test_rgb_comes_as_it_is_in_either_planar_configuration():
    colour = np.random.default_rng(0).integers(0, 256, (32, 24, 3), np.uint8)
    assert np.array_equal(image(colour, 8), colour)
    planes = dataset(colour, 8, PlanarConfiguration=1)
    planes.PixelData = colour.transpose(2, 0, 1).tobytes()
    assert np.array_equal(decode(written(planes)).array, colour)


def test_ybr_becomes_rgb():
    colour = np.zeros((32, 24, 3), np.uint8)
    colour[:16], colour[16:] = (200, 30, 60), (10, 180, 90)
    ybr = np.asarray(Image.fromarray(colour).convert("YCbCr"))
    shown = image(ybr, 8, PhotometricInterpretation="YBR_FULL").astype(int)
    assert np.abs(shown - colour).max() <= 2


def test_a_palette_gives_its_colours():
    index = (np.arange(32 * 24).reshape(32, 24) % 256).astype(np.uint8)
    made = dataset(index, 8, PhotometricInterpretation="PALETTE COLOR")
    palette = np.random.default_rng(1).integers(0, 256, (256, 3))
    for channel, name in enumerate(("Red", "Green", "Blue")):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        made[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
        data = (palette[:, channel] * 257).astype("<u2").tobytes()
        setattr(made, f"{name}PaletteColorLookupTableData", data)
    assert np.array_equal(decode(written(made)).array, palette[index])


def test_jpeg_in_dicom_shows_what_the_jpeg_shows():
    y, x = np.mgrid[:64, :64]
    smooth = np.stack([x * 4, y * 4, 255 - x * 4], -1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(smooth).save(stream, "JPEG", quality=95)
    made = dataset(smooth, 8, PhotometricInterpretation="YBR_FULL_422")
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    made.PixelData = encapsulate([stream.getvalue()])
    made["PixelData"].VR = "OB"
    expected = np.asarray(Image.open(stream)).astype(int)
    assert np.abs(decode(written(made)).array - expected).max() <= 4


def test_rle_is_read_like_the_same_image_without_compression():
    made = dataset(WindowCenter=1000, WindowWidth=900)
    expected = decode(written(made)).array
    made.compress(RLELossless)
    assert np.array_equal(decode(written(made)).array, expected)


def test_pixels_become_square_without_losing_detail():
    assert image(PixelSpacing=[2, 1]).shape == (64, 24)
    assert image(PixelSpacing=[0.5, 1]).shape == (32, 48)
    assert image(PixelAspectRatio=[3, 2]).shape == (48, 24)
    assert image(PixelSpacing=[0.7, 0.7001]).shape == (32, 24)
    colour = np.zeros((32, 24, 3), np.uint8)
    assert image(colour, 8, ImagerPixelSpacing=[2, 1]).shape == (64, 24, 3)


@pytest.mark.parametrize("spacing", [[0, 1], [1, -1], [1000, 1]])
def test_impossible_pixel_sizes_cost_a_note_and_not_the_image(spacing):
    shown = decode(written(dataset(PixelSpacing=spacing)))
    assert shown.array.shape == (32, 24)
    assert any("PixelSpacing" in note or "pixels of" in note for note in shown.notes)


def test_rescaled_values_are_those_of_simpleitk(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    made = dataset(RAMP.astype(np.int16) - 1900, RescaleSlope=2, RescaleIntercept=-24)
    (tmp_path / "a.dcm").write_bytes(written(made))
    other = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.dcm")))[0]
    expected = np.clip((other + 1000.0) / 3000, 0, 1) * 255
    shown = decode(written(made), "-1000..2000").array
    assert np.abs(shown - expected).max() <= 0.51


# Frames


def test_a_frame_of_several_is_asked_for_by_its_number():
    frames = np.stack([RAMP, RAMP[::-1], RAMP // 2])
    data = written(dataset(frames, WindowCenter=2000, WindowWidth=4000))
    expected = image(RAMP[::-1], WindowCenter=2000, WindowWidth=4000)
    assert np.array_equal(decode(data, frame=1).array, expected)
    with pytest.raises(BadImage, match="3 frames: read the folder as DICOM"):
        decode(data)


def test_enhanced_objects_have_their_own_window_and_rescale_for_each_frame():
    def group(intercept, centre):
        transformation, window, item = Dataset(), Dataset(), Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = 1, intercept
        window.WindowCenter, window.WindowWidth = centre, 400
        item.PixelValueTransformationSequence = [transformation]
        item.FrameVOILUTSequence = [window]
        return item

    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [2, 1]
    shared.PixelMeasuresSequence = [measures]
    made = dataset(
        np.stack([RAMP, RAMP]),
        PerFrameFunctionalGroupsSequence=[group(0, 300), group(-1000, 300)],
        SharedFunctionalGroupsSequence=[shared],
    )
    first, second = (decode(written(made), frame=frame) for frame in (0, 1))
    assert first.attributes["window"] == second.attributes["window"] == "100..499"
    assert first.array.shape == (64, 24)
    assert first.array.mean() > second.array.mean() + 30


# Bad input


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"GIF89a" * 50, "not DICOM"), (b"\0" * 128 + b"DICM", "without an image")],
)
def test_what_is_no_image_is_named(data, reason):
    with pytest.raises(BadImage, match=reason):
        decode(data)


def test_a_bomb_is_not_unpacked():
    with pytest.raises(BadImage, match="over 100 M pixels"):
        image(Rows=65535, Columns=65535)


def test_files_without_preamble_are_read():
    data = written(dataset())
    assert is_dicom(data) and not is_dicom(data[132:])
    assert np.array_equal(decode(data[132:]).array, decode(data).array)


SEEDS = [
    written(dataset(WindowCenter=900, WindowWidth=800, PixelSpacing=[1, 2])),
    written(dataset(np.stack([RAMP, RAMP]), VOILUTSequence=[lut(list(range(99)), 0, 10)])),
    written(dataset(np.zeros((32, 24, 3), np.uint8), 8)),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), max_size=8),
    end=st.one_of(st.none(), st.integers(0, 2200)),
)
def test_damaged_files_give_pixels_or_a_reason(seed, changes, end):
    data = bytearray(seed)
    for place, value in changes:
        data[place % len(data)] = value
    try:
        assert isinstance(decode(bytes(data[:end]), frame=0), Pixels)
    except BadImage as error:
        assert str(error) and "\n" not in str(error)


# What a header says


def test_attributes_hold_what_captions_need_and_nobody():
    made = dataset(
        PatientAge="063Y",
        PatientSex="F",
        BodyPartExamined="CHEST",
        ViewPosition="PA",
        Laterality="L",
        SeriesDescription="thorax pa",
        BurnedInAnnotation="YES",
        PatientBirthDate="19500101",
        AccessionNumber="A-77",
        InstitutionName="St. Elsewhere",
    )
    about = decode(written(made), "0..4095").attributes
    assert about == {
        "patient_id": "case-7",
        "modality": "CT",
        "body_part": "CHEST",
        "sex": "F",
        "age": "63",
        "view": "PA",
        "laterality": "L",
        "series_description": "thorax pa",
        "burned_in": "yes",
        "window": "0..4095",
        "identity_tags": "PatientName|PatientID|PatientBirthDate|AccessionNumber|InstitutionName",
    }


@pytest.mark.filterwarnings("ignore:Invalid value for VR AS")
@pytest.mark.parametrize(
    ("age", "years"), [("007Y", "7"), ("018M", "1"), ("024M", "2"), ("010D", "0"), ("63", None)]
)
def test_ages_are_whole_years(age, years):
    made = dataset()
    made.add_new("PatientAge", "AS", age)
    assert decode(written(made)).attributes.get("age") == years


def test_identity_tags_are_the_filled_ones():
    made = dataset(PatientBirthDate="", InstitutionName="St. Elsewhere", OtherPatientNames="")
    assert identity_tags(made) == ["PatientName", "PatientID", "InstitutionName"]


# Folders


def found(folder, **options):
    return [item for item in read(folder, ReaderOptions(**options)) if isinstance(item, Found)]


def skipped(folder, **options):
    items = read(folder, ReaderOptions(**options))
    return {item.key: item.reason for item in items if isinstance(item, Skipped)}


def test_slices_follow_their_place_in_the_patient(tmp_path):
    write_series(tmp_path / "p1" / "ct", SeriesDescription="Thorax")
    items = found(tmp_path)
    assert [item.key for item in items] == [f"p1/ct/{n:03}.dcm" for n in (5, 4, 3, 2, 1)]
    assert [item.attributes["slice"] for item in items][:2] == ["1/5", "2/5"]
    assert {item.group for item in items} == {"case-7"}
    assert {item.label for item in items} == {None}
    assert items[0].attributes["folder"] == "p1/ct"
    assert items[0].attributes["identity_tags"] == "PatientName|PatientID"
    assert items[0].stamp and items[0].load().array.shape == (32, 24)
    assert "Doe" not in repr([(item.attributes, item.load().attributes) for item in items])


def test_a_folder_is_read_in_sixteen_bits_where_that_is_asked_for(tmp_path):
    (tmp_path / "one.dcm").write_bytes(written(dataset()))
    (tmp_path / "two.dcm").write_bytes(written(dataset(np.stack([RAMP, RAMP]))))
    for item in found(tmp_path, bits=16, window="full"):
        assert np.unique(item.load().array).size == RAMP.size


def test_slices_without_a_place_follow_their_number(tmp_path):
    write_series(tmp_path / "ct", ImagePositionPatient=None)
    assert [item.key[-7:-4] for item in found(tmp_path)] == ["001", "002", "003", "004", "005"]


def test_slices_are_chosen_in_each_series(tmp_path):
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", count=3)
    keys = [item.key for item in found(tmp_path, slices="middle")]
    assert keys == ["a/003.dcm", "b/002.dcm"]
    assert "none of its 3 slices" in skipped(tmp_path, slices="4..9")["b"]


def test_series_are_chosen_by_description_or_folder(tmp_path):
    write_series(tmp_path / "x" / "one", SeriesDescription="T2_TSE_tra")
    write_series(tmp_path / "x" / "dwi", SeriesDescription="ep2d")
    assert {item.key[:5] for item in found(tmp_path, series="t2_tse")} == {"x/one"}
    assert {item.key[:5] for item in found(tmp_path, series="DWI")} == {"x/dwi"}
    with pytest.raises(VesaliusError, match=r"no DICOM series is called 'flair'.*ep2d dwi"):
        found(tmp_path, series="flair")


def notes(folder, **options):
    return [
        item.message for item in read(folder, ReaderOptions(**options)) if isinstance(item, Note)
    ]


def test_series_of_several_kinds_without_a_label_are_told(tmp_path):
    for number, name in enumerate(("T2_tra", "ADC")):
        uid = {"SeriesInstanceUID": f"1.2.{number}", "SeriesDescription": name}
        write_series(tmp_path / "patient" / name, count=number + 2, **uid)
    (said,) = notes(tmp_path)
    assert said.startswith("2 kinds of DICOM series are mixed (3, 2 files)")
    for way in ("--label-column series_description", "--series list", "--reader prostate"):
        assert way in said
    assert not notes(tmp_path, series="adc") and not notes(tmp_path, label_column="modality")
    by = {(item.label, item.key[:9]) for item in found(tmp_path, label_column="series_description")}
    assert by == {("T2_tra", "patient/T"), ("ADC", "patient/A")}
    item = found(tmp_path, label_column="series_description")[0]
    assert "series_description" not in item.attributes
    with pytest.raises(VesaliusError, match=r"series are 'ADC' \(1\), 'T2_tra' \(1\)"):
        found(tmp_path, series="list")
    with pytest.raises(VesaliusError, match="--label-column kind: DICOM is labelled by one of"):
        found(tmp_path, label_column="kind")


def test_series_of_one_kind_and_patients_of_one_series_are_no_mixture(tmp_path):
    for number, name in enumerate(("chest pa", "CHEST")):
        uid = {"SeriesInstanceUID": f"1.2.{number}", "SeriesDescription": name}
        write_series(tmp_path / str(number), PatientID=f"p{number}", count=1, **uid)
    assert not notes(tmp_path)


def test_what_is_no_image_of_a_patient_is_skipped_by_name(tmp_path):
    write_series(tmp_path / "ct", count=2)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "report.dcm").write_bytes(written(dataset(Modality="SR")))
    (tmp_path / "mask.dcm").write_bytes(written(dataset(Modality="SEG")))
    scout = dataset(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (tmp_path / "scout.dcm").write_bytes(written(scout))
    (tmp_path / "copy.dcm").write_bytes((tmp_path / "ct" / "001.dcm").read_bytes())
    reasons = skipped(tmp_path)
    assert reasons == {
        "ct/001.dcm": "same SOPInstanceUID and pixels as copy.dcm",
        "empty.dcm": "empty file",
        "mask.dcm": "DICOM without an image of a patient (SEG)",
        "notes.txt": "not DICOM",
        "report.dcm": "DICOM without an image of a patient (SR)",
        "scout.dcm": "localizer",
    }
    assert "notes.txt" not in skipped(tmp_path, exclude=("*.txt",))


def test_a_truncated_file_fails_alone_when_it_is_loaded(tmp_path):
    write_series(tmp_path, count=2)
    (tmp_path / "001.dcm").write_bytes((tmp_path / "001.dcm").read_bytes()[:-100])
    good, bad = found(tmp_path)
    assert good.key == "002.dcm" and good.load().array.any()
    with pytest.raises(BadImage, match="damaged"):
        bad.load()


def test_frames_of_one_file_are_images_of_their_own(tmp_path):
    frames = np.stack([RAMP, RAMP[::-1], RAMP // 2, RAMP])
    (tmp_path / "cine.dcm").write_bytes(written(dataset(frames)))
    items = found(tmp_path, slices="1..2")
    assert [item.key for item in items] == ["cine.dcm#1", "cine.dcm#2"]
    assert items[0].attributes["slice"] == "2/4"
    shown = {}
    threads = [
        threading.Thread(target=lambda item=item: shown.update({item.key: item.load().array}))
        for item in items
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(shown["cine.dcm#1"], image(RAMP[::-1]))


def test_one_file_is_a_source_and_a_missing_patient_is_not_everybody(tmp_path):
    (tmp_path / "one.dcm").write_bytes(written(dataset(PatientID="")))
    (item,) = found(tmp_path / "one.dcm")
    assert (item.key, item.group) == ("one.dcm", "1.2.3")


def test_files_without_preamble_are_found_by_their_content(tmp_path):
    for name in ("bare.dcm", "IM0001.IMA", "without"):
        made = dataset()
        made.SeriesInstanceUID = generate_uid()
        (tmp_path / name).write_bytes(written(made)[132:])
    (tmp_path / "other.ima").write_bytes(b"\x08\x00" + b"\xff" * 200)
    assert sorted(item.key for item in found(tmp_path)) == ["IM0001.IMA", "bare.dcm", "without"]
    assert skipped(tmp_path) == {"other.ima": "not DICOM"}
    (source,) = sources(str(tmp_path))
    assert source.reader == "dicom"


def with_text(made, keyword, text, vr=None):
    """A file in which a tag holds a text that its type does not allow."""
    tag = pydicom.tag.Tag(keyword)
    kind = pydicom.datadict.dictionary_VR(tag)
    made.add_new(tag, "LO", text)
    data = written(made)
    mark = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
    assert data.count(mark + b"LO") == 1
    return data.replace(mark + b"LO", mark + (vr or kind).encode())


@pytest.mark.parametrize(
    ("keyword", "text", "note"),
    [
        ("PixelSpacing", "0,143\\0,143", "PixelSpacing '0,143\\\\0,143' is read as 0.143"),
        ("PixelSpacing", "none", "PixelSpacing 'none' is left out"),
        ("WindowWidth", "N/A", "WindowWidth 'N/A' is left out"),
        ("InstanceNumber", "A12", "InstanceNumber 'A12' is left out"),
        ("RescaleSlope", "0", "RescaleSlope '0' is left out"),
    ],
)
def test_a_broken_optional_tag_costs_a_note_and_not_the_image(tmp_path, keyword, text, note):
    plain = decode(written(dataset(WindowCenter=2000)))
    data = with_text(dataset(WindowCenter=2000), keyword, text)
    shown = decode(data)
    assert np.array_equal(shown.array, plain.array)
    assert shown.notes == (note,)
    (tmp_path / "a.dcm").write_bytes(data)
    (item,) = found(tmp_path)
    assert np.array_equal(item.load().array, plain.array)


@pytest.mark.parametrize(("vr", "value"), [("SS", -2000), ("US", 63536)])
def test_padding_is_what_the_pixels_have_whatever_its_type(vr, value):
    pixels = np.full((32, 24), -2000, np.int16)
    pixels[4:28, 4:20] = np.linspace(-100, 100, 16).astype(np.int16)
    made = dataset(pixels, 16)
    made.add_new("PixelPaddingValue", vr, value)
    assert decode(written(made)).attributes["window"] == "-100..100"


def test_a_window_of_width_one_is_a_threshold():
    shown = decode(written(dataset(WindowCenter=2000, WindowWidth=1)))
    assert np.array_equal(shown.array, np.where(RAMP > 1999.5, 255, 0))
    assert shown.attributes["window"] == "1999.5..1999.5"
    theirs = apply_voi_lut(RAMP, dataset(WindowCenter=2000, WindowWidth=1))
    assert np.array_equal(shown.array == 255, theirs == theirs.max())
    narrow = decode(written(dataset(WindowCenter=0.5, WindowWidth=0.5)))
    assert narrow.attributes["window"] == "0.25..0.75"


def test_bits_above_those_stored_are_no_part_of_the_value():
    overlay = RAMP | 0x8000
    assert np.array_equal(image(overlay), image(RAMP))
    made = dataset(overlay)
    made.compress(RLELossless)
    assert np.array_equal(decode(written(made)).array, image(RAMP))


def test_without_series_uid_each_radiograph_is_alone(tmp_path):
    for number in range(3):
        made = dataset(RAMP + 100 * number, PatientID=f"PAT{number}", WindowCenter=900 * number + 9,
                       WindowWidth=200)  # fmt: skip
        del made.SeriesInstanceUID, made.StudyInstanceUID
        (tmp_path / f"{number}.dcm").write_bytes(written(made))
    items = found(tmp_path)
    assert [item.group for item in items] == ["PAT0", "PAT1", "PAT2"]
    assert len({item.load().attributes["window"] for item in items}) == 3


def test_one_uid_for_two_patients_or_two_pictures_hides_none(tmp_path):
    for number, patient in enumerate(("one", "two", "two")):
        made = dataset(RAMP + number, PatientID=patient)
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = "1.2.3.9"
        (tmp_path / f"{number}.dcm").write_bytes(written(made))
    items = found(tmp_path)
    assert sorted((item.key, item.group) for item in items) == [
        ("0.dcm", "one"),
        ("1.dcm", "two"),
        ("2.dcm", "two"),
    ]


def test_twelve_bit_jpeg_is_read_or_called_unsupported(monkeypatch):
    from pydicom.data import get_testdata_file

    sitk = pytest.importorskip("SimpleITK")
    path = get_testdata_file("JPGExtended.dcm")
    data = Path(path).read_bytes()
    shown = decode(data, "0..264")
    values = sitk.GetArrayFromImage(sitk.ReadImage(path))[0]
    assert (shown.array.shape, values.min(), values.max()) == ((1024, 256), 0, 264)
    assert np.abs(shown.array - values / 264 * 255).max() <= 0.5
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(BadImage, match=r"not supported by the installed decoders.*pylibjpeg"):
        decode(data)


def test_without_pydicom_the_user_learns_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(VesaliusError, match=r"pip install 'vesalius\[dicom\]'"):
        list(read(tmp_path, ReaderOptions()))
    with pytest.raises(VesaliusError, match="needs pydicom"):
        decode(b"\0" * 128 + b"DICM")


def test_slices_of_a_series_share_one_window(tmp_path):
    for number, centre in enumerate((100, 300, 200)):
        made = dataset(Modality="MR", WindowCenter=centre, WindowWidth=401, InstanceNumber=number)
        (tmp_path / f"{number}.dcm").write_bytes(written(made))
    items = list(read(tmp_path, ReaderOptions()))
    assert {item.load().attributes["window"] for item in items} == {"-0.5..399.5"}


def test_windows_of_hounsfield_units_are_for_ct_alone():
    assert decode(written(dataset()), "lung").array.any()
    with pytest.raises(BadImage, match="Hounsfield units, and this is MR"):
        decode(written(dataset(Modality="MR")), "lung")


def write_classes(folder, patients):
    for place, names in patients.items():
        for patient in names:
            made = dataset(PatientID=patient)
            made.SeriesInstanceUID = generate_uid()
            (folder / place).mkdir(parents=True, exist_ok=True)
            (folder / place / f"{patient}.dcm").write_bytes(written(made))


def test_class_folders_are_labels(tmp_path):
    write_classes(tmp_path, {"train/benign": "ab", "train/malignant": "cd", "test/benign": "ef"})
    items = found(tmp_path)
    assert [(item.label, item.split, item.group) for item in items] == [
        ("benign", "test", "e"),
        ("benign", "test", "f"),
        ("benign", "train", "a"),
        ("benign", "train", "b"),
        ("malignant", "train", "c"),
        ("malignant", "train", "d"),
    ]


@pytest.mark.parametrize(
    "patients", [{"a": "a", "b": "b"}, {"set": "abc"}, {"benign": "ab", "case7": "c"}]
)
def test_folders_of_patients_are_no_labels(tmp_path, patients):
    write_classes(tmp_path, patients)
    assert {item.label for item in found(tmp_path)} == {None}


def test_frames_are_counted_before_they_are_believed(tmp_path):
    (tmp_path / "a.dcm").write_bytes(written(dataset(NumberOfFrames=2147483647)))
    assert found(tmp_path) == []
    assert "2,147,483,647 frames" in skipped(tmp_path)["a.dcm"]
    with pytest.raises(BadImage, match="frames"):
        decode(written(dataset(NumberOfFrames=2147483647)), frame=0)


def test_views_of_an_x_ray_have_each_their_own_window(tmp_path):
    for name, centre, width in (("pa", 2048, 4096), ("lateral", 500, 400)):
        made = dataset(Modality="DX", WindowCenter=centre, WindowWidth=width)
        (tmp_path / f"{name}.dcm").write_bytes(written(made))
    shown = {item.key: item.load().attributes["window"] for item in found(tmp_path)}
    assert shown == {"lateral.dcm": "300..699", "pa.dcm": "0..4095"}


def test_a_series_of_thresholds_is_read(tmp_path):
    write_series(tmp_path, count=2, WindowCenter=2000, WindowWidth=1)
    assert {item.load().attributes["window"] for item in found(tmp_path)} == {"1999.5..1999.5"}


def test_values_that_lie_in_the_upper_bits_are_not_read_as_others():
    with pytest.raises(BadImage, match="its 12 bits end at bit 15: write it with HighBit 11"):
        decode(written(dataset(RAMP << 4, HighBit=15)))


def test_pixels_that_are_stored_as_floats_are_read():
    made = dataset(RAMP)
    del made.PixelData, made.BitsStored, made.HighBit, made.PixelRepresentation
    made.BitsAllocated, made.FloatPixelData = 32, RAMP.astype(np.float32).tobytes()
    shown = decode(written(made))
    assert shown.bits == 32 and np.array_equal(shown.array, image())


@pytest.mark.parametrize("name", ["ANONYMOUS", "Anonymized^", "No Name", "0000", "UNKNOWN"])
def test_a_patient_id_that_is_nobodys_makes_no_patient(tmp_path, name):
    for number in range(3):
        made = dataset(RAMP + number, PatientID=name, StudyInstanceUID=f"1.2.{number // 2}")
        made.SeriesInstanceUID = generate_uid()
        (tmp_path / f"{number}.dcm").write_bytes(written(made))
    assert [item.group for item in found(tmp_path)] == ["1.2.0", "1.2.0", "1.2.1"]
    assert "patient_id" not in decode(written(made)).attributes
    assert decode(written(dataset(PatientID="10"))).attributes["patient_id"] == "10"


@pytest.mark.parametrize(
    ("patients", "labels"),
    [
        ({"covid/p1": "a", "covid/p2": "b", "normal/p3": "c", "normal/p4": "d"}, "covid normal"),
        ({"x/covid/p1/ct": "a", "x/covid/p2": "b", "x/normal": "cd"}, "covid normal"),
        ({"train/p1": "a", "train/p2": "b", "test/p3": "c", "test/p4": "d"}, ""),
        ({"train": "ab", "test": "cd"}, ""),
        ({"p1/t2": "a", "p1/adc": "a", "p2/t2": "b", "p2/adc": "b"}, ""),
        ({"covid": "ab", "covid/more": "cd"}, ""),
    ],
)
def test_classes_may_have_a_folder_for_each_patient(tmp_path, patients, labels):
    write_classes(tmp_path, patients)
    items = found(tmp_path)
    assert {item.label for item in items} - {None} == set(labels.split())
    splits = {item.split for item in items}
    assert splits == ({"train", "test"} if any("train" in place for place in patients) else {None})
