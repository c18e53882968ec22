"""The repository keeps its own rules: versions, packaging, pins, no pickle, no broken links."""

import ast
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vesalius

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "vesalius"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LARGEST_FILE_BYTES = 95_000_000  # hosts refuse 100 MB

PICKLING_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
PICKLING_CALLS = {"torch.load", "torch.save", "torch.jit.load", "pd.read_pickle"}
PICKLE_ALLOWED = {"src/vesalius/models/legacy.py"}  # the door for other people's .pt files


def committed_files() -> list[Path]:
    """What git tracks or would add; skips where there is no git checkout (an sdist, say)."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_version_is_the_installed_one():
    assert vesalius.__version__ == version("vesalius")


@pytest.mark.parametrize("target", ["wheel", "sdist"])
def test_package_data_is_shipped(target):
    """Every file under src/vesalius that is committed is in the wheel and in the sdist."""
    if target == "wheel":
        from hatchling.builders.wheel import WheelBuilder as Builder
    else:
        from hatchling.builders.sdist import SdistBuilder as Builder
    builder = Builder(str(ROOT))
    shipped = {Path(file.path).resolve() for file in builder.recurse_included_files()}
    wanted = {path for path in committed_files() if path.is_relative_to(PACKAGE)}
    assert wanted, "no committed files under src/vesalius"
    assert sorted(str(path.relative_to(ROOT)) for path in wanted - shipped) == []


def test_no_file_is_too_large():
    large = [
        p.relative_to(ROOT) for p in committed_files() if p.stat().st_size > LARGEST_FILE_BYTES
    ]
    assert large == []


def pickling(source: str) -> list[str]:
    """What in a module reads or writes pickles, as "line: what"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] in PICKLING_MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [f"{module}.{a.name}" for a in node.names]
            if module.split(".")[0] not in PICKLING_MODULES:
                names = [name for name in names if name in PICKLING_CALLS]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            allows = any(
                k.arg == "allow_pickle"
                and not (isinstance(k.value, ast.Constant) and not k.value.value)
                for k in node.keywords
            )
            unsafe = any(
                k.arg in ("use_safetensors", "safe_serialization")
                and isinstance(k.value, ast.Constant)
                and k.value.value is False
                for k in node.keywords
            )
            if called in PICKLING_CALLS or called.endswith("_pickle") or allows or unsafe:
                names = [called]
        found += [f"{node.lineno}: {name}" for name in names]  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("import pickle", True),
        ("from joblib import dump", True),
        ("from torch import load", True),
        ("import torch\ntorch.load('x.pt', weights_only=True)", True),
        ("import numpy as np\nnp.load('x.npy', allow_pickle=True)", True),
        ("import numpy as np\nnp.load('x.npy', allow_pickle=False)", False),
        ("model.save_pretrained('x', safe_serialization=False)", True),
        ("'''torch.load is not used'''\nfrom safetensors.torch import load_file", False),
    ],
)
def test_the_pickle_detector(source, caught):
    assert bool(pickling(source)) is caught


def test_no_pickle_in_the_package():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name not in PICKLE_ALLOWED and (lines := pickling(path.read_text(encoding="utf-8"))):
            found[name] = lines
    assert found == {}


STAGES = ("train", "sample", "evaluate", "study", "serve")
BELOW = {  # who may not be imported by whom: imports run one way
    "io": (*STAGES, "augment", "models", "data"),
    "data": (*STAGES, "augment"),
    "models": (*STAGES, "augment"),
    **{stage: (*(other for other in STAGES if other != stage), "augment") for stage in STAGES},
}


def imported(source: str) -> set[str]:
    """The rooms of the package that a module imports, wherever in it it does."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return {name.split(".")[1] for name in names if name.startswith("vesalius.")}


def test_imports_run_one_way():
    """No stage imports another, nothing below imports a stage; only `augment` strings them together."""
    assert imported("def f():\n    from vesalius import train") == {"train"}
    wrong = {}
    for room, banned in BELOW.items():
        for path in sorted((PACKAGE / room).rglob("*.py")):
            if bad := imported(path.read_text(encoding="utf-8")) & set(banned):
                wrong[str(path.relative_to(PACKAGE))] = sorted(bad)
    assert wrong == {}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize(
    "extra", ["core", "copies", "dev", "dicom", "docs", "eval", "volumes", "web"]
)
def test_every_dependency_is_pinned_inside_its_range(extra):
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] if extra == "core" else extras[extra]
    for requirement in map(Requirement, wanted):
        pin = pins().get(canonicalize_name(requirement.name))
        assert pin, f"constraints.txt has no {requirement.name}"
        assert requirement.specifier.contains(pin), f"{requirement} excludes the pin {pin}"


def test_constraints_hold_only_pins():
    """Nothing else, no index or file address: they must work with any registry."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert not line or line.startswith("#") or re.fullmatch(r"[a-z0-9.-]+==[\w.]+", line), line


def test_readme_starts_people_off():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert "make test" in readme
    assert 'vesalius.load("mini")' in readme


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs"])
def test_relative_links_lead_somewhere(page):
    path = ROOT / page
    broken = []
    for source in sorted(path.rglob("*.md")) if path.is_dir() else [path]:
        for target in re.findall(r"\]\(([^)#\s]+)", source.read_text(encoding="utf-8")):
            is_address = re.match(r"[a-z]+:", target)
            if not is_address and not (source.parent / target).exists():
                broken.append(f"{source.relative_to(ROOT)}: {target}")
    assert broken == []
