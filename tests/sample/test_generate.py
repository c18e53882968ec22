"""Requests become images with their provenance, the same bytes each time, or nothing at all."""

import errno
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vesalius.core.manifest import file_sha256, read_manifest
from vesalius.errors import VesaliusError
from vesalius.images.encode import FORMATS, suffix
from vesalius.images.provenance import read_provenance
from vesalius.models.generator import load_generator
from vesalius.sample import checks, folder
from vesalius.sample.folder import generate_to_folder
from vesalius.sample.generate import TextToImage
from vesalius.sample.settings import GenerateSettings

PROMPTS = ["a chest x-ray", "lung nodule"]


@pytest.fixture(scope="module")
def model(tiny_flow) -> TextToImage:
    return TextToImage(load_generator(tiny_flow, "cpu", "float32"))


def generate(prompts, out, *, model=None, overwrite=False, on_progress=None, **settings):
    return generate_to_folder(
        prompts,
        out,
        GenerateSettings(**settings),
        model=model,
        overwrite=overwrite,
        on_progress=on_progress,
    ).rows


def pixels(sample):
    return np.asarray(sample.image, dtype=int)


def test_samples_are_counted_prompt_by_prompt(model):
    samples = model.generate(PROMPTS, n=2, seed=10)
    assert [(s.index, s.prompt, s.seed) for s in samples] == [
        (0, "a chest x-ray", 10),
        (1, "a chest x-ray", 11),
        (2, "lung nodule", 12),
        (3, "lung nodule", 13),
    ]
    assert (samples[0].request.steps, samples[0].request.guidance.scale) == (
        4,
        2.0,
    )  # the folder's own
    assert samples[0].image.size == (32, 32)


def test_an_image_is_the_same_alone_and_in_a_batch(model):
    together = model.generate(PROMPTS, n=3, seed=10, batch_size=5)
    alone = model.generate(["lung nodule"], seed=14)[0]
    assert together[4].seed == alone.seed
    assert np.ptp(pixels(alone)) > 20
    assert np.abs(pixels(together[4]) - pixels(alone)).max() <= 1


def test_size_and_progress(model):
    told = []
    samples = model.generate(
        PROMPTS, size="48x32", batch_size=1, steps=2, on_progress=lambda *a: told.append(a)
    )
    assert samples[0].image.size == (48, 32)
    assert told == [(0.5, 2), (1.0, 2), (1.5, 2), (2.0, 2)]


