"""What the process with the model draws is what the commands draw, whenever it was killed before."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vesalius.sample.folder import digest, generate_to_folder
from vesalius.sample.inpaint import inpaint_to_folder
from vesalius.sample.interpolate import interpolate_to_folder
from vesalius.sample.settings import GenerateSettings, InpaintSettings, InterpolateSettings
from vesalius.serve.bodies import parse_body
from vesalius.serve.database import Made
from vesalius.serve.files import encoded
from vesalius.serve.messages import Config, Order
from vesalius.serve.worker import Worker

SHARED = {"model": "tiny", "seed": 3, "steps": 3}


@pytest.fixture
def worker(tiny_flow):
    return Worker(Config({"tiny": str(tiny_flow)}, {}, device="cpu"), io.StringIO())


@pytest.fixture
def source(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "source.png")
    return tmp_path / "source.png"


def drawn(worker, folder, body, done=0, **pictures):
    """The messages of a job, and the files that it has written."""
    body = parse_body(SHARED | body).model_dump(mode="json")
    files = [str(folder / f"{k}.png") for k in range(parse_body(body).images)]
    before = worker.channel.tell()
    worker.serve(Order("j", body, files, done, {name: str(p) for name, p in pictures.items()}))
    worker.channel.seek(before)
    messages = [json.loads(line) for line in worker.channel.read().splitlines()]
    return messages, files


def dicom(path, values, **tags):
    """A file with these stored values of 12 bits."""
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.add_new("PixelData", "OW", values.tobytes())
    dataset.save_as(path, enforce_file_format=True)


def bytes_of(folder, rows):
    return [(folder / row["file"]).read_bytes() for row in rows]


@pytest.mark.parametrize(
    "kind", ["generate", "compose", "image-to-image", "interpolate", "inpaint"]
)
def test_images_are_those_of_the_commands(worker, tiny_flow, tmp_path, source, kind):
    shared = {"model": str(tiny_flow), "seed": 3, "steps": 3, "device": "cpu"}
    out, pictures = tmp_path / "command", {}
    if kind == "generate":
        body = {"prompt": "chest x-ray", "n": 6}
        made = generate_to_folder("chest x-ray", out, GenerateSettings(**shared, n=6))
    elif kind == "compose":
        body = {"parts": [{"prompt": "chest", "weight": 0.25}, {"prompt": "lung"}], "n": 2}
        made = generate_to_folder("chest:0.25 AND lung:1", out, GenerateSettings(**shared, n=2))
    elif kind == "image-to-image":
        body = {"prompt": "chest", "image": {"data": ""}, "strength": 0.7, "n": 2}
        asked = GenerateSettings(**shared, n=2, image=source, strength=0.7)
        made, pictures = generate_to_folder("chest", out, asked), {"image": source}
    elif kind == "interpolate":
        body = {"first": "chest", "second": "lung", "frames": 5}
        made = interpolate_to_folder("chest", "lung", out, InterpolateSettings(**shared, frames=5))
    else:
        body = {"prompt": "lung", "image": {"data": ""}, "ellipses": ["0.5,0.5,0.3,0.3"], "n": 2}
        asked = InpaintSettings(**shared, n=2, ellipses=("0.5,0.5,0.3,0.3",))
        made, pictures = inpaint_to_folder([source], "lung", out, asked), {"image": source}
    messages, files = drawn(worker, tmp_path / "job", body | {"kind": kind}, **pictures)
    assert messages[-1]["at"] == "done", messages[-1]
    found = [digest(Path(path).read_bytes()) for path in files]
    assert found == [digest(content) for content in bytes_of(out, made.rows)]
    images = [message for message in messages if message["at"] == "image"]
    assert [message["sha256"] for message in images] == found


@pytest.mark.parametrize("done", [1, 4, 5])
def test_a_job_goes_on_where_it_was_killed(worker, tmp_path, done):
    body = {"kind": "generate", "prompt": "chest", "n": 6}
    _, whole = drawn(worker, tmp_path / "whole", body)
    messages, rest = drawn(worker, tmp_path / "rest", body, done)
    assert [m["number"] for m in messages if m["at"] == "image"] == list(range(done, 6))
    assert not (tmp_path / "rest" / "0.png").exists()
    for k in range(done, 6):
        assert Path(whole[k]).read_bytes() == Path(rest[k]).read_bytes()
    steps = [message["done"] for message in messages if message["at"] == "step"]
    assert steps == sorted(steps)
    assert steps[-1] == 6


def test_what_is_painted_into_dicom_keeps_its_values_and_spacing(worker, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    values = np.random.default_rng(0).integers(0, 4096, (32, 32), np.uint16)
    source, tags = tmp_path / "ct.dcm", {"PixelSpacing": ["0.7", "0.7"]}
    dicom(source, values, **tags, RescaleIntercept="-1024", RescaleSlope="1", Modality="CT")
    body = {"kind": "inpaint", "prompt": "lung", "ellipses": ["0.5,0.5,0.2,0.2"]}
    given = body | {"image": {"data": ""}}
    messages, [file] = drawn(worker, tmp_path / "job", given, image=source)
    [made] = [message for message in messages if message["at"] == "image"]
    row = Made(
        **{name: made[name] for name in ("number", "prompt", "seed", "provenance", "sha256")},
        **{"window": made["window"] and tuple(made["window"]), "kept": made["kept"]},
        **{"seq": 0, "id": "0", "job": "j", "owner": "ann", "label": "", "model": "tiny"},
        **{"body": body, "created": 0.0},
    )
    new = pydicom.dcmread(io.BytesIO(encoded(row, Path(file), "dicom")))
    assert (new.BitsStored, new.RescaleIntercept, list(new.PixelSpacing)) == (12, -1024, [0.7, 0.7])
    outside = np.ones((32, 32), bool)
    outside[8:24, 8:24] = False
    assert np.array_equal(new.pixel_array[outside], values[outside])


def test_previews_are_small_pictures_of_what_comes(worker, tmp_path):
    messages, _ = drawn(worker, tmp_path, {"kind": "generate", "prompt": "chest", "n": 2})
    looks = [look for m in messages if m["at"] == "step" for look in m["previews"]]
    assert [number for number, _ in looks[:2]] == [0, 1]
    image = Image.open(io.BytesIO(base64.b64decode(looks[0][1])))
    assert image.mode == "RGB"
    assert image.width < 32


def test_errors_are_told_and_the_next_job_is_drawn(worker, tmp_path):
    [*_, last], _ = drawn(worker, tmp_path, {"kind": "generate", "prompt": "a", "size": "33"})
    assert last["at"] == "failed"
    assert "multiples of" in last["error"]
    for gone in ({"model": "other"}, {"adapters": [{"id": "none"}]}):
        [last], _ = drawn(worker, tmp_path, {"kind": "generate", "prompt": "a", **gone})
        assert "no longer offered" in last["error"]
    worker.cancelled.add("j")
    [last], _ = drawn(worker, tmp_path, {"kind": "generate", "prompt": "a"})
    assert last["at"] == "cancelled"
    worker.cancelled.clear()
    [*_, last], _ = drawn(worker, tmp_path, {"kind": "generate", "prompt": "a"})
    assert last["at"] == "done"
