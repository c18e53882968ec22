"""PNGs keep their provenance and their bytes; sheets keep captions inside their tiles."""

import base64
import io

import pytest
from PIL import Image, ImageFont

from vesalius.core.manifest import read_manifest, write_manifest
from vesalius.errors import VesaliusError
from vesalius.images.provenance import read_provenance
from vesalius.images.sheets import contact_sheet, data_uri, wrap, write_png

ABOUT = {"synthetic": True, "prompt": "Rétine, 視網膜 → œdème", "seed": 2**62, "guidance": 2.5}


def test_provenance_survives_and_bytes_repeat(tmp_path):
    image = Image.effect_noise((16, 16), 50).convert("RGB")
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, image, ABOUT)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    inside = read_provenance(tmp_path / "a.png")
    assert inside == {
        "synthetic": "true",
        "prompt": ABOUT["prompt"],
        "seed": str(2**62),
        "guidance": "2.5",
    }
    with Image.open(tmp_path / "a.png") as again:
        assert again.tobytes() == image.tobytes()


def test_what_is_no_image_is_an_error(tmp_path):
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(VesaliusError, match=r"x\.png cannot be read as an image"):
        read_provenance(tmp_path / "x.png")


def test_captions_wrap_inside_the_tile():
    font = ImageFont.load_default(14)
    for text in ("a chest X-ray with a large effusion of the left side", "w" * 300):
        lines = wrap(text, 100, font, 4)
        assert 1 < len(lines) <= 4
        assert all(font.getlength(line) <= 100 for line in lines)
    assert wrap("w" * 300, 100, font, 2)[-1].endswith("…")
    assert wrap("w" * 10**6, 100, font, 2) == wrap("w" * 300, 100, font, 2)  # at once, too
    assert wrap("one two", 100, font, 4) == ["one two"]
    assert wrap("", 100, font, 4) == []


def test_a_sheet_shows_every_image_with_text_under_it():
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    sheet = contact_sheet([red, blue, red], ["one", "two", "three"], 2, title="made", tile=64)
    colours = {colour: count for count, colour in sheet.getcolors(1 << 20)}
    assert colours[(255, 0, 0)] == 2 * 64 * 64
    assert colours[(0, 0, 255)] == 64 * 64
    assert colours[(0, 0, 0)] > 0  # some letters
    assert sheet.width == 2 * 64 + 3 * 12


def test_manifests_round_trip_and_name_the_broken_line(tmp_path):
    path = tmp_path / "manifest.jsonl"
    rows = [{"file": "a.png", "prompt": "line\u2028separator é"}, {"file": "b.png", "seed": 3}]
    write_manifest(path, rows)
    assert read_manifest(path) == rows
    path.write_text('{"file": "a.png"}\n[1]\n')
    with pytest.raises(VesaliusError, match="line 2 is not a JSON object"):
        read_manifest(path)
    path.write_text("{")
    with pytest.raises(VesaliusError, match="line 1 is not JSON"):
        read_manifest(path)
    with pytest.raises(VesaliusError, match="cannot be read"):
        read_manifest(tmp_path / "missing")


def test_a_picture_as_text_keeps_no_word_of_its_file():
    image = Image.effect_noise((300, 150), 50).convert("RGB")
    image.info["comment"] = b"patient: Jane Doe"
    kind, _, text = data_uri(image, 100).partition(",")
    assert kind == "data:image/jpeg;base64"
    content = base64.b64decode(text)
    assert b"Jane" not in content
    assert Image.open(io.BytesIO(content)).size == (100, 50)
