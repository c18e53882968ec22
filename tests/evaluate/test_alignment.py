import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.evaluate.alignment import label_consistency

pytest.importorskip("sklearn")


def clusters(count: int, seed: int, *, follow: bool = True) -> tuple[np.ndarray, list[str]]:
    """Three classes far apart in 6 dimensions; without `follow`, features ignore the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    shown = labels if follow else rng.integers(0, 3, count)
    features = rng.normal(size=(count, 6))
    features[np.arange(count), shown] += 8
    return features, [f"class {label}" for label in labels]


def test_a_generator_that_follows_its_labels_reaches_the_real_accuracy():
    found = label_consistency(clusters(300, 0), clusters(90, 1), clusters(120, 2), strength=1)
    assert found.real > 0.97
    assert found.generated > 0.97
    assert (found.real_count, found.generated_count) == (90, 120)


def test_a_generator_that_ignores_its_labels_is_at_chance():
    ignoring = clusters(600, 2, follow=False)
    found = label_consistency(clusters(300, 0), clusters(90, 1), ignoring, strength=1)
    assert found.chance == pytest.approx(1 / 3)
    assert found.generated_balanced == pytest.approx(1 / 3, abs=0.08)


def test_labels_unknown_to_the_probe_are_left_out():
    features, labels = clusters(90, 1)
    found = label_consistency(
        clusters(300, 0), (features, ["unheard of", *labels[1:]]), clusters(9, 2), strength=1
    )
    assert found.real_count == 89


def test_one_class_is_refused():
    with pytest.raises(VesaliusError, match="two classes"):
        label_consistency((np.eye(3), ["a"] * 3), (np.eye(3), ["a"] * 3), (np.eye(3), ["a"] * 3))
