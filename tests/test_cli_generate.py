"""`vesalius generate`: what a user gets, and one clear line for everything that can go wrong."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vesalius.core.manifest import read_manifest
from vesalius.models.locate import bundled_models

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def here() -> list[str]:
    return sorted(os.listdir())


def test_images_manifest_and_sheet_in_the_default_folder(run_cli, tiny_flow):
    code, out, err = run_cli("generate", "chest x-ray", "lung", "-n", 2, "--model", tiny_flow)
    assert (code, err.count("\n"), err[:11]) == (0, 1, "precision: ")
    assert out == "4 synthetic images in vesalius-out: see contact-sheet.png\n"
    assert here() == ["vesalius-out"]
    assert [row["seed"] for row in read_manifest("vesalius-out/manifest.jsonl")] == [0, 1, 2, 3]


def test_every_option_arrives(run_cli, tiny_flow):
    options = {
        "--seed": 7,
        "--steps": 2,
        "--guidance": 3.5,
        "--negative": "retina",
        "--size": "48x32",
        "--out": "mine",
        "--device": "cpu",
        "--dtype": "float32",
        "--batch-size": 1,
        "--model": tiny_flow,
    }
    flat = [part for item in options.items() for part in item]
    assert run_cli("generate", "lung", *flat)[0] == 0
    (row,) = read_manifest("mine/manifest.jsonl")
    expected = {"seed": 7, "steps": 2, "guidance": 3.5, "negative": "retina"}
    assert row | expected | {"width": 48, "height": 32} == row


@pytest.mark.parametrize(
    ("format", "name", "mode"),
    [("jpeg", "00000.jpg", "RGB"), ("png16", "00000.png", "I;16"), (None, "00000.png", "RGB")],
)
def test_the_format_is_chosen(run_cli, tiny_flow, format, name, mode):
    arguments = ["--format", format] if format else []
    assert run_cli("generate", "lung", "--model", tiny_flow, *arguments)[0] == 0
    assert sorted(os.listdir("vesalius-out")) == [name, "contact-sheet.png", "manifest.jsonl"]
    with Image.open(f"vesalius-out/{name}") as image:
        assert image.mode == mode


def test_dicom_is_written_with_its_depth(run_cli, tiny_flow):
    pydicom = pytest.importorskip("pydicom")
    arguments = ["--model", tiny_flow, "--format", "dicom", "--bits", 16]
    assert run_cli("generate", "lung", *arguments)[0] == 0
    assert pydicom.dcmread("vesalius-out/00000.dcm").BitsStored == 16


def test_without_pydicom_dicom_is_refused_at_once(run_cli, tiny_flow, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    code, _, err = run_cli("generate", "lung", "--model", tiny_flow, "--format", "dicom")
    assert code == 2
    assert err == (
        "error: DICOM needs pydicom, which is not installed: pip install 'vesalius[dicom]'\n"
    )
    assert here() == []


def test_an_image_to_start_from_is_followed_as_far_as_strength_says(run_cli, tiny_flow):
    flat = Image.new("RGB", (32, 32), (200, 60, 60))
    flat.save("start.png")
    far = {}
    for strength in (0, 1):
        out = f"out{strength}"
        arguments = ["--image", "start.png", "--strength", strength, "--out", out]
        assert run_cli("generate", "lung", "--model", tiny_flow, *arguments)[0] == 0
        with Image.open(f"{out}/00000.png") as image:
            far[strength] = np.asarray(image, dtype=float)
        (row,) = read_manifest(f"{out}/manifest.jsonl")
        assert row["strength"] == strength
    # nothing changed: a flat image comes back flat, as the autoencoder makes it (its edge aside)
    inner = (slice(8, 24), slice(8, 24))
    assert far[0][inner].std(axis=(0, 1)).max() < far[1][inner].std(axis=(0, 1)).max()


def test_lost_words_are_a_warning(run_cli, tiny_flow):
    code, _, err = run_cli("generate", "lung " * 14 + "effusion", "--model", tiny_flow)
    assert code == 0
    assert err.startswith("warning: ")
    assert err.splitlines()[0].endswith("will not read: effusion")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lung", "--model", "nonsense"], "unknown model 'nonsense': bundled models"),
        (["lung", "--model", "./missing"], "there is no folder ./missing"),
        ([""], "a prompt is empty"),
        ([" \t "], "a prompt is empty"),
        (["a" * 10_000], "10,000 characters, and 2,000 are the most"),
        (["lung", "-n", 0], "-n is 0"),
        (["lung", "-n", -3], "-n is -3"),
        (["lung", "--steps", -4], "steps is -4"),
        (["lung", "--seed", -1], "seed is -1"),
        (["lung", "--size", 100], "multiples of 16"),
        (["lung", "--size", 0], "too small"),
        (["lung", "--size", -8], "too small"),
        (["lung", "--size", 100_000], "too large"),
        (["lung", "--size", "huge"], "neither like"),
        (["lung", "--device", "toaster"], "not a device"),
        (["lung", "--dtype", "int3"], "not a dtype"),
        (["lung", "--out", "/dev/null/x"], "cannot write into /dev/null"),
        (["lung", "--format", "gif"], "none of png, jpeg, png16, dicom"),
        (["lung", "--format", "jpeg", "--bits", 16], "jpeg has 8 bits"),
        (["lung", "--image", "missing.png"], "missing.png cannot be read"),
        (["lung", "--strength", 0.5], "name it by --image"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run_cli, tiny_flow, arguments, message):
    if "--model" not in arguments:
        arguments = [*arguments, "--model", tiny_flow]
    code, out, err = run_cli("generate", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert here() == []


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: (path / "model_index.json").unlink(), "model_index.json is missing"),
        (lambda path: (path / UNET).unlink(), f"{UNET} is missing"),
        (lambda path: (path / UNET).write_bytes(b"\0" * 99), "not a safetensors file"),
        (lambda path: os.truncate(path / UNET, 2000), "it is cut short"),
        (lambda path: (path / UNET).write_bytes(b"PK\x03\x04" + b"\0" * 99), "zip archive"),
        (lambda path: (path / UNET).write_bytes(b"\x80\x04" + b"\0" * 99), "pickle"),
        (lambda path: (path / "unet/config.json").write_text("{"), "cannot be read as JSON"),
        (lambda path: (path / "vesalius.json").write_text('{"steps": "x"}'), "steps"),
    ],
)
def test_broken_models_are_one_line_and_exit_code_2(
    run_cli, tiny_flow, tmp_path, break_it, message
):
    import shutil

    model = shutil.copytree(tiny_flow, tmp_path / "model")
    break_it(model)
    code, out, err = run_cli("generate", "lung", "--model", model)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert here() == []


def test_an_existing_folder_is_kept_unless_told(run_cli, tiny_flow):
    assert run_cli("generate", "lung", "--model", tiny_flow)[0] == 0
    code, _, err = run_cli("generate", "lung", "--model", tiny_flow)
    assert code == 2
    assert "vesalius-out exists already: choose another --out, or pass --overwrite" in err
    assert run_cli("generate", "lung", "--model", tiny_flow, "--overwrite")[0] == 0
    assert here() == ["vesalius-out"]


def test_a_full_disk_is_one_line_and_leaves_nothing(run_cli, tiny_flow, monkeypatch):
    def full(path, *_):
        with path.open("wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    code, _, err = run_cli("generate", "lung", "--model", tiny_flow)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: the disk is full: free ")
    assert here() == []


def _wait_until_it_writes(process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 600  # loading takes seconds; on a busy machine minutes
    while not here() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert any(name.endswith(".tmp") for name in here()), "generation has not begun"


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_leaves_nothing(tiny_flow):
    command = ["generate", "lung", "-n", "5000", "--steps", "100", "--model", str(tiny_flow)]
    with subprocess.Popen(
        [sys.executable, "-m", "vesalius", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a test run in the background inherits that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            _wait_until_it_writes(process)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate()
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted: nothing was written"
    assert here() == []


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.skipif("mini" not in bundled_models(), reason="mini is not in this source tree")
def test_the_bundled_model_needs_no_options_and_no_network(run_cli, monkeypatch):
    import socket

    def refuse(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    code, _, err = run_cli("generate", "a chest X-ray")
    assert code == 0
    assert [line for line in err.splitlines() if not line.startswith("precision: ")] == []
    (row,) = read_manifest("vesalius-out/manifest.jsonl")
    assert row["model"] == "mini"


def test_words_that_were_not_quoted_are_one_line(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_cli("generate", "chest", "x-ray", "pneumonia")
    assert (code, err.count("\n")) == (2, 1)
    assert 'as in "chest x-ray pneumonia"' in err


@pytest.mark.parametrize("model", ["run/generator", "here/nothing"])
def test_a_missing_folder_is_no_hub_id(run_cli, tmp_path, monkeypatch, model):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    code, _, err = run_cli("generate", "lung", "--model", model)
    assert (code, err) == (2, f"error: there is no folder {model}\n")
