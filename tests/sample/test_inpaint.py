"""Inpainting: what the mask covers is new, in every kind of model, and all else stays as it was."""

import json

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from vesalius.commands.inpaint import inpaint as command
from vesalius.core.manifest import file_sha256, read_manifest
from vesalius.errors import VesaliusError
from vesalius.images.provenance import read_provenance
from vesalius.models.adapters import add_lora, lora_tensors, save_lora
from vesalius.models.generator import load_generator
from vesalius.sample.canvas import Canvas, frame, read_canvas
from vesalius.sample.draw import covered
from vesalius.sample.generate import load
from vesalius.sample.inpaint import inpaint, inpaint_to_folder
from vesalius.sample.interpolate import interpolate
from vesalius.sample.masks import Mask, make_mask, parse_ellipse
from vesalius.sample.samplers import NAMES
from vesalius.sample.settings import InpaintSettings, InterpolateSettings
from vesalius.sample.start import read_start

HEALTHY, ILL = "a chest x-ray", "lung nodule"

ELLIPSE = "0.4,0.5,0.2,0.25"


def arrays(samples):
    return [np.asarray(sample.image).astype(int) for sample in samples]


def canvas_of(pixels):
    return Canvas(pixels, "0" * 64)


def test_a_cell_is_drawn_anew_where_any_of_its_pixels_is_masked():
    mask = np.zeros((1, 16, 24), bool)
    mask[0, 7, 8] = mask[0, 8, 23] = True
    assert covered(mask, 8).tolist() == [[[0, 1, 0], [0, 0, 1]]]


@pytest.mark.parametrize("kind", ["colour", "grey", "deep"])
# as the model's own, of no size that it can make, and too large for it
@pytest.mark.parametrize("size", [(32, 32), (45, 37), (90, 133)])
def test_pixels_outside_the_mask_stay_to_the_bit(each_kind, kind, size, texture, saved):
    channels, dtype = (3,) if kind == "colour" else (), np.uint16 if kind == "deep" else np.uint8
    pixels = texture(*size, *channels, dtype=dtype)
    canvas = read_canvas(saved("image.png", pixels))
    mask = make_mask(canvas.size, ellipses=[parse_ellipse(ELLIPSE)])
    [sample] = inpaint(each_kind, [canvas], [mask], ILL, InpaintSettings(feather=2))
    painted = np.asarray(sample.image)
    assert (painted.shape, painted.dtype) == (pixels.shape, pixels.dtype)
    assert np.array_equal(painted[~mask.pixels], pixels[~mask.pixels])
    assert (painted[mask.pixels] != pixels[mask.pixels]).mean() > 0.9


def test_the_scale_is_kept_where_the_model_bears_it(flow):
    assert frame((32, 32), flow).padded == (32, 32)
    near = frame((45, 37), flow)
    assert (near.scaled, near.padded) == ((45, 37), (48, 48))
    assert frame((133, 90), flow).scaled == (47, 32)
    assert frame((12, 10), flow).scaled == (38, 32)


def test_what_is_drawn_lies_where_the_mask_is(flow, saved):
    """Scaled, padded and cut out again, nothing may shift: strength 0 gives the image back."""
    flat = np.full((90, 133, 3), 40, np.uint8)
    flat[:, 66:] = 200
    canvas = read_canvas(saved("image.png", flat))
    seen = []
    real = flow.draw

    def spy(requests, *rest):
        seen.extend(request.start for request in requests)
        return real(requests, *rest)

    flow.draw = spy
    try:
        list(
            inpaint(flow, [canvas], [make_mask((133, 90), ellipses=[parse_ellipse(ELLIPSE)])], ILL)
        )
    finally:
        del flow.draw
    [start] = seen
    assert start.picture.size == (48, 32)
    picture = np.asarray(start.picture)[..., 0]
    assert (picture[:, 20] < 60).all()
    assert (picture[:, 27] > 180).all()
    rows, columns = np.nonzero(start.mask)
    assert rows.mean() == pytest.approx(0.5 * 32 - 0.5, abs=0.6)
    assert columns.mean() == pytest.approx(0.4 * 47 - 0.5, abs=0.6)


