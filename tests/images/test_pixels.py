"""Every kind of image file comes out as the picture that a person sees in it."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.images.pixels import (
    THUMB,
    BadImage,
    open_rgb,
    parse_window,
    prepare,
    show_range,
    square,
    to_range,
)

RAMP = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))  # (48, 64), brighter to the right


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def shown(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_plain_files_keep_their_bytes(kind, mode):
    data = encoded(Image.fromarray(RAMP).convert(mode), kind)
    ready = prepare(data)
    assert ready.data == data
    assert (ready.width, ready.height, ready.mode, ready.bits) == (64, 48, mode, 8)
    assert len(ready.thumb) == THUMB * THUMB
    thumb = np.frombuffer(ready.thumb, np.uint8).reshape(THUMB, THUMB).astype(int)
    assert (np.diff(thumb.mean(0)) > 0).all()


def test_the_extension_does_not_matter_only_the_content():
    assert prepare(encoded(Image.fromarray(RAMP), "BMP")).mode == "L"
    with pytest.raises(BadImage, match="not an image"):
        prepare(b"<html>this was called scan.jpg</html>")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen_are_not_shown_as_black(kind):
    deep = (RAMP.astype(np.uint16) * 16)[:, ::-1]  # up to 4,032
    data = encoded(Image.fromarray(deep), kind)
    ready = prepare(data)
    assert (ready.bits, ready.mode) == (16, "L")
    assert shown(ready.data).min() == 0
    assert shown(ready.data).max() == 255
    kept = prepare(data, "0..4095", bits=16)
    assert kept.mode == "I;16"
    assert np.abs(shown(kept.data) - deep * (65535 / 4095)).max() <= 1
    assert np.abs(shown(prepare(data, "full").data) - deep / 257).max() <= 0.5
    assert np.abs(np.asarray(open_rgb(kept.data))[..., 0] - deep * (255 / 4095)).max() <= 1


def test_signed_and_float_grey_values():
    values = np.linspace(-1000, 1000, 48 * 64).reshape(48, 64)
    for array in (values.astype(np.float32), values.astype(np.int32)):
        ready = prepare(encoded(Image.fromarray(array), "TIFF"), "-200..200")
        assert (shown(ready.data) == to_range(array, -200, 200)).all()


def test_what_is_not_a_number_is_black_and_moves_no_window():
    values = np.linspace(-1000, 1000, 48 * 64).reshape(48, 64).astype(np.float32)
    values[:4] = (np.nan, np.inf, -np.inf, np.nan) * 16
    ready = prepare(encoded(Image.fromarray(values), "TIFF"), "full")
    assert not shown(ready.data)[:4].any()
    assert (shown(ready.data)[4:] == to_range(values[4:], values[4, 0], 1000)).all()
    assert "pixels that are not numbers shown black" in ready.notes
    with pytest.raises(BadImage, match="no pixel is a number"):
        prepare(encoded(Image.fromarray(values * np.nan), "TIFF"))


def tiff(values, photometric):
    """An uncompressed grey TIFF, byte by byte: Pillow writes no deep one that counts from white."""
    height, width = values.shape
    tags = {
        256: width, 257: height, 258: 8 * values.itemsize, 259: 1, 262: photometric, 273: 8,
        277: 1, 278: height, 279: values.nbytes,
    }  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + values.nbytes) + values.tobytes() + directory


@pytest.mark.parametrize("kind", ["<u2", "|u1"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_that_counts_from_white_is_turned_around(kind, bits):
    ramp = np.tile(np.linspace(0, np.iinfo(kind).max, 64).astype(kind), (48, 1))
    black, white = (
        np.asarray(Image.open(io.BytesIO(prepare(tiff(ramp, p), "full", bits).data)))
        for p in (1, 0)
    )
    assert black[0, 0] == 0
    assert white[0, 0] == black.max()
    assert (white == black.max() - black).all()
    assert np.asarray(open_rgb(tiff(ramp, 0)))[0, 0, 0] == 255


def test_deep_colour_is_called_so():
    ready = prepare(png16(np.full((20, 20, 3), 0x1234, np.uint16)))
    assert (ready.bits, ready.mode) == (16, "RGB")
    assert "16-bit colour stored with 8 bits" in ready.notes
    assert (shown(ready.data) == 0x12).all()


def png16(values):
    """A PNG of 16-bit RGB, which Pillow reads and does not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_exif_rotation_is_applied_once():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    data = encoded(Image.fromarray(RAMP).convert("RGB"), "JPEG", exif=exif, quality=95)
    ready = prepare(data)
    assert (ready.width, ready.height) == (48, 64)
    assert ready.notes == ("turned upright by its EXIF tag",)
    assert shown(ready.data)[-1].mean() > shown(ready.data)[0].mean() + 200
    assert Image.open(io.BytesIO(ready.data)).getexif().get(0x0112) is None
    assert open_rgb(data).size == (48, 64)


