"""docs/extending.md: its package is installed as it stands there, and each part of it is used."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.conftest import OPTIMISATION
from tests.lab import install

import vesalius
from vesalius.pairs.table import read_pairs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"


@pytest.fixture(autouse=True)
def lab(tmp_path, monkeypatch):
    """The page's files and entry points, installed."""
    text = PAGE.read_text(encoding="utf-8")
    modules = dict(re.findall(r'```python title="(\w+)\.py"\n(.*?)```', text, re.DOTALL))
    (table,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    points = tomllib.loads(table)["project"]["entry-points"]
    assert {value.partition(":")[0] for own in points.values() for value in own.values()} == {
        *modules
    }
    monkeypatch.syspath_prepend(install(tmp_path / "site", modules, points))


def test_a_reader(tmp_path, run_cli):
    for name, level in {"light/a": 200, "light/b": 220, "dark/a": 30}.items():
        path = tmp_path / "scans" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.linspace(0, level, 40 * 40).reshape(40, 40).astype(np.uint8))
    out = tmp_path / "pairs.parquet"
    done = run_cli("pairs", tmp_path / "scans", "--reader", "npy", "--split", "none", "--out", out)
    assert done[0] == 0, done
    assert sorted(read_pairs(out).column("label")) == ["dark", "light", "light"]


def test_a_store_a_network_and_a_metric(tiny_pairs, tiny_flow, tmp_path, run_cli):
    plan, images, evidence = tmp_path / "plan.csv", tmp_path / "set", tmp_path / "evidence"
    vesalius.plan(tiny_pairs, plan, vesalius.PlanSettings(vesalius.HowMany(per_class=3)))
    words = [
        "--model",
        tiny_flow,
        "--steps",
        1,
        "--device",
        "cpu",
        "--store",
        "classes",
        "--out",
        images,
    ]
    done = run_cli("synthesize", plan, *words)
    assert done[0] == 0, done
    assert len(list((images / "chunks").glob("*/nodule/*.png"))) == 6
    sets = ["--real", tiny_pairs, "--synthetic", images, "--out", evidence, "--device", "cpu"]
    words = ["--extractors", "coarse", "--only", "fidelity,brightness", "--replicates", 20]
    code, out, err = run_cli("evaluate", *sets, *words)
    assert code == 0, err
    assert "Synthetic images are brighter by" in out
    assert "Difference in brightness" in (evidence / "report.html").read_text()


def test_a_method(tiny_pairs, tiny_flow, tmp_path):
    recipe = {
        "name": "plus",
        "method": "lora-plus",
        "model": str(tiny_flow),
        "size": 32,
        "ratio": 4,
        "lora": {"rank": 2},
        "optimisation": OPTIMISATION | {"precision": "float32"},
    }
    path = tmp_path / "plus.yaml"
    path.write_text(yaml.safe_dump(recipe))
    done = vesalius.train(path, tiny_pairs, tmp_path / "run", device="cpu")
    assert done.kind == "adapter"
    model = vesalius.load(str(tiny_flow), device="cpu", adapters=[str(done.folder)])
    assert len(model.generate("lung", steps=1)) == 1
