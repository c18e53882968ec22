"""What is trained: every arm that was asked for once, and what is left out is what is said of it."""

from types import SimpleNamespace

import numpy as np
import pytest
from tests.utility.conftest import CLASSES, labels_of, write_set, write_table
from tests.utility.test_experiment import QUICK

from vesalius.errors import VesaliusError
from vesalius.report.utility import arms_plot, learning_curves, utility_page
from vesalius.utility.arms import ABOUT, Arm, parse_arms
from vesalius.utility.curricula import curriculum, same
from vesalius.utility.folds import Fold
from vesalius.utility.layout import Budget, lay_out
from vesalius.utility.outputs import SCORES
from vesalius.utility.probe import Probe
from vesalius.utility.run import utility
from vesalius.utility.settings import UtilitySettings


def drawn(seed):
    """A pool of random sizes and classes, its folds, and amounts of real images."""
    rng = np.random.default_rng(seed)
    real, made, classes = int(rng.integers(12, 60)), int(rng.integers(1, 50)), 3
    even = seed % 3 == 0
    y = np.arange(real) % classes if even else rng.choice(classes, real, p=[0.6, 0.3, 0.1])
    y[:classes] = np.arange(classes)
    y = np.r_[y, rng.integers(0, classes, made)]
    groups = [f"p{k // 2}" if seed % 2 else "" for k in range(real)]
    told = SimpleNamespace(labels=[str(k) for k in y[:real]], groups=groups)
    pool = SimpleNamespace(real=told, targets=np.eye(classes)[y], exclusive=True)
    rows, nothing = np.arange(real), np.array([], int)
    folds = [Fold(part, nothing, nothing, np.arange(real, real + made))
             for part in (rows, rows[: real // 2 + 3])]  # fmt: skip
    budgets = [Budget("shots", int(rng.integers(1, 6))), Budget("size", 8), Budget("fraction", 1)]
    return pool, folds, budgets


@pytest.mark.parametrize("seed", range(24))
def test_each_arm_is_trained_once_or_named_as_the_one_that_it_repeats(seed):
    pool, folds, budgets = drawn(seed)
    arms = parse_arms([], [0.01, 0.5, 1, 2, 20])
    for laid in lay_out(pool, folds, arms, budgets, 2):
        kept = {arm.name: plans for arm, plans in laid.curricula.items()}
        left_out = {one.arm: one for one in laid.left_out}
        assert {arm.name for arm in arms} == {*kept, *left_out} and not {*kept} & {*left_out}
        assert {"real", "synthetic only"} <= {*kept}
        names = [arm.name for arm in arms]
        for one in left_out.values():
            assert one.same_as in kept and one.why
            assert names.index(one.same_as) < names.index(one.arm)
        for arm in arms:
            for k, fold in enumerate(folds):
                for s in range(2):
                    real = pool.real
                    rows = laid.budget.rows(fold.train, real.groups, real.labels, s)
                    made = curriculum(arm, pool.targets, rows, fold.synthetic, s, exclusive=True)
                    twin = left_out[arm.name].same_as if arm.name in left_out else arm.name
                    assert same(made, kept[twin][k][s])
                    assert set(pool.targets[rows].argmax(1)) == {0, 1, 2}  # no class is lost
        for name, plans in kept.items():  # nothing is trained twice
            others = [theirs for other, theirs in kept.items() if other != name]
            assert not any(
                all(same(a, b) for x, y in zip(plans, theirs, strict=True)
                    for a, b in zip(x, y, strict=True))
                for theirs in others
            )  # fmt: skip


def test_an_arm_that_is_left_out_would_have_answered_the_same():
    rng = np.random.default_rng(0)
    targets = np.eye(3, dtype=np.float32)[np.tile([0, 1, 2], 40)]
    features = (rng.normal(size=(120, 6)) + targets @ rng.normal(size=(3, 6))).astype(np.float32)
    real, validation, test, made = np.split(np.arange(120), [45, 60, 90])
    learner = Probe(features, targets, True, steps=30, batch=16)
    pairs = [(Arm("real"), Arm("oversampled")), (Arm("real"), Arm("weighted")),
             (Arm("real"), Arm("minority")), (Arm("mixed", 1.0), Arm("mixed", 3.0))]  # fmt: skip
    for one, other in pairs:
        plans = [curriculum(arm, targets, real, made, 0, exclusive=True) for arm in (one, other)]
        assert same(*plans)
        answers = [learner([each], [0], validation, test).test for each in plans]
        assert answers[0] == pytest.approx(answers[1], abs=1e-5)


def test_arms_that_differ_in_what_they_draw_are_not_the_same():
    targets = np.eye(2)[[0, 0, 0, 1, 0, 1]]
    real, made = np.arange(4), np.arange(4, 6)
    arms = parse_arms([], [1])
    plans = [curriculum(arm, targets, real, made, 0, exclusive=True) for arm in arms]
    for k, first in enumerate(plans):
        assert [same(first, second) for second in plans] == [k == j for j in range(len(plans))]


def test_sizes_that_cannot_be_are_one_line():
    for size in (2, 31):
        with pytest.raises(VesaliusError, match="there are 30, of 3 labels"):
            Budget("size", size).rows(np.arange(30), [""] * 30, ["a", "b", "c"] * 10, 0)


def run(tmp_path, labels, **settings):
    count = len(labels)
    splits = ["train"] * (count - 45) + ["val"] * 21 + ["test"] * 24
    table = write_table(tmp_path / "t.parquet", labels, splits)
    made = write_set(tmp_path / "set", labels_of(20))
    settings = QUICK | {"allow_unproven": True} | settings
    return utility(table, made, tmp_path / "out", UtilitySettings(**settings)).document


def test_an_amount_where_no_arm_has_synthetic_images_still_tells_of_the_real_ones(
    tmp_path, tiny_extractor
):
    """Three shots a class are even: nothing is topped up. With all real images there is."""
    labels = [*labels_of(50), *[*CLASSES] * 15]
    document = run(tmp_path, labels, arms=("minority",), shots=(3,), fractions=(1.0,))
    few, every = document["budgets"]
    assert few["best"] is None and [arm["name"] for arm in few["arms"]] == ["real"]
    assert few["left_out"][0]["same_as"] == "real"
    assert every["best"] == "real+synthetic, minority" and not every["left_out"]
    assert document["verdict"]["budget"] == "100 %"
    html = (tmp_path / "out" / "report.html").read_text()
    assert "real+synthetic, minority would be real, every class has as many images" in html


def test_the_verdict_is_of_the_most_real_images_where_synthetic_ones_take_part(
    tmp_path, tiny_extractor
):
    """All real images are even, some of them are not: the top-up can only be judged there."""
    labels = [*CLASSES] * 30
    document = run(
        tmp_path, labels, arms=("minority", "oversampled"), sizes=(10,), fractions=(1.0,)
    )
    assert document["verdict"]["budget"] == "10 images" and document["budgets"][1]["best"] is None
    assert {one["same_as"] for one in document["budgets"][1]["left_out"]} == {"real"}
    assert document["equality"] == [] and utility_page(document, scores=SCORES, about=ABOUT)


def test_curves_go_on_where_an_arm_is_another_one_again(tmp_path, tiny_extractor):
    document = run(tmp_path, [*CLASSES] * 30, arms=("mixed",), ratios=(1, 4), fractions=(0.2, 1))
    assert [len(budget["left_out"]) for budget in document["budgets"]] == [0, 1]
    names = {arm["name"] for b in document["budgets"] for arm in b["arms"]}
    curves = {line.name: line.points for line in learning_curves(document).lines}
    assert {*curves} == names and all(len(points) == 2 for points in curves.values())
    for budget in document["budgets"]:
        plot = arms_plot(document, budget)
        for one, line in zip(budget["left_out"], plot.left_out, strict=True):
            assert line.startswith(f"Not trained again: {one['arm']} would be {one['same_as']}")
