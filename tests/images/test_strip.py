"""Nothing but pixels is left of a file, and the pixels are those of before."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from vesalius.images.encode import encode_image
from vesalius.images.pixels import BadImage, open_rgb, prepare
from vesalius.images.provenance import read_provenance
from vesalius.images.strip import strip

RAMP = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
NAME = "Doe^Jane^1931"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + NAME.encode()


def exif() -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.ImageDescription] = NAME
    tags[ExifTags.Base.Artist] = NAME
    return tags.tobytes()


def saved(kind: str, image: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def planted(kind: str, mode: str = "RGB", **options) -> bytes:
    """A file that says the name in every place that Pillow writes one to."""
    image = Image.fromarray(RAMP).convert(mode)
    options |= {"icc_profile": PROFILE, "exif": exif()}
    if kind == "PNG":
        texts = PngInfo()
        texts.add_text("Patient", NAME)
        texts.add_text("Comment", NAME, zip=True)
        texts.add_itxt("XML:com.adobe.xmp", f"<x:xmpmeta>{NAME}</x:xmpmeta>")
        texts.add(b"prIv", NAME.encode())
        return saved(kind, image, pnginfo=texts, dpi=(72, 72), **options) + NAME.encode()
    xmp = f"<x:xmpmeta>{NAME}</x:xmpmeta>".encode()
    data = saved(kind, image, comment=NAME, xmp=xmp, **options)
    iptc = b"Photoshop 3.0\0" + NAME.encode()
    segment = b"\xff\xed" + (len(iptc) + 2).to_bytes(2) + iptc
    return data[:2] + segment + data[2:] + NAME.encode()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    ("kind", "options", "kinds"),
    [
        ("PNG", {}, ["EXIF", "XMP", "colour profile", "other data", "text"]),
        ("JPEG", {}, ["EXIF", "IPTC", "XMP", "colour profile", "comment", "other data"]),
        ("JPEG", {"progressive": True, "restart_marker_rows": 1},
         ["EXIF", "IPTC", "XMP", "colour profile", "comment", "other data"]),
    ],
)  # fmt: skip
def test_metadata_goes_and_pixels_stay(kind, options, kinds, mode):
    data = planted(kind, mode, **options)
    ready = prepare(data)
    assert [note.removesuffix(" removed") for note in ready.notes] == kinds
    assert b"Doe" not in ready.data and b"Jane" not in ready.data
    before, after = (Image.open(io.BytesIO(content)) for content in (data, ready.data))
    assert after.mode == before.mode == mode
    assert after.tobytes() == before.tobytes()
    assert "exif" not in after.info and "icc_profile" not in after.info
    assert strip(ready.data) == (ready.data, ())
    assert prepare(ready.data).notes == ()


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_colours_do_not_depend_on_what_was_removed(subsampling):
    image = Image.fromarray(np.stack([RAMP, RAMP[:, ::-1], RAMP // 2], -1))
    for options in ({}, {"keep_rgb": True} if subsampling == "4:4:4" else {}):
        data = saved("JPEG", image, subsampling=subsampling, comment=NAME, **options)
        assert Image.open(io.BytesIO(prepare(data).data)).tobytes() == open_rgb(data).tobytes()


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_files_that_are_converted_take_nothing_along(kind):
    image = Image.fromarray(RAMP).convert("RGBA" if kind == "PNG" else "RGB")
    data = saved(kind, image, icc_profile=PROFILE, exif=exif())
    assert NAME.encode() not in prepare(data).data
    assert "icc_profile" not in Image.open(io.BytesIO(prepare(data).data)).info


def test_deep_grey_tiffs_give_no_tags_along():
    deep = RAMP.astype(np.uint16) * 257
    ready = prepare(saved("TIFF", Image.fromarray(deep), description=NAME), "full", 16)
    assert ready.mode == "I;16" and NAME.encode() not in ready.data
    assert (np.asarray(Image.open(io.BytesIO(ready.data))) == deep).all()


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_what_made_a_synthetic_image_stays(kind):
    data = encode_image(np.stack([RAMP] * 3, -1), {"synthetic": True, "prompt": "a lung"}, kind)
    assert prepare(data).data == data
    assert read_provenance(prepare(data).data)["prompt"] == "a lung"
    assert prepare(data).notes == ()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_are_stripped_or_refused(data):
    content = bytearray(planted(data.draw(st.sampled_from(["PNG", "JPEG"]))))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(2, len(content)))])
    try:
        ready = prepare(content)
    except BadImage:
        return
    assert open_rgb(ready.data).size == (ready.width, ready.height)


@pytest.mark.parametrize(
    ("comment", "stays"),
    [
        ("Intel(R) JPEG Library, version [1.51.13.45]\0", True),
        ("LEAD Technologies Inc. V1.01\0", True),
        ("CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 95\n", True),
        ("LEAD Technologies Inc. V1.01, Doe^Jane", False),
        ("Lavc58.134 Doe", False),
    ],
)
def test_a_comment_that_can_only_name_a_program_stays(comment, stays):
    data = saved("JPEG", Image.fromarray(RAMP), comment=comment)
    kept, kinds = strip(data)
    assert (kept == data) is stays
    assert kinds == (() if stays else ("comment",))
