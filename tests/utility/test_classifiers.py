"""The probe: it learns what scikit-learn learns, chooses on validation alone, and all seeds at once
are the seeds one by one."""

import numpy as np
import pytest
import torch

from vesalius.errors import VesaliusError
from vesalius.utility.arms import Arm
from vesalius.utility.curricula import Curriculum, Phase, curriculum
from vesalius.utility.learner import judged, losses
from vesalius.utility.probe import Probe
from vesalius.utility.schedule import draws, schedule, spans, stops

RNG = np.random.default_rng(0)
LABELS = RNG.choice(3, 400, p=[0.6, 0.3, 0.1])
FEATURES = (RNG.normal(size=(400, 24)) + 0.7 * RNG.normal(size=(3, 24))[LABELS]).astype(np.float32)
TARGETS = np.eye(3, dtype=np.float32)[LABELS]
TRAIN, VALIDATION, TEST = np.arange(200), np.arange(200, 280), np.arange(280, 400)


def probe(**settings):
    return Probe(FEATURES, TARGETS, True, **{"steps": 150, "batch": 32, **settings})


def planned(kind="real", seeds=2):
    return [curriculum(Arm(kind, 1.0), TARGETS, TRAIN[:120], TRAIN[120:], s, exclusive=True)
            for s in range(seeds)]  # fmt: skip


def auroc(p):
    return judged(torch.from_numpy(p)[None, :, None], TARGETS[TEST], True)[0].item()


def test_as_good_as_logistic_regression():
    linear = pytest.importorskip("sklearn.linear_model")
    x = (FEATURES - FEATURES[:120].mean(0)) / FEATURES[:120].std(0)
    best = max(
        auroc(linear.LogisticRegression(C=c, max_iter=500).fit(x[:120], LABELS[:120])
              .predict_proba(x[TEST]))
        for c in (0.01, 0.1, 1.0)
    )  # fmt: skip
    trained = probe(steps=400)(planned(), range(2), VALIDATION, TEST)
    assert min(auroc(p) for p in trained.test) > best - 0.015


@pytest.mark.parametrize("hidden", [0, 8])
def test_seeds_together_are_seeds_one_by_one(hidden):
    whole = probe(hidden=hidden, steps=40)(planned("mixed"), [0, 1], VALIDATION, TEST)
    alone = probe(hidden=hidden, steps=40)(planned("mixed")[1:], [1], VALIDATION, TEST)
    assert whole.test[1] == pytest.approx(alone.test[0], abs=1e-5)
    assert whole.chosen[1]["l2"] == alone.chosen[0]["l2"]


def test_answers_that_are_no_numbers_are_refused():
    broken = FEATURES.copy()
    broken[VALIDATION[0], 0] = np.inf
    with pytest.raises(VesaliusError, match=r"no numbers: give a smaller --lr"):
        Probe(broken, TARGETS, True, steps=20, batch=32)(planned(), [0, 1], VALIDATION, TEST)


def test_test_images_choose_nothing():
    """Other answers for validation change what is chosen; the test labels are never looked at."""
    other = TARGETS.copy()
    other[TEST] = 0
    first = probe(steps=40)(planned(), range(2), VALIDATION, TEST)
    blind = Probe(FEATURES, other, True, steps=40, batch=32)(planned(), range(2), VALIDATION, TEST)
    assert (first.test == blind.test).all()


def test_features_of_any_scale_give_the_same_classifier():
    large = Probe(FEATURES * 50 + 7, TARGETS, True, steps=60, batch=32)
    first, second = (p(planned(), range(2), VALIDATION, TEST) for p in (probe(steps=60), large))
    assert first.test == pytest.approx(second.test, abs=2e-3)


def test_findings_get_probabilities_of_their_own():
    targets = np.stack([LABELS == 0, LABELS > 0, LABELS == 2], 1).astype(np.float32)
    trained = Probe(FEATURES, targets, False, steps=60, batch=32)(
        planned("weighted"), range(2), VALIDATION, TEST
    )
    assert trained.test.shape == (2, 120, 3) and not np.allclose(trained.test.sum(-1), 1, atol=0.01)


def test_views_are_trained_on_only_where_a_phase_says_so():
    views = np.full((2, 120, 24), np.nan, np.float32)  # one of them would spoil every answer
    viewed = np.full(400, -1)
    viewed[:120] = np.arange(120)
    learner = probe(views=views, viewed=viewed, steps=20, lr=1e-3)
    assert np.isfinite(learner(planned(), range(2), VALIDATION, TEST).test).all()
    with pytest.raises(VesaliusError, match="no numbers"):
        learner(planned("augmented"), range(2), VALIDATION, TEST)


def test_every_arm_takes_the_same_steps():
    for kind in ("real", "mixed", "pretrained"):
        made = draws(planned(kind)[0], 101, 8, 0)
        assert made.rows.shape == (101, 8)
    two = planned("pretrained")[0]
    made = draws(two, 100, 8, 0)
    assert (made.rows[:50] >= 120).all() and (made.rows[50:] < 120).all()
    assert [(a, b) for a, b, _ in spans(two, 100)] == [(0, 50), (50, 100)]
    assert min(stops(two, 100)) > 50 and len(stops(two, 1000)) == len(stops(planned()[0], 1000))


def test_draws_follow_the_chances():
    phase = Phase(np.array([3, 5]), np.array([0.9, 0.1]))
    rows = draws(Curriculum((phase,), 2, 0), 500, 16, 0).rows
    assert (rows == 3).mean() == pytest.approx(0.9, abs=0.02)


def test_the_rate_falls_and_starts_again_with_a_phase():
    two = planned("pretrained")[0]
    rates = [schedule(two, step, 100) for step in range(100)]
    assert rates[49][1] < 0.01 and rates[55][1] > 0.9 and rates[50][2] and not rates[51][2]


def test_losses_are_the_textbook_s():
    logits, y = torch.randn(1, 6, 1, 3), torch.eye(3)[[0, 1, 2, 0, 1, 2]][None]
    weights = torch.tensor([[1.0, 2.0, 3.0]])
    each = torch.nn.functional.cross_entropy(logits[0, :, 0], y[0], reduction="none")
    assert losses(logits, y, None, exclusive=True).item() == pytest.approx(each.mean().item())
    weighed = (each * torch.tensor([1.0, 2, 3, 1, 2, 3])).mean().item()
    assert losses(logits, y, weights, exclusive=True).item() == pytest.approx(weighed)
    told = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[0, :, 0], y[0], pos_weight=weights[0]
    )
    assert losses(logits, y, weights, exclusive=False).item() == pytest.approx(
        told.item(), abs=1e-6
    )


def test_validation_is_judged_as_scikit_learn_does():
    metrics = pytest.importorskip("sklearn.metrics")
    p = torch.rand(1, 50, 1, 3).softmax(-1)
    y = TARGETS[:50]
    value, loss = judged(p, y, True)
    told = p[0, :, 0].numpy()
    told = told / told.sum(1, keepdims=True)
    assert value.item() == pytest.approx(metrics.roc_auc_score(y, told, average="macro"), abs=1e-6)
    assert loss.item() == pytest.approx(metrics.log_loss(y, told), abs=1e-5)
