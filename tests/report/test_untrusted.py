"""Reports of sets whose labels, captions, files, patients and models are named to do harm."""

import numpy as np
import pytest
from PIL import Image
from tests.small import HOSTILE, Pool, check_page
from tests.utility.conftest import png, tiny_extractors, write_set, write_table

from vesalius.core.words import visible
from vesalius.evaluate import inputs
from vesalius.evaluate.run import evaluate
from vesalius.evaluate.settings import EvaluateSettings
from vesalius.models.networks.extractors import Extractor
from vesalius.models.networks.resize import View
from vesalius.pairs.build import PairsSettings, build_pairs
from vesalius.utility.run import utility
from vesalius.utility.settings import UtilitySettings

COMMAND = f"vesalius x {' '.join(HOSTILE)}"
LABELS = [HOSTILE[k % 3] for k in range(60)]  # three classes
PATIENTS = [f"{HOSTILE[k % 7]}{k}" for k in range(60)]


def images(count, seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, (40, 40, 3), np.uint8) for _ in range(count)]


@pytest.fixture
def real(tmp_path):
    splits = ["train"] * 30 + ["val"] * 15 + ["test"] * 15
    return write_table(
        tmp_path / "real <i>.parquet", LABELS, splits, groups=PATIENTS,
        images=[png(pixels) for pixels in images(60, 0)], site=[HOSTILE[k % 7] for k in range(60)],
    )  # fmt: skip


@pytest.fixture
def made(tmp_path):
    about = {"model": HOSTILE[1], "adapters": list(HOSTILE), "training_rows": {"model": None}}
    return write_set(
        tmp_path / "<img src=x onerror=alert(1)>", LABELS[:12], about=about, images=images(12, 1)
    )


def test_the_report_of_an_evaluation(real, made, tmp_path, monkeypatch):
    def find(name):
        return Extractor(name, View("squash", 8), (0.0,) * 3, (255.0,) * 3, 12, "w", Pool)

    monkeypatch.setattr(inputs, "find_extractor", find)
    settings = EvaluateSettings(
        extractors=("tiny",), only=("fidelity",), replicates=20, device="cpu"
    )
    evaluate(real, {HOSTILE[0]: made}, tmp_path / "out", settings, command=COMMAND)
    check_page((tmp_path / "out" / "report.html").read_text(), *LABELS[:3], visible(COMMAND))


def test_the_report_of_a_utility_experiment(real, made, tmp_path):
    settings = UtilitySettings(
        seeds=2, steps=20, batch=16, views=1, replicates=40, backbone="tiny", ratios=(1.0,),
        samples=2, device="cpu", allow_unproven=True, arms=("mixed",),
    )  # fmt: skip
    with tiny_extractors():
        utility(real, made, tmp_path / "out", settings, command=COMMAND)
    check_page((tmp_path / "out" / "report.html").read_text(), *LABELS[:3], visible(COMMAND))


def test_the_datasheet(tmp_path):
    source = tmp_path / "<svg onload=alert(1)>"
    source.mkdir()
    lines = ["file_name\ttext\tlabel\tpatient\tsite\t<script>x</script>"]
    for k, pixels in enumerate(images(42, 2)):
        name = f'{k} "><img src=x onerror=alert(1)> {{{{7*7}}}}.png'
        Image.fromarray(pixels).save(source / name)
        quoted = [name, HOSTILE[k % 6], LABELS[k], PATIENTS[k], HOSTILE[k % 6], HOSTILE[3]]
        quoted = [visible(text).replace('"', '""') for text in quoted]
        lines.append("\t".join(f'"{text}"' for text in quoted))
    (source / "broken <b>.png").write_bytes(b"no image")
    (source / "metadata.tsv").write_text("\n".join(lines) + "\n")
    settings = PairsSettings(split="val=0.2,test=0.2")
    build_pairs([str(source)], tmp_path / "pairs.parquet", settings, command=COMMAND)
    page = (tmp_path / "pairs.datasheet.html").read_text()
    check_page(page, LABELS[0], visible(COMMAND))


def test_what_is_written_out_and_what_stays():
    assert visible("a\u202eb\x00\x1b[2J\ud800") == r"a\u202eb\x00\x1b[2J\ud800"
    assert visible("Œdème, 視網膜 → naïve\n\tx") == "Œdème, 視網膜 → naïve\n\tx"
