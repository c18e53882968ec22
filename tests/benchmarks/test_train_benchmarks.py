"""The benchmarks of training run from end to end, though with figures of no use."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def test_every_method_gets_a_rate(tmp_path: Path):
    """On a lent GPU there is no time to find out that a case does not start."""
    command = [sys.executable, "-m", "benchmarks.train.speed", "--tiny", "--minutes", "20"]
    subprocess.run(
        [*command, "--work", str(tmp_path / "work"), "--out", str(tmp_path)], cwd=ROOT, check=True
    )

    document = json.loads((tmp_path / "train-speed-tiny.json").read_text())
    figures = document["figures"]["vesalius"]
    assert len(figures) == 10
    assert all(case.get("img/s", 0) > 0 for case in figures.values()), figures


def test_a_learning_run_goes_on_and_asks_each_model_alike(
    tiny_flow: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A second call must not draw again what hours have drawn, and must come to the same FID."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.train import learning

    measured: list[int] = []

    def features(images: Iterable[np.ndarray], **_: object) -> np.ndarray:
        rows = [image.mean((0, 1)) for image in images]
        measured.append(len(rows))
        return np.array(rows, np.float32)

    monkeypatch.setattr(learning, "inception_features", features)
    monkeypatch.setattr(learning, "Inception", lambda: None)
    arguments = ["learning", "--pairs", tiny_pairs, "--model", tiny_flow, "--device", "cpu"]
    arguments += ["--run", f"again={tiny_flow}", "--count", 20, "--out", tmp_path]
    monkeypatch.setattr("sys.argv", [str(argument) for argument in arguments])
    learning.main()
    first = json.loads((tmp_path / "learning.json").read_text())["figures"]
    learning.main()
    second = json.loads((tmp_path / "learning.json").read_text())["figures"]

    assert measured == [50, 16, 4, 16, 4]
    assert first[0]["FID"] == first[1]["FID"] == second[0]["FID"]
    assert (tmp_path / "learning.png").is_file()
