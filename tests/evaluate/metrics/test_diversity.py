from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.beside_real import COLLAPSED
from vesalius.evaluate.metrics.diversity import (
    METRIC,
    MS_SSIM,
    PairMeasure,
    PairValues,
    compare_pairs,
    pair_figures,
    pairs_within,
    vendi,
    vendi_figures,
)
from vesalius.images.ms_ssim import ms_ssim
from vesalius.pairs.open_images import open_images
from vesalius.statistics.figure import Figure, measured


def test_pairs_are_within_a_label_and_each_once():
    pairs = pairs_within(["a", "b", "a", "a", "c"])
    assert {frozenset(pair) for pair in pairs.tolist()} == {
        frozenset({0, 2}), frozenset({0, 3}), frozenset({2, 3})
    }  # fmt: skip
    some = pairs_within(["a"] * 100, most=50)
    assert len(some) == len({frozenset(pair) for pair in some.tolist()}) == 50
    assert (some[:, 0] != some[:, 1]).all() and some.max() < 100
    assert (some == pairs_within(["a"] * 100, most=50)).all()
    assert len(pairs_within([])) == 0


def test_ms_ssim_is_one_for_equal_images_and_falls_with_noise():
    x = torch.rand(2, 1, 180, 190, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ms_ssim(x, x), torch.ones(2))
    noise = torch.rand(2, 1, 180, 190, generator=torch.Generator().manual_seed(1))
    little, much = ms_ssim(x, 0.9 * x + 0.1 * noise), ms_ssim(x, 0.5 * x + 0.5 * noise)
    assert (little < 1).all() and (little > much).all()
    with pytest.raises(VesaliusError, match="176 pixels"):
        ms_ssim(x[..., :100], x[..., :100])


def pictures(folder, seed, levels):
    """One picture a level and class, each a soft random pattern mixed with its class's own."""
    rng = np.random.default_rng(seed)
    for name in ("cell", "lung"):
        (folder / name).mkdir(parents=True)
        shared = np.random.default_rng(len(name) + ord(name[0])).random((6, 6))
        for k, own in enumerate(levels):
            coarse = (1 - own) * shared + own * rng.random((6, 6))
            image = Image.fromarray((255 * coarse).astype(np.uint8))
            image.resize((64, 64), Image.Resampling.BICUBIC).save(folder / name / f"{k}.png")
    images = open_images(folder)
    return images, images.column("label")


def test_a_collapsed_set_fails_against_real_and_an_honest_one_does_not(tmp_path):
    real = pictures(tmp_path / "real", 0, [0.8] * 12)
    honest = pictures(tmp_path / "honest", 1, [0.8] * 12)
    collapsed = pictures(tmp_path / "collapsed", 2, [0.1] * 12)
    values = [
        compare_pairs(*each, replace(MS_SSIM, most=40, side=192))
        for each in (real, honest, collapsed)
    ]
    bad = pair_figures(MS_SSIM, values[2], values[0], times=60)
    assert list(bad) == ["all", "cell", "lung"]
    for figure in bad.values():
        assert figure.note == COLLAPSED
        assert figure.low < figure.value < figure.high and figure.value > figure.floor
        assert figure.details["difference_low"] > 0
    assert bad["all"].n == bad["all"].n_real == 24 and bad["cell"].n == 12
    good = pair_figures(MS_SSIM, values[1], values[0], times=60)
    assert all(figure.note == "" for figure in good.values())


def test_a_distance_that_grows_with_difference_is_read_the_other_way(tmp_path):
    real = pictures(tmp_path / "real", 0, [0.8] * 12)
    collapsed = pictures(tmp_path / "collapsed", 2, [0.1] * 12)

    def colour_distance(x, y):
        assert x.shape[1:] == (3, 32, 32)
        return (x - y).abs().mean((1, 2, 3))

    by = PairMeasure("l1", colour_distance, True, 40, 32)
    values = [compare_pairs(*each, by) for each in (real, collapsed)]
    bad = pair_figures(by, values[1], values[0], times=60)
    assert all(figure.note == COLLAPSED for figure in bad.values())
    back = pair_figures(by, values[0], values[1], times=60)
    assert not any(figure.note for figure in back.values())


def test_prompts_of_few_images_are_drawn_as_wholes():
    rng = np.random.default_rng(0)
    labels = tuple(f"prompt {k // 4}" for k in range(80))
    pairs = pairs_within(labels)
    values = [PairValues(pairs, rng.normal(0.5 + d, 0.1, len(pairs)), labels) for d in (0.2, 0)]
    found = pair_figures(MS_SSIM, *values)
    assert found["all"].note == COLLAPSED and found["all"].low is not None
    assert found["prompt 3"].low is None and "no interval" in found["prompt 3"].note


def test_patients_of_many_images_widen_the_intervals_of_diversity():
    """Twelve patients with five images each, all but equal: twelve images' worth of knowledge."""
    rng = np.random.default_rng(0)
    labels, patients = ("a",) * 60, tuple(f"p{k // 5}" for k in range(60))
    pairs = pairs_within(labels, most=2000)
    lean = np.repeat(rng.normal(0, 0.1, 12), 5)  # how alike a patient's images are to all
    sides = [PairValues(pairs, 0.5 + lean[pairs].sum(1), labels) for _ in range(2)]
    blind, aware = (
        pair_figures(MS_SSIM, *[replace(side, groups=groups) for side in sides])["a"]
        for groups in ((), patients)
    )
    assert aware.high - aware.low > 1.5 * (blind.high - blind.low)

    x = np.repeat(rng.normal(size=(12, 8)), 5, axis=0) + 0.01 * rng.normal(size=(60, 8))
    blind, aware = (
        vendi_figures(x, x, labels, labels, groups=groups, times=60)["a"]
        for groups in (None, (patients, patients))
    )
    assert aware.high - aware.low > 1.2 * (blind.high - blind.low)


