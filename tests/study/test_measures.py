"""Each task gives back what its readers were made of, and says so in words."""

from dataclasses import replace

import pytest
from benchmarks.study.scripted import Skill
from tests.study.simulated import skills, study

from vesalius.study.judgements import Block, blocks
from vesalius.study.measures.diagnosis import diagnosis
from vesalius.study.measures.pair import pair
from vesalius.study.measures.rating import rating
from vesalius.study.measures.turing import turing
from vesalius.study.results import Found, StudyFigure


def block_of(*arguments, **more) -> Block:
    return blocks(*study(*arguments, **more))[0]


def verdict(found: Found) -> str:
    return next(s.message for s in found.sentences if s.status in ("holds", "unproven"))


def holds(figure: StudyFigure | None, truth: float) -> bool:
    assert figure is not None
    assert figure.low is not None
    assert figure.high is not None
    return figure.low <= truth <= figure.high


@pytest.mark.parametrize("d_prime", [0.0, 1.0, 2.0])
def test_turing_gives_back_the_skill(d_prime):
    found = turing(block_of("turing", skills(*[d_prime] * 5, criterion=0.3), 400), 0.1)
    assert holds(found.get("d'"), d_prime)
    assert holds(found.get("criterion"), 0.3)
    assert found.get("fakes caught", arm="fake").value == 1  # type: ignore[union-attr]
    assert verdict(found).startswith("Shown" if d_prime == 0 else "Not shown")
    assert ("told apart" in verdict(found)) == (d_prime > 0)


def test_each_reader_has_an_own_skill():
    found = turing(block_of("turing", skills(0, 1, 2), 400), 0.1)
    for reader, truth in (("R1", 0), ("R2", 1), ("R3", 2)):
        assert holds(found.get("d'", reader=reader), truth)


def test_equivalence_needs_attention():
    careless = skills(*[0.0] * 5, lapse=1.0)
    found = turing(block_of("turing", careless, 400), 0.1)
    assert "gross fakes were caught" in verdict(found)
    assert verdict(found).startswith("Not shown")
    block = block_of("turing", skills(*[0.0] * 5), 400)
    without = replace(block, judgements=block.of_kind("scored", "repeat"))
    assert "No gross fakes were shown" in verdict(turing(without, 0.1))


def test_few_readers_and_few_cases_show_nothing():
    found = turing(block_of("turing", skills(0, 0), 40), 0.1)
    assert "two readers: these readers only" in verdict(found)
    assert "not significantly different is not the same" in verdict(found)


def test_all_answers_equal():
    """d' is finite, kappas say why they are not."""
    block = block_of("turing", skills(1, 1, 1), 40)
    same = [replace(e, value="real", score=1, confidence=3, correct=e.truth == "real") for e in block.judgements]  # fmt: skip
    found = turing(replace(block, judgements=same), 0.1)
    assert found.get("d'").value == pytest.approx(0)  # type: ignore[union-attr]
    assert found.get("accuracy").value == 0.5  # type: ignore[union-attr]
    kappa = found.get("Fleiss' kappa")
    assert kappa is not None
    assert kappa.value is None
    assert "alike" in kappa.why


def test_one_arm_only():
    """Where no real image was judged, each figure that needs both says why it is missing."""
    block = block_of("turing", skills(1, 1, 1), 40)
    some = [e for e in block.judgements if e.arm != "real"]
    found = turing(replace(block, judgements=some), 0.1)
    assert found.get("accuracy").why  # type: ignore[union-attr]
    assert found.get("sensitivity").value is not None  # type: ignore[union-attr]
    assert verdict(found).startswith("Whether readers tell")


def test_several_sets_are_judged_apart():
    block = block_of("turing", skills(1, 1, 1), 60, sets=("synthetic:A", "synthetic:B"))
    found = turing(block, 0.1)
    a, b = (found.get("sensitivity", arm=f"synthetic:{name}") for name in "AB")
    assert a is not None
    assert b is not None
    assert a.cases == b.cases == 15


def test_reconstructed_images_are_no_synthetic_ones():
    """They are held against real ones by themselves, and in no figure of the synthetic images."""
    block = block_of("turing", skills(1, 1, 1), 60, sets=("synthetic", "reconstructed"))
    found = turing(block, 0.1)
    assert found.get("sensitivity").cases == found.get("sensitivity", arm="reconstructed").cases  # type: ignore[union-attr]  # fmt: skip
    assert found.get("sensitivity").cases == 15  # type: ignore[union-attr]
    texts = [s.message for s in found.sentences if s.status in ("holds", "unproven")]
    assert ["autoencoder" in text for text in texts] == [False, True]
    rated = rating(
        block_of("quality", skills(1, 1, 1), 60, sets=("synthetic", "reconstructed")), 0.1
    )
    assert rated.get("mean rating", arm="synthetic").cases == 15  # type: ignore[union-attr]


def test_pair_gives_back_the_skill():
    """Two of variance 1 that differ by d' are d' / sqrt(2) * sqrt(2) apart: 2AFC has the same d'."""
    found = pair(block_of("pair", skills(1, 1, 1, 1, 1), 300), 0.1, "realism")
    assert holds(found.get("d' (2AFC)"), 1.0)
    assert holds(found.get("left chosen"), 0.5)
    assert found.get("left chosen, both real", arm="real").n == 150  # type: ignore[union-attr]
    assert "told apart" in verdict(found)


def test_preference_with_ties():
    sets = ("synthetic:A", "synthetic:B")
    block = block_of("pair", skills(0.5, 0.5, 0.5, tie=0.5), 120, sets=sets, ties=True)
    found = pair(block, 0.1, "preference")
    worth = [found.get("worth", arm=arm) for arm in ("real", *sets)]
    assert sum(each.value for each in worth if each and each.value) == pytest.approx(1)
    assert found.get("nu").value > 0  # type: ignore[union-attr]
    assert found.get("d' (2AFC)") is None
    assert "preferred" in verdict(found)


def test_quality_of_each_arm():
    raters = [Skill(synthetic_quality=3.5)] * 4
    found = rating(block_of("quality", raters, 200), 0.1)
    assert holds(found.get("mean rating", arm="real"), 4.0)
    assert holds(found.get("difference", arm="synthetic"), -0.5)
    assert "rated lower" in verdict(found)
    equal = rating(block_of("quality", [Skill(synthetic_quality=4.0)] * 4, 200), 0.1)
    assert "Shown: rated lower by less than 0.4 points" in verdict(equal)


def test_wrong_words_are_counted():
    found = rating(block_of("alignment", [Skill()] * 3, 60), 0.1)
    words = next(table for table in found.tables if table.title == "Words ticked as wrong")
    assert {row[0] for row in words.rows} <= {"a", "blunt", "sharp", "round", "shape", "on", "grey"}
    assert all(0 < row[2] <= row[3] for row in words.rows)


def test_diagnosis_of_both_arms():
    found = diagnosis(block_of("diagnosis", [Skill(knows_synthetic=0.9)] * 5, 300), 0.1)
    assert holds(found.get("accuracy", arm="synthetic"), 0.9)
    assert "Shown:" in verdict(found)
    worse = diagnosis(block_of("diagnosis", [Skill(knows_synthetic=0.5)] * 5, 300), 0.1)
    assert "recognised less often." in verdict(worse)
    assert len(found.tables) == 2
