"""Copies of training patients are found by each of the three questions, new images by none."""

import numpy as np
import pytest
from tests.evaluate.metrics.test_attacked import the_set

from vesalius.evaluate.metrics import anonymity
from vesalius.evaluate.metrics.base import Case
from vesalius.evaluate.references import HELD_OUT, TRAIN
from vesalius.statistics.figure import select

PATIENTS = 40


def with_features(groups, labels, x):
    one = the_set(groups, labels)
    one.features["tiny"] = x.astype(np.float32)
    return one


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    groups = [[f"{side}{k // 2}" for k in range(2 * PATIENTS)] for side in "ab"]
    labels = [("x", "y")[k // 2 % 2] for k in range(2 * PATIENTS)]
    return [with_features(own, labels, rng.standard_normal((2 * PATIENTS, 12))) for own in groups]


def measured(made, sides):
    references = dict(zip((TRAIN, HELD_OUT), sides, strict=True))
    found = anonymity.measure(Case(made, references, references, [], ["tiny"])).figures
    return {figure.metric: figure for figure in found}


def test_copies_point_at_patients(sides):
    train = sides[0]
    rows = [*range(0, 2 * PATIENTS, 2)]
    x = train.features["tiny"]
    x[1::2] = x[::2] + 0.3 * np.random.default_rng(1).standard_normal(x[::2].shape)
    made = with_features([""] * PATIENTS, [train.labels[k] for k in rows], x[rows])
    found = measured(made, sides)
    assert found["linkability"].low > 0.5 and found["inference"].low > 0.5
    assert found["singling_out"].value > 0
    kinds = [kind for kind, _ in anonymity._sentences([*found.values()], "")]
    assert "bad" in kinds
    assert anonymity._answer([*found.values()], "").startswith("more than")


def test_new_images_point_at_nobody(sides):
    x = np.random.default_rng(2).standard_normal((PATIENTS, 12))
    made = with_features([""] * PATIENTS, ["x", "y"] * (PATIENTS // 2), x)
    found = measured(made, sides)
    assert all(figure.low <= 0 <= figure.high for figure in found.values())
    assert {kind for kind, _ in anonymity._sentences([*found.values()], "")} == {"good"}
    assert anonymity._answer([*found.values()], "").startswith("no more")


def test_what_cannot_be_asked_says_why(sides):
    made = with_features(["", ""], ["x", "x"], np.eye(2, 12))
    singles = [side.take(range(0, 2 * PATIENTS, 2)) for side in sides]
    found = measured(made, singles)
    assert "two images or more" in found["linkability"].why
    assert "one class" in found["inference"].why
    few = measured(made, [side.take(range(8)) for side in sides])
    (figure,) = select(few.values(), part="anonymity")
    assert "10 are needed" in figure.why
