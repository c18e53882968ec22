"""What a new user does first: install with an extra into an empty environment, and reach evidence."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

ROOT = Path(__file__).parents[1]


@pytest.mark.network
@pytest.mark.slow
def test_the_extra_eval_reaches_a_report_with_fid(tmp_path: Path):
    rng = np.random.default_rng(0)
    for label in ("eosinophil", "monocyte"):
        (tmp_path / "cells" / label).mkdir(parents=True)
        for k in range(24):
            noise = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
            noise.filter(ImageFilter.GaussianBlur(4)).save(
                tmp_path / "cells" / label / f"{label}-{k}.png"
            )

    def run(*command: str | Path) -> str:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}  # nothing of this one
        done = subprocess.run(
            list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
        return done.stdout + done.stderr

    run(sys.executable, "-m", "venv", "fresh")
    binaries = tmp_path / "fresh" / "bin"
    constraints = ROOT / "constraints.txt"
    run(binaries / "pip", "install", "-q", f"{ROOT}[eval]", "-c", constraints)
    vesalius = binaries / "vesalius"
    run(vesalius, "info", "--get", "inception")
    run(vesalius, "pairs", "cells", "--out", "pairs.parquet")
    run(vesalius, "plan", "--pairs", "pairs.parquet", "--per-class", "10", "--out", "plan.csv")
    run(vesalius, "synthesize", "plan.csv", "--out", "set")
    said = run(
        vesalius, "evaluate", "--real", "pairs.parquet", "--synthetic", "set", "--out", "evidence"
    )

    metrics = json.loads((tmp_path / "evidence" / "metrics.json").read_text())
    figures = metrics["sets"]["set"]["figures"]
    fid = [row["value"] for row in figures if row["metric"] == "fid" and row["of"] == "all"]
    assert fid and all(value is not None and value > 0 for value in fid), said
    assert "FID" in (tmp_path / "evidence" / "report.html").read_text()
