"""The judge of controlled images learns its own set alone, and finds a lesion where it is."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.pairs.table import read_pairs
from vesalius.sample.masks import Ellipse, draw_ellipse


@pytest.fixture
def probing(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    return importlib.import_module("benchmarks.sample.probing")


@pytest.fixture
def bright(probing, monkeypatch):
    """The brightness of an image instead of Inception's features, whose weights may be missing."""
    pytest.importorskip("sklearn")

    def features(images, **_):
        return np.array([[image.mean(), image.max()] for image in images], np.float32)

    monkeypatch.setattr(probing, "inception_features", features)
    monkeypatch.setattr(probing, "Inception", lambda: None)


def test_the_probe_is_of_one_set(bright, probing, tiny_pairs, tmp_path):
    pairs = read_pairs(tiny_pairs)
    arguments = (pairs, "lungs", ["nodule", "effusion"], tmp_path, None, "cpu")
    judge, trust = probing.make_judge(*arguments)
    [stored] = tmp_path.iterdir()
    assert len(probing.read_features(stored)["features"]) == 30  # of 50 in the table
    assert trust == {"nodule": 1.0, "effusion": 1.0}
    dark, light = (np.full((40, 48, 3), level, np.uint8) for level in (50, 210))
    chances = judge.chances([dark, light], "effusion", "nodule")
    assert chances[0, 0] > 0.5 > chances[1, 0]
    assert chances[1, 1] > 0.5 > chances[0, 1]
    with pytest.raises(VesaliusError, match=r"too few training images of .*glioma"):
        probing.make_judge(pairs, "lungs", ["glioma"], tmp_path, None, "cpu")


def test_prompts_are_the_captions_of_a_label(probing, tiny_pairs):
    pairs = read_pairs(tiny_pairs)
    assert probing.usual_caption(pairs, "lungs", "nodule") == "chest x-ray, nodule"
    with pytest.raises(VesaliusError, match="no image of lungs has the label 'glioma'"):
        probing.usual_caption(pairs, "lungs", "glioma")


def test_what_makes_the_finding_is_found_where_it_is(probing):
    """Odds that follow the brightest pixel fall where a window covers the bright spot alone."""

    class Judge:
        def odds(self, images, _):
            return np.array([[float(image.max())] for image in images])

    image = np.full((probing.SIDE, probing.SIDE, 3), 50, np.uint8)
    image[20:30, 200:210] = 250
    fall = probing.fall(Judge(), [image], "finding")
    [place] = np.flatnonzero(fall[0] > 100)
    rows, columns = probing.windows()[place]
    assert rows.start <= 20 < 30 <= rows.stop
    assert columns.start <= 200 < 210 <= columns.stop


def test_an_interval_holds_its_mean_and_narrows_with_more(probing):
    rng = np.random.default_rng(0)
    few, many = (probing.with_interval(rng.normal(3, 1, n)) for n in (10, 1000))
    for mean, low, high in (few, many):
        assert low < mean < high
    assert many[2] - many[1] < (few[2] - few[1]) / 3
    assert many[1] < 3 < many[2]


def test_random_ellipses_lie_within_their_region_and_follow_the_seed(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    random_ellipses = importlib.import_module("benchmarks.sample.ellipses").random_ellipses
    region = draw_ellipse(Ellipse(0.3, 0.6, 0.25, 0.35), (120, 80))
    found = random_ellipses(5, 7, region, (0.03, 0.08))
    assert len(set(found)) == 5
    for ellipse in found:
        assert region[draw_ellipse(ellipse, (120, 80))].all()
    assert random_ellipses(5, 7, region, (0.03, 0.08)) == found
    assert random_ellipses(5, 8, region, (0.03, 0.08)) != found
    whole = np.ones((80, 120), bool)
    for ellipse in random_ellipses(20, 1, whole, (0.2, 0.3)):  # nor do they reach over the border
        larger = np.pad(whole, 40)
        inner = Ellipse(
            (ellipse.x * 120 + 40) / 200, (ellipse.y * 80 + 40) / 160,
            ellipse.rx * 120 / 200, ellipse.ry * 80 / 160, ellipse.angle,
        )  # fmt: skip
        outside = draw_ellipse(inner, (200, 160))
        outside[40:120, 40:160] = False
        assert larger.shape == outside.shape
        assert not outside.any()
    with pytest.raises(VesaliusError, match=r"only 0 of 2 ellipses of radius 0\.4 to 0\.5 fit"):
        random_ellipses(2, 0, region, (0.4, 0.5))