def of(metric, value, floor, *, low, high, extractor="", label="all"):
    details = {"difference": value - floor, "difference_low": low, "difference_high": high}
    if low is None:
        details = {}
    sign = -1 if metric == "ms_ssim" else 1
    collapsed = low is not None and (low > 0 if sign < 0 else high < 0)
    figure = Figure(
        metric, value, value - 0.1, value + 0.1, n=50, floor=floor, at_floor_n=value,
        note=COLLAPSED if collapsed else "", details=details,
    )  # fmt: skip
    return measured("diversity", figure, of=label, extractor=extractor)


def said(*figures):
    (question,) = METRIC.questions
    kinds = [kind for kind, _ in question.sentences(figures, "real")]
    return kinds, question.answer(figures, "real")


def test_the_answer_says_what_the_sentences_say():
    alike = of("ms_ssim", 0.3, 0.29, low=-0.05, high=0.07)
    assert said(alike) == (["good"], "about as much as real images of a class do")
    # one of many tests, near its limit: none of their number
    barely = of("vendi", 9.0, 10.0, low=-2.0, high=-0.01, extractor="one")
    kinds, answer = said(alike, *[replace(alike, of=f"c{k}") for k in range(9)], barely)
    assert "bad" not in kinds and answer.startswith("about as much")
    # the second network's figure counts as the first's
    clearly = of("vendi", 5.0, 10.0, low=-6.0, high=-4.0, extractor="two")
    kinds, answer = said(alike, barely, clearly)
    assert kinds.count("bad") == 1 and "by 1 of 3 measures" in answer
    assert said(alike, replace(clearly, of="cyst")) == (
        ["good", "bad"],
        "less than real images do in 1 of the classes",
    )


def test_a_wide_interval_is_no_likeness():
    """That a difference is not significant does not show that there is none."""
    wide = of("ms_ssim", 0.6, 0.3, low=-0.1, high=0.7)
    kinds, answer = said(wide)
    assert kinds == ["unknown"] and answer.startswith("perhaps less")
    assert said(of("ms_ssim", 0.6, 0.3, low=None, high=None)) == (
        ["unknown"],
        "too few images to tell",
    )
    assert said(of("ms_ssim", 0.1, 0.3, low=-0.4, high=0.1))[0] == ["good"]  # more diverse


def test_prompts_of_few_images_stand_beside_prompts_of_many():
    """One side's interval is over prompts then, the other's over images: of as many replicates each."""
    rng = np.random.default_rng(0)
    sides = []
    for images in (4, 12):
        labels = tuple(f"prompt {k // images}" for k in range(12 * images))
        pairs = pairs_within(labels)
        sides.append(PairValues(pairs, rng.normal(0.5, 0.1, len(pairs)), labels))
    found = pair_figures(MS_SSIM, *sides, times=60)
    assert found["all"].low < found["all"].value < found["all"].high


def test_an_empty_class_is_told():
    values = [
        PairValues(pairs_within(labels), np.full(len(pairs_within(labels)), 0.5), labels)
        for labels in (("a",) * 12 + ("b",), ("a",) * 12 + ("c",) * 3)
    ]
    found = pair_figures(MS_SSIM, *values)
    assert "2 synthetic images" in found["b"].note and found["b"].value is None
    assert found["c"].value is None and found["c"].floor == 0.5


def test_vendi_counts_how_many_different_images_there_are():
    kinds = np.eye(5, 8)
    assert vendi(np.repeat(kinds, 4, axis=0)) == pytest.approx(5)
    assert vendi(np.repeat(kinds[:1], 20, axis=0)) == pytest.approx(1)
    assert vendi(7 * np.repeat(kinds, 4, axis=0)) == pytest.approx(5)


def test_vendi_of_a_collapsed_set_fails_at_the_same_n():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(100, 16)), rng.normal(size=(60, 16))
    fake[:, 2:] *= 0.05
    labels = ["a", "b"] * 30
    found = vendi_figures(fake, real, labels, ["a", "b"] * 50, times=40)
    assert list(found) == ["all", "a", "b"]
    for figure in found.values():
        assert figure.note == COLLAPSED and figure.value < figure.floor
        assert figure.low < figure.value < figure.high
    assert found["all"].floor_n == 60  # not 100: the score grows with n
    same = vendi_figures(rng.normal(size=(60, 16)), real, labels, ["a", "b"] * 50, times=40)
    assert not any(figure.note for figure in same.values())
    few = vendi_figures(fake[:4], real, ["a"] * 4, ["b"] * 100)
    assert "under 10" in few["all"].note and few["b"].value is None


def test_a_class_of_which_few_pairs_were_compared_has_its_interval():
    """Of 2,000 images a replicate of 500 would hold 6 of 100 pairs, or none."""
    rng, labels = np.random.default_rng(0), ("a",) * 2000
    sides = [
        PairValues(pairs_within(labels, 100, seed), rng.normal(mean, 0.1, 100), labels)
        for seed, mean in ((0, 0.5), (1, 0.3))
    ]
    figure = pair_figures(PairMeasure("lpips", ms_ssim), *sides)["a"]
    assert figure.n == 2000
    assert figure.details["difference_low"] < 0.2 < figure.details["difference_high"]
    assert 0.01 < figure.high - figure.low < 0.15
