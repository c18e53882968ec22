import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.alignment import Judged, finding_auroc, fit_probe

pytest.importorskip("sklearn")


def several(count: int, seed: int, *, follow: bool = True) -> tuple[np.ndarray, list[str]]:
    """Images of two findings, which may stand together, in 6 dimensions; some show none."""
    rng = np.random.default_rng(seed)
    shows = rng.random((count, 2)) < 0.4
    features = rng.normal(size=(count, 6))
    features[:, :2] += 3 * shows
    if not follow:
        shows = shows[rng.permutation(count)]
    names = ("effusion", "nodule")
    labels = ["|".join(n for n, has in zip(names, row, strict=True) if has) for row in shows]
    return features, [label or "No Finding" for label in labels]


def judged(probe, features, labels, groups=None):
    return Judged(probe(features), labels, groups)


def test_each_finding_of_several_has_its_auroc_beside_that_on_real_images():
    probe = fit_probe(*several(400, 0))
    assert probe.findings == ["No Finding", "effusion", "nodule"]
    found = finding_auroc(
        probe.findings, judged(probe, *several(150, 1)), judged(probe, *several(200, 2))
    )
    for each in found.findings:
        assert each.real.value > 0.9
        assert 0.9 < each.generated.low <= each.generated.value <= each.generated.high
    assert (found.real_mean.n, found.generated_mean.n) == (150, 200)
    assert found.left_out == {}


def test_shuffled_labels_are_at_chance_and_their_interval_holds_it():
    probe = fit_probe(*several(400, 0))
    ignoring = judged(probe, *several(300, 2, follow=False))
    found = finding_auroc(probe.findings, judged(probe, *several(150, 1)), ignoring)
    assert found.generated_mean.low < found.chance < found.generated_mean.high
    assert found.generated_mean.high < found.real_mean.low


def test_a_finding_of_one_image_is_told_and_in_neither_mean():
    """One positive has an AUROC, of one image's luck: averaged, it would move the whole figure."""
    probe = fit_probe(*several(400, 0))
    features, labels = several(60, 2)
    labels = ["effusion" if "nodule" in label else label for label in labels]
    labels[0] = "nodule"
    real = judged(probe, *several(150, 1))
    found = finding_auroc(probe.findings, real, judged(probe, features, labels))
    nodule = next(each for each in found.findings if each.finding == "nodule")
    assert nodule.generated.value is None
    assert "1 images with it" in nodule.generated.note
    assert nodule.real.value is not None
    assert found.averaged == ["No Finding", "effusion"]
    assert found.left_out["nodule"].startswith("generated: 1 images")
    kept = [each.real.value for each in found.findings if each.finding != "nodule"]
    assert found.real_mean.value == pytest.approx(np.mean(kept))


def test_a_set_without_any_finding_enough_has_no_mean():
    probe = fit_probe(*several(400, 0))
    one = Judged(np.zeros((1, 3)), ["nodule"])
    found = finding_auroc(probe.findings, one, one)
    assert found.generated_mean.value is None
    assert found.averaged == []


def test_images_without_a_label_are_not_judged():
    probe = fit_probe(*several(400, 0))
    features, labels = several(100, 1)
    with_none = judged(probe, features, [None, "", *labels[2:]])
    found = finding_auroc(probe.findings, with_none, with_none)
    assert found.real_mean.n == 98


def test_images_of_one_patient_widen_the_interval():
    probe = fit_probe(*several(400, 0))
    features, labels = several(30, 3)
    features = np.repeat(features + np.random.default_rng(4).normal(size=features.shape), 8, 0)
    labels = [label for label in labels for _ in range(8)]
    patients = [f"p{k // 8}" for k in range(240)]
    alone, grouped = (
        finding_auroc(probe.findings, *[judged(probe, features, labels, groups)] * 2)
        for groups in (None, patients)
    )
    widths = [each.real_mean.high - each.real_mean.low for each in (alone, grouped)]
    assert widths[1] > 1.5 * widths[0]


def test_a_probe_says_what_it_could_not_learn():
    features, labels = several(100, 0)
    probe = fit_probe(features, ["rare", None, *labels[2:]])
    assert probe.left_out == {"rare": "1 of 99 training images show it"}
    assert "rare" not in probe.findings
    with pytest.raises(VesaliusError, match="two training images"):
        fit_probe(features, ["same"] * 100)


def test_scores_of_other_images_are_refused():
    with pytest.raises(VesaliusError, match="do not fit 3 labels"):
        finding_auroc(["a"], Judged(np.zeros((2, 1)), ["a"] * 3), Judged(np.zeros((2, 1)), ["a"]))


def test_of_several_sources_a_finding_is_told_from_its_own_kind_alone():
    """Any classifier tells brains from skin: that the right kind was drawn is no right label."""
    rng = np.random.default_rng(0)
    labels = np.tile(["glioma", "no tumour", "naevus", "melanoma"], 50)
    sources = np.where(np.isin(labels, ["glioma", "no tumour"]), "brain", "skin")
    features = rng.standard_normal((200, 4)) + 9 * (sources == "skin")[:, None]
    real = features + 4 * np.isin(labels, ["glioma", "naevus"])[:, None] * np.eye(4)[0]
    made = rng.standard_normal((200, 4)) + 9 * (sources == "skin")[:, None]  # of a kind, no more
    told = labels.tolist(), sources.tolist()
    pooled = fit_probe(real, told[0])
    easy = finding_auroc(pooled.findings, *(Judged(pooled(x), told[0]) for x in (real, made)))
    assert easy.generated_mean.value > 0.7
    probe = fit_probe(real, told[0], sources=told[1])
    found = finding_auroc(
        probe.findings, *(Judged(probe(x), told[0], None, told[1]) for x in (real, made))
    )
    assert found.real_mean.value > 0.95
    assert found.generated_mean.low < 0.5 < found.generated_mean.high
