"""An example as its reader runs it: the script itself, on a small set, in a folder of its own."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vesalius.models.networks.weights import file_of
from vesalius.pairs.table import read_pairs

EXAMPLES = Path(__file__).parents[2] / "examples"
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

measured = pytest.mark.skipif(
    not file_of("efficientnet-lite0").is_file(),
    reason="no weights of efficientnet-lite0: vesalius info --get efficientnet-lite0",
)


def stand_ins(folder: Path, *classes: str) -> Path:
    """Images of the bundled model in class folders, by NUMBER:LABEL:PROMPT."""
    command = [sys.executable, str(EXAMPLES / "stand_ins.py"), str(folder), *classes]
    subprocess.run(command, check=True, timeout=300)
    return folder


def run_example(name: str, *arguments: object, **environment: object) -> str:
    """What examples/NAME.sh prints on standard output; it must end well."""
    variables = os.environ | {"PATH": PATH} | {key: str(v) for key, v in environment.items()}
    command = ["sh", str(EXAMPLES / f"{name}.sh"), *map(str, arguments)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def training_labels(pairs: Path) -> Counter[str]:
    """How many training images each label of a table has."""
    table = read_pairs(pairs)
    rows = zip(table.column("label"), table.column("split"), strict=True)
    return Counter(label or "" for label, split in rows if split == "train")


def manifest(folder: Path) -> list[dict[str, Any]]:
    """The rows of a finished set."""
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def verdict(folder: Path) -> tuple[str, set[str]]:
    """The answer of a comparison of classifiers, and the arms of its largest budget."""
    results = json.loads((folder / "results.json").read_text())
    return results["verdict"]["answer"], {arm["kind"] for arm in results["budgets"][-1]["arms"]}
