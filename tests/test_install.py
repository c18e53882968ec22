"""What a new user does first: install the wheel into an empty environment, and reach an image and evidence."""

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image, ImageFilter

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LARGEST_BYTES = 95_000_000  # registries take 100 MB


def run(folder: Path, *command: str | Path) -> str:
    """What a command says that knows nothing of this environment."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def wheel_in(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def needed(requirements: list[str]) -> dict[str, Distribution]:
    """The installed distributions that requirements without extras come to, with what those need."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found[name] = distribution(name)
        waiting += map(Requirement, found[name].requires or ())
    return found


def link(dist: Distribution, site: Path) -> None:
    """The packages and modules of a distribution in another folder of packages."""
    for name in {path.parts[0] for path in dist.files or ()} - {"..", "__pycache__"}:
        if not (site / name).exists():
            (site / name).symlink_to(Path(str(dist.locate_file(name))))


@pytest.mark.slow
@pytest.mark.ci
def test_wheel_and_sdist_are_accepted_by_registries(built: Path):
    sizes = {path.name: path.stat().st_size for path in built.iterdir()}
    assert len(sizes) == 2
    assert max(sizes.values()) < LARGEST_BYTES, sizes


@pytest.mark.slow
@pytest.mark.ci
def test_the_wheel_gives_an_image_beside_nothing_but_what_it_declares(built: Path, tmp_path: Path):
    """Packages of this environment stand in for those that pip would download, and no others."""
    run(tmp_path, sys.executable, "-m", "venv", "--without-pip", "fresh")
    python = tmp_path / "fresh" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index")
    run(tmp_path, *pip, "--no-deps", wheel_in(built))
    (site,) = (tmp_path / "fresh" / "lib").glob("python3*/site-packages")
    for dist in needed(PROJECT["dependencies"]).values():
        link(dist, site)

    vesalius = python.with_name("vesalius")
    assert run(tmp_path, vesalius, "--version") == f"vesalius {distribution('vesalius').version}\n"
    run(tmp_path, vesalius, "generate", "brain MRI, glioma", "--steps", "2", "--out", "out")
    with Image.open(tmp_path / "out" / "00000.png") as image:
        assert image.size == (256, 256)
    where = run(tmp_path, python, "-c", "import vesalius; print(vesalius.__file__)")
    assert where.startswith(str(site))


@pytest.mark.network
@pytest.mark.slow
def test_the_wheel_in_an_empty_environment_reaches_an_image_and_a_report_with_fid(
    built: Path, tmp_path: Path
):
    rng = np.random.default_rng(0)
    for label in ("eosinophil", "monocyte"):
        (tmp_path / "cells" / label).mkdir(parents=True)
        for k in range(24):
            noise = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
            noise.filter(ImageFilter.GaussianBlur(4)).save(
                tmp_path / "cells" / label / f"{label}-{k}.png"
            )

    run(tmp_path, sys.executable, "-m", "venv", "fresh")
    binaries = tmp_path / "fresh" / "bin"
    wheel = f"vesalius[eval] @ {wheel_in(built).as_uri()}"
    run(tmp_path, binaries / "pip", "install", "-q", wheel, "-c", ROOT / "constraints.txt")
    vesalius = binaries / "vesalius"
    run(tmp_path, vesalius, "generate", "brain MRI, glioma", "--out", "out")
    assert list((tmp_path / "out").glob("*.png"))
    run(tmp_path, vesalius, "info", "--get", "inception")
    run(tmp_path, vesalius, "pairs", "cells", "--out", "pairs.parquet")
    run(
        tmp_path,
        vesalius,
        "plan",
        "--pairs",
        "pairs.parquet",
        "--per-class",
        "10",
        "--out",
        "plan.csv",
    )
    run(tmp_path, vesalius, "synthesize", "plan.csv", "--out", "set")
    sets = ("--real", "pairs.parquet", "--synthetic", "set")
    said = run(tmp_path, vesalius, "evaluate", *sets, "--out", "evidence")

    metrics = json.loads((tmp_path / "evidence" / "metrics.json").read_text())
    figures = metrics["sets"]["set"]["figures"]
    fid = [row["value"] for row in figures if row["metric"] == "fid" and row["of"] == "all"]
    assert fid and all(value is not None and value > 0 for value in fid), said
    assert "FID" in (tmp_path / "evidence" / "report.html").read_text()
