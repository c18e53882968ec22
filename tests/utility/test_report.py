"""The page: it needs no other file, says first whether it helped, and hides no doubt."""

import re

import pytest
from tests.utility.conftest import labels_of, write_set

from vesalius.report.utility import arms_plot, learning_curves, utility_page
from vesalius.statistics.figure import Figure
from vesalius.utility.arms import ABOUT
from vesalius.utility.comparisons import Comparison
from vesalius.utility.judgement import ArmScores, Asked, Judged, verdict
from vesalius.utility.outputs import SCORES
from vesalius.utility.run import utility
from vesalius.utility.settings import UtilitySettings

QUICK = {"seeds": 2, "steps": 20, "batch": 16, "views": 1, "replicates": 40, "backbone": "tiny",
         "ratios": (1.0,), "samples": 2, "device": "cpu"}  # fmt: skip


@pytest.fixture
def page(table, tmp_path, tiny_extractor):
    made = write_set(tmp_path / "<i>set", labels_of(30), about={})
    settings = UtilitySettings(fractions=(0.3, 1.0), allow_unproven=True, **QUICK)
    document = utility(
        table, made, tmp_path / "out", settings, command="vesalius utility --x '<b>'"
    ).document
    return document, (tmp_path / "out" / "report.html").read_text()


def test_the_page_stands_alone_and_escapes_what_others_wrote(page):
    _, html = page
    assert not re.search(r"<script|https?://|<link", html)
    assert "<b>'" not in html and "<i>set" not in html
    assert len(re.findall("data:image/jpeg", html)) == 12  # 3 classes, 2 sides, 2 pictures
    assert len(html) < 5_000_000


def test_the_answer_comes_first_and_doubt_beside_it(page):
    document, html = page
    body = html[html.index("<h1>") :]
    assert body.index(document["verdict"]["headline"].split(":")[0]) < body.index("All arms")
    assert document["verdict"]["headline"].endswith("so this proves nothing.")
    assert "Not proven" in body[: body.index("All arms")]
    assert document["unproven"]


def test_every_arm_is_in_the_figure_with_its_images(page):
    document, html = page
    for budget in document["budgets"]:
        plot = arms_plot(document, budget)
        names = [row.name.removesuffix(" ★") for row in plot.rows]
        assert names == [arm["name"] for arm in budget["arms"]]
        for row in plot.rows:
            (mark,) = row.marks
            assert 0 <= mark.low <= mark.x <= mark.high <= 100
            assert row.about in html
    assert len(learning_curves(document).counts) == 2


def test_without_pictures_there_is_none(page):
    document, _ = page
    assert "data:image" not in utility_page(document, scores=SCORES, about=ABOUT)


def told(difference, p, worth=None):
    def one(family, d, p):
        found = Comparison(
            "", "mix", "auroc", None, d, d - 0.01, d + 0.01, p, p, 100, 100, 2, "", ""
        )
        return Asked("100 %", family, found)

    arms = {name: ArmScores({"auroc": Figure("auroc", v)}, {})
            for name, v in {"mix": 0.9 + difference, "real": 0.9}.items()}  # fmt: skip
    last = Judged("100 %", arms, [], best="mix", baseline="real, oversampled")
    every = [one("help", difference, p)] + ([one("worth", *worth)] if worth else [])
    return verdict(last, every, 100, proven=True)


def test_the_answer_follows_from_the_tests():
    assert told(0.02, 0.001).answer == "helped"
    assert told(0.02, 0.2).answer == "not shown"
    assert told(-0.02, 0.001).answer == "harmed"
    assert told(0.02, 0.001, (0.01, 0.4)).answer == "no more than a baseline"
    assert told(0.02, 0.001, (0.01, 0.01)).answer == "helped"
    first = told(0.02, 0.0004).headline
    assert first.startswith("The synthetic images helped: ") and "corrected p < 0.001" in first