def test_a_deep_image_is_painted_within_what_is_shown_of_it(flow, texture, saved):
    """Twelve bits in a file of 16: what is drawn is neither 16 times too bright nor of 256 greys."""
    pixels = texture(32, 32, dtype=np.uint16) // 16
    canvas = read_canvas(saved("image.png", pixels))
    mask = make_mask((32, 32), ellipses=[parse_ellipse("0.5,0.5,0.4,0.4")])
    [sample] = inpaint(flow, [canvas], [mask], ILL, InpaintSettings(feather=0))
    new = np.asarray(sample.image)[mask.pixels]
    assert new.max() <= pixels.max()
    # of 256 greys over this range, every 16th value would be left
    assert len(np.unique(new)) > 2 * np.ptp(new.astype(int)) / 16


@pytest.mark.parametrize("sampler", NAMES)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_every_sampler_paints(each_kind, sampler, strength, texture):
    canvas = canvas_of(texture(32, 32, 3))
    mask = make_mask((32, 32), ellipses=[parse_ellipse(ELLIPSE)])
    settings = InpaintSettings(strength=strength, sampler=sampler)
    images = arrays(inpaint(each_kind, [canvas] * 2, [mask] * 2, ILL, settings))
    assert np.array_equal(images[0][~mask.pixels], canvas.pixels[~mask.pixels])
    assert not np.array_equal(images[0], images[1])  # another seed


def test_prompts_are_composed_under_a_mask_too(flow, texture):
    canvas, mask = canvas_of(texture(32, 32, 3)), Mask(np.ones((32, 32), bool))
    prompts = (ILL, f"{ILL} AND retina:8", f"{ILL}:1 AND retina:0")
    settings = InpaintSettings(guidance=30.0)
    alone, both, none = (arrays(inpaint(flow, [canvas], [mask], p, settings))[0] for p in prompts)
    assert np.abs(both - alone).max() > 1
    assert np.abs(none - alone).max() <= 1


