"""Every format keeps its pixels, says inside what it is, and is the same bytes each time."""

import io
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vesalius.errors import VesaliusError
from vesalius.images.encode import FORMATS, choose_format, encode_image, suffix
from vesalius.images.provenance import read_provenance

rng = np.random.default_rng(0)
COLOUR = rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)
GREY = rng.integers(0, 256, (33, 47), dtype=np.uint8)
DEEP = rng.integers(0, 65_536, (33, 47), dtype=np.uint16)
ABOUT = {
    "synthetic": True,
    "prompt": "Rétine, 視網膜 → œdème \\ AND 100 %",
    "negative": "",
    "seed": 2**62,
    "guidance": 2.5,
    "guidance_interval": [0.0, 0.5],
    "version": "0.1.0",
}
SAID = {
    **{key: str(value) for key, value in ABOUT.items()},
    "synthetic": "true",
}
CASES = [
    ("png", COLOUR),
    ("png", GREY),
    ("jpeg", COLOUR),
    ("jpeg", GREY),
    ("png16", DEEP),
    ("dicom", COLOUR),
    ("dicom", GREY),
    ("dicom", DEEP),
]


@pytest.mark.parametrize(("format", "pixels"), CASES)
def test_provenance_comes_back_and_bytes_repeat(tmp_path, format, pixels):
    if format == "dicom":
        pytest.importorskip("pydicom")
    content = encode_image(pixels, ABOUT, format)
    assert content == encode_image(pixels.copy(), dict(ABOUT), format)
    assert read_provenance(content) == SAID
    path = tmp_path / f"x{suffix(format)}"
    path.write_bytes(content)
    assert read_provenance(path) == read_provenance(str(path)) == SAID


@pytest.mark.parametrize(("format", "pixels"), CASES[:5])
def test_pixels_come_back(format, pixels):
    with Image.open(io.BytesIO(encode_image(pixels, ABOUT, format))) as image:
        again = np.asarray(image)
    assert (again.shape, again.dtype) == (pixels.shape, pixels.dtype)
    if format != "jpeg":
        assert np.array_equal(again, pixels)


def test_a_jpeg_is_of_high_quality_with_chroma_at_full_size():
    # red and blue columns, one pixel wide, turn to violet where chroma is halved
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 200
    with Image.open(io.BytesIO(encode_image(stripes, ABOUT, "jpeg"))) as image:
        assert np.abs(np.asarray(image, int) - stripes).max() <= 12


def test_png_has_the_bytes_that_pillow_writes():
    chunks = PngInfo()
    for key, value in SAID.items():
        chunks.add_itxt(key, value)
    stream = io.BytesIO()
    Image.fromarray(COLOUR).save(stream, "PNG", pnginfo=chunks)
    assert encode_image(COLOUR, ABOUT) == stream.getvalue()


def test_exif_says_in_words_that_a_jpeg_is_synthetic():
    with Image.open(io.BytesIO(encode_image(COLOUR, ABOUT, "jpeg"))) as image:
        exif = image.getexif()
    words = exif[0x010E]
    words = words.encode("latin-1").decode() if isinstance(words, str) else words.decode()
    assert words == f"Synthetic image, not for diagnosis: {ABOUT['prompt']}"
    assert exif[0x0131] == "vesalius 0.1.0"


def test_no_image_is_said_to_show_nobody_and_one_made_from_another_says_so():
    assert b"patient" not in encode_image(COLOUR, ABOUT, "jpeg")
    content = encode_image(COLOUR, {**ABOUT, "strength": 0.5}, "jpeg")
    assert b"Synthetic image, drawn from another image" in content


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
@pytest.mark.parametrize("format", ["png", "jpeg"])
def test_exiftool_shows_the_prompt_and_finds_nothing_wrong(tmp_path, format):
    path = tmp_path / f"x{suffix(format)}"
    path.write_bytes(encode_image(COLOUR, ABOUT, format))

    def told(*options):
        command = ["exiftool", *options, path]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout

    assert ABOUT["prompt"] in told()
    # EXIF asks for resolution and the like in vain: there is none
    complaints = told("-a", "-s3", "-validate", "-warning", "-error").splitlines()[1:]
    assert [line for line in complaints if "Missing required" not in line] == []


@pytest.mark.parametrize(
    ("format", "pixels", "message"),
    [
        ("tiff", COLOUR, "format 'tiff' is none of png, jpeg, png16, dicom"),
        ("png", DEEP, "png does not hold 16 bits: choose png16"),
        ("jpeg", DEEP, "jpeg does not hold 16 bits"),
        ("png16", GREY, "png16 does not hold 8 bits"),
        ("png16", np.zeros((4, 4, 3), np.uint16), "cannot be written: uint8"),
        ("png", np.zeros((4, 4), np.float32), "float32 and shape"),
        ("png", np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(format, pixels, message):
    with pytest.raises(VesaliusError, match=message):
        encode_image(pixels, ABOUT, format)


@pytest.mark.parametrize("format", ["jpeg", "dicom"])
def test_provenance_that_would_be_cut_is_refused(format):
    if format == "dicom":
        pytest.importorskip("pydicom")
    with pytest.raises(VesaliusError, match=r"the provenance takes .* choose png"):
        encode_image(COLOUR, {**ABOUT, "negative": "x" * 70_000}, format)


def test_files_that_say_nothing_of_their_making_are_told_from_broken_ones(tmp_path):
    for format in ("PNG", "JPEG"):
        stream = io.BytesIO()
        Image.fromarray(COLOUR).save(stream, format)
        assert read_provenance(stream.getvalue()) == {}
    for foreign in (b"[1, 2]", b"holiday", b"\xe9\xff", b""):
        stream = io.BytesIO()
        Image.fromarray(COLOUR).save(stream, "JPEG", comment=foreign)
        assert read_provenance(stream.getvalue()) == {}
    (tmp_path / "x.png").write_text("hello")
    stream = io.BytesIO()
    Image.fromarray(COLOUR).save(stream, "TIFF")
    whole = encode_image(COLOUR, ABOUT)
    for wrong, name in (
        (tmp_path / "x.png", r"x\.png"),
        (tmp_path / "missing.png", r"missing\.png"),
        (stream.getvalue(), "this content"),
        (whole[: len(whole) // 2], "this content"),
        (b"", "this content"),
    ):
        with pytest.raises(VesaliusError, match=f"{name} cannot be read as an image"):
            read_provenance(wrong)


@pytest.mark.parametrize(
    ("asked", "own", "chosen"),
    [
        ((None, None), 8, ("png", 8)),
        ((None, None), 16, ("png16", 16)),
        ((None, 16), 8, ("png16", 16)),
        ((None, 8), 16, ("png", 8)),
        (("png", None), 16, ("png", 8)),
        (("jpeg", None), 16, ("jpeg", 8)),
        (("png16", None), 8, ("png16", 16)),
        (("dicom", None), 8, ("dicom", 8)),
        (("dicom", None), 16, ("dicom", 16)),
        (("dicom", 8), 16, ("dicom", 8)),
    ],
)
def test_depth_is_what_was_asked_for_else_the_models_own(asked, own, chosen):
    if chosen[0] == "dicom":
        pytest.importorskip("pydicom")
    format, bits = asked
    assert choose_format(format, bits, own) == chosen
    assert chosen[0] in FORMATS