def test_palettes_cmyk_and_transparency():
    colour = Image.fromarray(np.stack([RAMP, RAMP[:, ::-1], RAMP // 2], -1))
    palette = prepare(encoded(colour.quantize(256), "PNG"))
    assert palette.mode == "RGB"
    assert np.abs(shown(palette.data).astype(int) - np.asarray(colour)).mean() < 6
    cmyk = prepare(encoded(colour.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(shown(cmyk.data).astype(int) - np.asarray(colour)).mean() < 6
    ghost = colour.copy()
    ghost.putalpha(Image.fromarray(np.where(RAMP > 100, 255, 0).astype(np.uint8)))
    flat = prepare(encoded(ghost, "PNG"))
    assert flat.notes == ("transparency laid on black",)
    assert shown(flat.data)[0, 0].tolist() == [0, 0, 0]
    assert shown(flat.data)[0, -1].tolist() == np.asarray(colour)[0, -1].tolist()
    assert prepare(encoded(Image.fromarray(RAMP > 100), "PNG")).mode == "L"


def test_decoded_pixels_are_stored_as_they_are():
    assert (shown(prepare(RAMP).data) == RAMP).all()
    colour = np.stack([RAMP] * 3, -1)
    assert (shown(prepare(colour).data) == colour).all()
    deep = RAMP.astype(np.uint16) * 257
    assert (shown(prepare(deep).data) == RAMP).all()
    assert (shown(prepare(deep, bits=16).data) == deep).all()
    with pytest.raises(BadImage, match="float64"):
        prepare(RAMP / 255.0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (encoded(Image.fromarray(RAMP), "PNG")[:70], "damaged"),
        (encoded(Image.fromarray(RAMP), "JPEG")[:400], "damaged"),
        (encoded(Image.new("L", (1, 1)), "PNG"), "too small"),
        (
            encoded(
                Image.fromarray(RAMP),
                "GIF",
                save_all=True,
                append_images=[Image.fromarray(RAMP[:, ::-1])],
            ),
            "animated",
        ),
    ],
)
def test_bad_files_are_told_by_their_reason(data, reason):
    with pytest.raises(BadImage, match=reason):
        prepare(data)
    with pytest.raises(VesaliusError, match=reason):
        open_rgb(data)


def test_a_decompression_bomb_is_refused_by_its_header():
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    for side in (12_000, 200_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
        with pytest.raises(BadImage, match="over 100 M"):
            prepare(bomb + chunk(b"IEND", b""))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_and_nothing_else_happens(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]))
    content = bytearray(encoded(Image.fromarray(RAMP).convert("RGB"), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        ready = prepare(bytes(content))
    except BadImage as error:
        assert "\n" not in str(error)
    else:
        assert open_rgb(ready.data).size == (ready.width, ready.height)


def test_windows():
    assert parse_window("lung") == (-1350, 150)
    assert parse_window("-160..240") == (-160, 240)
    assert parse_window("auto") is parse_window("full") is None
    for bad in ("lungs", "5..1", "..", "1-2"):
        with pytest.raises(VesaliusError, match=r"LOW\.\.HIGH"):
            parse_window(bad)
    values = np.arange(1001, dtype=np.int16)
    assert show_range(values, "full") == (-32768, 32767)
    assert show_range(values, "auto") == pytest.approx((1, 999))


@given(st.floats(-1e4, 1e4), st.floats(0.1, 1e4), st.sampled_from([8, 16]))
def test_a_window_maps_its_ends_to_black_and_white(low, width, bits):
    values = np.array([low - 1, low, low + width, low + width + 1])
    top = 2**bits - 1
    assert to_range(values, low, low + width, bits).tolist() == pytest.approx(
        [0, 0, top, top], abs=1
    )


@pytest.mark.parametrize("kind", [np.int16, np.uint16])
def test_large_images_are_windowed_like_small_ones(kind):
    limit = np.iinfo(kind)
    values = np.random.default_rng(0).integers(limit.min, limit.max, (300, 300)).astype(kind)
    assert (to_range(values, -500, 900)[0] == to_range(values[0], -500, 900)).all()


def test_square_cuts_the_centre_of_either_orientation():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    assert (square(Image.fromarray(wide), 10) == 255).all()
    assert (square(Image.fromarray(wide.transpose(1, 0, 2)), 10) == 255).all()
    assert square(Image.new("L", (7, 9)), 16).shape == (16, 16, 3)