def test_the_folder_holds_results_masks_manifest_and_sheet(flow, tmp_path, texture, saved):
    files = [
        saved("colour.png", texture(32, 40, 3)),
        saved("deep.png", texture(40, 32, dtype=np.uint16)),
    ]
    out, progress = tmp_path / "out", []
    settings = InpaintSettings(ellipses=(ELLIPSE, "0.8,0.8,0.1,0.1"), n=2, seed=5)
    rows = inpaint_to_folder(
        files, ILL, out, settings, model=flow, on_progress=lambda *done: progress.append(done)
    ).rows
    names = [f"{k:05d}.png" for k in range(4)]
    others = ["contact-sheet.png", "manifest.jsonl", "mask-00000.png", "mask-00001.png"]
    assert sorted(path.name for path in out.iterdir()) == [*names, *others]
    assert read_manifest(out / "manifest.jsonl") == json.loads(json.dumps(rows))
    assert [row["seed"] for row in rows] == [5, 6, 7, 8]
    assert progress[-1] == (4, 4)
    for k, row in enumerate(rows):
        source = files[k // 2]
        assert row["start_image"] == file_sha256(source)
        assert row["ellipses"] == f"{ELLIPSE}; 0.8,0.8,0.1,0.1"
        assert row["sha256"] == file_sha256(out / row["file"])
        inside = read_provenance(out / row["file"])
        assert (inside["synthetic"], inside["start_image"]) == ("true", row["start_image"])
        with (
            Image.open(out / row["file"]) as new,
            Image.open(source) as old,
            Image.open(out / row["mask_file"]) as mask,
        ):
            kept = np.asarray(mask) == 0
            assert np.array_equal(np.asarray(new)[kept], np.asarray(old)[kept])
            assert not np.array_equal(np.asarray(new), np.asarray(old))
    inpaint_to_folder(files, ILL, tmp_path / "again", settings, model=flow)
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def dicom(path, values, **tags):
    """A file with these stored values, as a scanner writes it."""
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = 3 if values.ndim == 3 else 1
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    bits = 8 * values.dtype.itemsize
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PhotometricInterpretation = "RGB" if values.ndim == 3 else "MONOCHROME2"
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "4711"
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.add_new("PixelData", "OW" if bits == 16 else "OB", values.tobytes())
    dataset.save_as(path, enforce_file_format=True)
    return path


CT = {"Modality": "CT", "RescaleIntercept": "-1024", "RescaleSlope": "1"}


def test_dicom_is_painted_and_written_as_dicom(flow, tmp_path, texture):
    """Values outside the mask are those that the file stores, and mean what they meant there."""
    pydicom = pytest.importorskip("pydicom")
    stored = texture(32, 40, dtype=np.uint16) // 16
    window = {"WindowCenter": "40", "WindowWidth": "400", "BitsStored": 12}
    files = [
        dicom(tmp_path / "ct.dcm", stored, **CT, **window, PixelSpacing=["0.7", "0.7"]),
        dicom(tmp_path / "white", stored, **window, PhotometricInterpretation="MONOCHROME1"),
        dicom(tmp_path / "signed.dcm", (stored.astype(np.int16) - 2048), **CT),
        dicom(tmp_path / "us.dcm", texture(32, 40), Modality="US"),
        dicom(tmp_path / "colour.dcm", texture(32, 40, 3), Modality="ES"),
    ]
    expected = [stored, stored, stored.astype(np.int16) - 2048,
                texture(32, 40), texture(32, 40, 3)]  # fmt: skip
    settings = InpaintSettings(ellipses=(ELLIPSE,), seed=5)
    rows = inpaint_to_folder(files, ILL, tmp_path / "out", settings, model=flow).rows
    studies = set()
    for row, path, values in zip(rows, files, expected, strict=True):
        assert row["file"].endswith(".dcm")
        assert row["start_image"] == file_sha256(path)
        made = pydicom.dcmread(tmp_path / "out" / row["file"])
        assert "Secondary Capture" in made.SOPClassUID.name
        assert (made.PatientName, made.SyntheticData) == ("SYNTHETIC^VESALIUS", "YES")
        assert "drawn from another image" in made.DerivationDescription
        assert made.Modality == row.get("modality", "OT")
        with Image.open(tmp_path / "out" / row["mask_file"]) as mask:
            kept = np.asarray(mask) == 0
        assert made.pixel_array.dtype == values.dtype
        assert np.array_equal(made.pixel_array[kept], values[kept])
        assert not np.array_equal(made.pixel_array, values)
        studies.add(made.StudyInstanceUID)
        was = pydicom.dcmread(path)
        for name in ("BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation"):
            assert made[name].value == was[name].value
        for name in ("RescaleSlope", "RescaleIntercept", "PixelSpacing"):
            assert made.get(name) == was.get(name)
        if "WindowCenter" in was:
            assert (made.WindowCenter, made.WindowWidth) == (40, 400)
    assert len(studies) == 1
    assert [row.get("modality") for row in rows] == ["CT", None, "CT", "US", "ES"]


def test_the_spacing_of_pixels_that_are_made_square_is_that_of_the_new_ones(
    flow, tmp_path, texture
):
    pydicom = pytest.importorskip("pydicom")
    values = texture(16, 40, dtype=np.uint16) // 16
    tags = {"BitsStored": 12, "PixelSpacing": ["1.0", "0.5"]}
    path = dicom(tmp_path / "mr.dcm", values, Modality="MR", **tags)
    settings = InpaintSettings(ellipses=(ELLIPSE,))
    (row,) = inpaint_to_folder([path], ILL, tmp_path / "out", settings, model=flow).rows
    made = pydicom.dcmread(tmp_path / "out" / row["file"])
    assert made.pixel_array.shape == (32, 40)
    assert list(made.PixelSpacing) == [0.5, 0.5]


def test_it_is_told_why_stored_values_are_not_kept(flow, tmp_path, texture):
    pydicom = pytest.importorskip("pydicom")
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.add_new(0x00283006, "US", [min(65535, 20 * k) for k in range(4096)])
    table.ModalityLUTType = "US"
    stored = texture(32, 40, dtype=np.uint16) // 16
    deep = texture(32, 40, 3).astype(np.uint16) * 257
    files = [
        dicom(tmp_path / "plain.dcm", stored, BitsStored=12),
        dicom(tmp_path / "table.dcm", stored, BitsStored=12, ModalityLUTSequence=[table]),
        dicom(tmp_path / "colour.dcm", deep),
        dicom(tmp_path / "square.dcm", stored[:16], BitsStored=12, PixelSpacing=["1.0", "0.5"]),
        dicom(tmp_path / "another.dcm", stored[1:17], BitsStored=12, PixelSpacing=["1.0", "0.5"]),
    ]
    settings, said = InpaintSettings(ellipses=(ELLIPSE,)), []
    inpaint_to_folder(files, ILL, tmp_path / "o", settings, model=flow, on_warning=said.append)
    told = [line for line in said if "stored values" in line]
    assert [line.partition(":")[0] for line in told] == [
        "table.dcm", "colour.dcm", "square.dcm and 1 more"
    ]  # fmt: skip
    reasons = ("modality table", "colour has 16 bits", "from 40x16 to 40x32")
    for line, why in zip(told, reasons, strict=True):
        assert why in line


def test_an_image_to_start_from_may_be_dicom(tmp_path, texture):
    path = dicom(tmp_path / "us.dcm", texture(32, 40), Modality="US", WindowCenter="128",
                 WindowWidth="256")  # fmt: skip
    picture = np.asarray(read_start(path).picture)
    assert np.array_equal(picture, np.repeat(texture(32, 40)[..., None], 3, 2))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(VesaliusError, match=r"us\.dcm cannot be read as an image: damaged"):
        read_start(path)
    with pytest.raises(VesaliusError, match=r"us\.dcm cannot be read as an image: damaged"):
        read_canvas(path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": []}, "no image"),
        ({"prompt": " "}, "prompt is empty"),
        ({"ellipses": ()}, "give --mask or --ellipse"),
        ({"strength": 2.0}, "strength is 2.0"),
        ({"feather": -1}, "feather is -1"),
        ({"n": 0}, "-n is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"size": "64"}, "leave out --size"),
    ],
)
def test_what_cannot_be_painted_is_told_before_a_model_is_loaded(
    tmp_path, wrong, message, texture, saved
):
    file = saved("image.png", texture(32, 32, 3))
    options = {"images": [file], "prompt": ILL, "ellipses": (ELLIPSE,)} | wrong
    images, prompt = options.pop("images"), options.pop("prompt")
    with pytest.raises(VesaliusError, match=message):
        settings = InpaintSettings(model="no such model", **options)
        inpaint_to_folder(images, prompt, tmp_path / "out", settings)
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_a_mask_of_another_size_is_one_line_at_the_command_line(
    tiny_flow, tmp_path, texture, saved
):
    app = typer.Typer()
    app.command()(command)
    image = saved("image.png", texture(32, 32, 3))
    mask = saved("mask.png", np.full((16, 32), 255, np.uint8))
    told = [image, "--prompt", ILL, "--out", tmp_path / "out", "--model", tiny_flow]
    result = CliRunner().invoke(app, [*map(str, told), "--mask", str(mask)])
    assert isinstance(result.exception, VesaliusError)
    assert "mask.png is 32x16 and the image 32x32" in str(result.exception)
    result = CliRunner().invoke(app, [*map(str, told), "--ellipse", ELLIPSE, "-n", "2"])
    assert result.exit_code == 0
    assert len(read_manifest(tmp_path / "out" / "manifest.jsonl")) == 2


def test_several_adapters_take_part_in_all_of_it(tiny_sd, tmp_path, texture, saved):
    files = []
    for k in range(2):
        parts = load_generator(tiny_sd, "cpu", "float32")
        torch.manual_seed(k)
        for parameter in add_lora(parts.unet, None, 2, 2):
            torch.nn.init.normal_(parameter)
        tensors = lora_tensors(parts.unet, None)
        files.append(str(save_lora(tmp_path / f"{k}.safetensors", tensors, {"alpha": 2})))
    canvas = canvas_of(texture(32, 32, 3))
    mask = make_mask((32, 32), ellipses=[parse_ellipse(ELLIPSE)])
    start = read_start(saved("image.png", texture(32, 32, 3)), 0.5)
    seen = []
    for adapters in ([], files[:1], files):
        model = load(str(tiny_sd), "cpu", "float32", adapters)
        samples = [
            *model.generate(ILL, steps=3, start=start),
            *inpaint(model, [canvas], [mask], ILL, InpaintSettings(steps=3)),
            *interpolate(model, HEALTHY, ILL, InterpolateSettings(frames=2, steps=3)),
        ]
        assert all(sample.adapters.count(" + ") == max(0, len(adapters) - 1) for sample in samples)
        seen.append(arrays(samples))
    for one, two in ((0, 1), (1, 2)):
        changes = [np.abs(a - b).max() for a, b in zip(seen[one], seen[two], strict=True)]
        assert min(changes) > 1
