"""The comparisons of speed run from end to end, though with figures of no use."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vesalius.errors import VesaliusError
from vesalius.models.networks import weights

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def run(module: str, out: Path, *arguments: object) -> Any:
    """The figures that a benchmark records."""
    command = [sys.executable, "-m", module, "--out", out, *arguments]
    subprocess.run([str(part) for part in command], cwd=ROOT, check=True)
    return json.loads(next(out.glob("*.json")).read_text())["figures"]


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def test_sampling_is_set_beside_the_stock_pipeline(tmp_path: Path):
    arguments = ["--tiny", "--images", 2, "--batches", 1, 2, "--steps", 2, "--defaults"]
    figures = run("benchmarks.sample.bulk", tmp_path, *arguments, "--samplers", "dpm++2m:1")

    assert [(row["what"].split()[0], row["batch"], row["steps"]) for row in figures] == [
        ("diffusers", 1, 2),
        ("vesalius", 1, 2),
        ("vesalius", 1, 1),
        ("diffusers", 2, 2),
        ("vesalius", 2, 2),
        ("vesalius", 2, 1),
        ("diffusers", 4, 50),
        ("vesalius", 4, 4),
        ("vesalius", 4, 4),
    ]
    assert all(row["img/s"] > 0 and row["peak MiB"] > 100 for row in figures)
    assert figures[1]["times the peer"] == pytest.approx(figures[1]["img/s"] / figures[0]["img/s"])


def test_evaluation_gives_the_figures_of_its_peers(tmp_path: Path):
    try:
        weights.find("inception-2015-12-05")
    except VesaliusError as error:
        pytest.skip(str(error))
    figures = run("benchmarks.evaluate.speed", tmp_path, "--n", 12)

    ours, peer = figures["ours"]["values"], figures["fidelity"]["values"]
    assert ours["fid"] == pytest.approx(peer["fid"], rel=1e-3)
    assert ours["precision"] == pytest.approx(peer["precision"])
    assert figures["ours-fid"]["values"]["fid"] == pytest.approx(ours["fid"])
    if has("cleanfid"):
        expected = figures["clean-fid"]["values"]["fid"]
        assert figures["ours-clean"]["values"]["fid"] == pytest.approx(expected, rel=1e-3)


def test_tables_are_written_beside_datasets(tmp_path: Path):
    arguments = ["--images", 20, "--repeat", 1, "--work", tmp_path / "work"]
    figures = run("benchmarks.pairs.build", tmp_path, *arguments)

    stored = figures["datasets, images stored"]
    assert figures["vesalius"]["seconds"] > 0
    assert stored["seconds"] > 0
    assert stored["peak MiB"] > 10


def test_copies_are_found_beside_peers(tmp_path: Path):
    figures = run(
        "benchmarks.pairs.near_duplicates", tmp_path, "--images", 500, "--peer-images", 300
    )

    assert {"all", "ours, on the peers' images", "imagehash and BallTree"} <= figures.keys()
    assert figures["all"]["recall"]["mirrored"] == 1
    assert ("imagededup" in figures) == has("imagededup")