def test_lost_words_are_warned_of(model):
    with pytest.warns(UserWarning, match="will not read: effusion"):
        model.generate(["lung " * 14 + "effusion"], steps=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prompts": []}, "no prompt"),
        ({"prompts": [" \n"]}, "empty"),
        ({"prompts": ["a", ""]}, "empty"),
        ({"prompts": ["a" * 10_000]}, "10,000 characters"),
        ({"prompts": ["\udcff"]}, "not valid text"),
        ({"n": 0}, "-n is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": -4}, "steps is -4"),
        ({"guidance": -1}, "guidance is -1"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"size": 100}, "multiples of 16 pixels only, such as 96x96"),
        ({"size": "100x64"}, "such as 96x64"),
        ({"size": 0}, "too small"),
        ({"size": -8}, "too small"),
        ({"size": 100_000}, "too large"),
        ({"size": "big"}, "neither like"),
        ({"size": "1x2x3"}, "neither like"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(model, tmp_path, wrong, message):
    request = {"prompts": PROMPTS} | wrong
    with pytest.raises(VesaliusError, match=message):
        model.stream(**request)  # at once, not at the first image
    with pytest.raises(VesaliusError, match=message):
        generate(out=tmp_path / "out", model=model, **request)
    assert not list(tmp_path.iterdir())


def test_the_folder_holds_images_manifest_and_sheet(model, tmp_path):
    out = tmp_path / "new" / "out"
    rows = generate(PROMPTS, out, model=model, n=2, seed=5, negative="retina")
    names = ["00000.png", "00001.png", "00002.png", "00003.png"]
    assert sorted(p.name for p in out.iterdir()) == [*names, "contact-sheet.png", "manifest.jsonl"]
    assert read_manifest(out / "manifest.jsonl") == rows
    for row in rows:
        assert row["sha256"] == file_sha256(out / row["file"])
        inside = read_provenance(out / row["file"])
        assert inside["synthetic"] == "true"
        assert inside["prompt"] == row["prompt"]
        assert inside["seed"] == str(row["seed"])
        assert inside["model_hash"] == row["model_hash"] == model.generator.model_hash
        assert inside["negative"] == "retina"
        assert (row["width"], row["height"]) == (32, 32)
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.width > 500
    assert read_provenance(out / "contact-sheet.png")["synthetic"] == "true"


def test_the_same_request_gives_the_same_bytes(model, tiny_flow, tmp_path):
    again = TextToImage(load_generator(tiny_flow, "cpu", "float32"))
    for name, which in (("one", model), ("two", again)):
        generate(PROMPTS, tmp_path / name, model=which, seed=3)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_sheet_shows_64_images_at_most(model, tmp_path, monkeypatch):
    titles = []
    sheet = folder.contact_sheet

    def spy(images, captions, columns, *, title, tile):
        titles.append((len(images), title))
        return sheet(images, captions, columns, title=title, tile=tile)

    monkeypatch.setattr(folder, "contact_sheet", spy)
    monkeypatch.setattr(folder, "MOST_ON_SHEET", 2)
    generate(PROMPTS, tmp_path / "out", model=model, n=2, steps=1)
    assert titles[0][0] == 2
    assert "SYNTHETIC" in titles[0][1]
    assert "2 of 4" in titles[0][1]


def test_an_earlier_output_is_replaced_only_when_asked_and_only_if_it_is_one(model, tmp_path):
    out = tmp_path / "out"
    generate(PROMPTS, out, model=model, n=2, steps=1)
    with pytest.raises(VesaliusError, match="exists already"):
        generate(PROMPTS, out, model=model, steps=1)
    generate(["lung"], out, model=model, steps=1, overwrite=True)
    assert len(read_manifest(out / "manifest.jsonl")) == 1
    assert not (out / "00001.png").exists()
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.txt").touch()
    with pytest.raises(VesaliusError, match="not an earlier output"):
        generate(["lung"], own, model=model, steps=1, overwrite=True)
    assert (own / "thesis.txt").exists()


@pytest.mark.parametrize("failing", ["image", "sheet", "manifest"])
def test_a_full_disk_leaves_nothing_and_says_what_to_do(model, tmp_path, monkeypatch, failing):
    calls = []

    def full(real, nth):
        def write(path, *rest):
            calls.append(path)
            real(path, *rest)
            if len(calls) == nth:
                raise OSError(errno.ENOSPC, "No space left on device")

        return write

    if failing == "image":
        monkeypatch.setattr(Path, "write_bytes", full(Path.write_bytes, 2))
    else:
        name = {"sheet": "write_png", "manifest": "write_manifest"}[failing]
        monkeypatch.setattr(folder, name, full(getattr(folder, name), 1))
    with pytest.raises(VesaliusError, match=r"disk is full: free \d+ MB or choose another --out"):
        generate(PROMPTS, tmp_path / "deep" / "out", model=model, steps=1)
    assert calls
    assert not list(tmp_path.iterdir())


def test_an_interruption_leaves_the_earlier_output(model, tmp_path):
    out = tmp_path / "out"
    generate(["lung"], out, model=model, steps=1)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def stop(done, images):
        if done > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(PROMPTS, out, model=model, steps=2, batch_size=1, overwrite=True, on_progress=stop)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_sizes_are_read_as_people_write_them():
    assert checks.parse_size("256") == (256, 256)
    assert checks.parse_size("384x256") == (384, 256)
    assert checks.parse_size((8, 16)) == (8, 16)


@pytest.mark.filterwarnings("ignore:the prompt is too long")
def test_a_model_trained_on_chunks_reads_a_long_prompt_to_its_end(tiny_sd):
    pipe = TextToImage(load_generator(tiny_sd, "cpu"))
    long = " ".join(["chest lung nodule"] * 4)
    assert pipe.warnings(long)
    short = pipe.generate(long.rsplit(" ", 1)[0], steps=2)[0].image
    assert (np.asarray(short) == np.asarray(pipe.generate(long, steps=2)[0].image)).all()
    pipe.generator.settings["caption_chunks"] = 8
    assert not pipe.warnings(long)
    images = [pipe.generate(p, steps=2)[0].image for p in (long, long.rsplit(" ", 1)[0])]
    assert (np.asarray(images[0]) != np.asarray(images[1])).any()


@pytest.fixture(params=FORMATS)
def format(request):
    if request.param == "dicom":
        pytest.importorskip("pydicom")
    return request.param


def test_every_format_has_its_name_its_provenance_and_the_same_bytes_again(model, tmp_path, format):
    for name in ("one", "two"):
        generate(PROMPTS, tmp_path / name, model=model, steps=1, format=format)
    rows = read_manifest(tmp_path / "one" / "manifest.jsonl")
    assert [row["file"] for row in rows] == [f"0000{k}{suffix(format)}" for k in (0, 1)]
    for row in rows:
        path = tmp_path / "one" / row["file"]
        assert row["sha256"] == file_sha256(path)
        told = {k: v for k, v in row.items() if k not in ("file", "sha256")}
        assert read_provenance(path).keys() == told.keys()
        assert read_provenance(path)["prompt"] == row["prompt"]
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_the_sheet_shows_16_bits_as_it_shows_8(model, tmp_path):
    sheets = []
    for format in ("png", "png16"):
        generate(PROMPTS, tmp_path / format, model=model, format=format)
        with Image.open(tmp_path / format / "contact-sheet.png") as sheet:
            assert sheet.format == "PNG"
            sheets.append(np.asarray(sheet, dtype=float).mean(axis=2))
    assert np.abs(sheets[0] - sheets[1]).max() <= 1


def test_16_bits_are_the_same_picture_in_finer_steps(model):
    (eight,) = model.generate(["lung"], seed=2)
    (sixteen,) = model.generate(["lung"], seed=2, bits=16)
    fine, coarse = pixels(sixteen), pixels(eight).mean(axis=2)
    assert sixteen.image.mode == "I;16"
    assert np.abs(fine / 257 - coarse).max() <= 0.5 + 1 / 257
    assert len(np.unique(fine)) > len(np.unique(coarse))  # not 8 bits made wide
    assert np.any(fine % 257)
    assert (sixteen.provenance["bits"], "bits" in eight.provenance) == (16, False)


def test_a_model_of_16_bits_writes_them_unless_told_otherwise(tiny_flow, tmp_path):
    deep = shutil.copytree(tiny_flow, tmp_path / "deep")
    settings = json.loads((deep / "vesalius.json").read_text()) | {"bits": 16}
    (deep / "vesalius.json").write_text(json.dumps(settings))
    pipe = TextToImage(load_generator(deep, "cpu", "float32"))
    pytest.importorskip("pydicom")
    wanted = {"own": (None, 16), "png": ("png", 8), "dicom": ("dicom", 16)}
    for name, (format, bits) in wanted.items():
        (row,) = generate(["lung"], tmp_path / name, model=pipe, steps=1, format=format)
        assert row.get("bits", 8) == bits
    with Image.open(tmp_path / "own" / "00000.png") as image:
        assert image.mode == "I;16"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"format": "tiff"}, "format 'tiff' is none of png, jpeg, png16, dicom"),
        ({"format": "jpeg", "bits": 16}, "jpeg has 8 bits: choose png16 or dicom"),
        ({"format": "png16", "bits": 8}, "png16 has 16 bits"),
        ({"bits": 12}, "bits is 12: 8 or 16"),
    ],
)
def test_formats_that_do_not_exist_are_refused_before_a_model_is_loaded(tmp_path, wrong, message):
    with pytest.raises(VesaliusError, match=message):
        generate(PROMPTS, tmp_path / "out", **wrong)
    assert not list(tmp_path.iterdir())


def test_what_is_generated_can_be_made_into_pairs(model, tmp_path, format):
    from vesalius.pairs.build import PairsSettings, build_pairs
    from vesalius.pairs.readers import ReaderOptions
    from vesalius.pairs.table import read_pairs

    out = tmp_path / "set"
    rows = generate(PROMPTS, out, model=model, n=2, format=format)
    options = PairsSettings(reading=ReaderOptions(window="full", bits=16))
    build_pairs([str(out)], tmp_path / "pairs.parquet", options, samples=0)
    table = read_pairs(tmp_path / "pairs.parquet")
    assert sorted(table.column("caption")) == sorted(row["prompt"] for row in rows)
    first = table.column("key").index(rows[0]["file"])
    again = Image.open(io.BytesIO(table.encoded(first)))
    (sample,) = model.generate(PROMPTS[:1], bits=16 if format == "png16" else 8)
    if format != "jpeg":  # which is not lossless
        assert np.array_equal(np.asarray(again), np.asarray(sample.image))
