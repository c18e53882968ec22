"""Does a generated image show what its prompt asked for? Label consistency by a linear probe.

A logistic regression on frozen features learns the labels from real training images; it is then
asked about held-out real images, for the ceiling, and about generated ones. A generator that
ignores its prompts scores chance, one as good as the data scores the ceiling.
"""

from dataclasses import dataclass

import numpy as np

from vesalius.errors import VesaliusError


@dataclass(frozen=True)
class Consistency:
    """Label consistency of one set; accuracies in [0, 1], balanced over the classes (mean recall).

    `real` is the accuracy on held-out real images, `generated` on generated ones, `chance` what
    always naming the same class would score.
    """

    real: float
    generated: float
    real_balanced: float
    generated_balanced: float
    chance: float
    real_count: int
    generated_count: int


def label_consistency(
    train: tuple[np.ndarray, list[str]],
    held_out: tuple[np.ndarray, list[str]],
    generated: tuple[np.ndarray, list[str]],
    *,
    strength: float = 0.01,
) -> Consistency:
    """Fit a probe on `train`; each argument is features (N, D) with one label a row.

    Features are standardised by the training images. Labels that the training images lack are
    left out of both scores, for no probe could name them. `strength` is scikit-learn's C: with
    more features than images the default of 1 fits noise.
    Raises VesaliusError when fewer than two classes, or no images to score, remain.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise VesaliusError('scikit-learn is missing: pip install "vesalius[eval]"') from error
    features, labels = train
    classes = set(labels)
    if len(classes) < 2:
        raise VesaliusError(f"a probe needs two classes to tell apart, not {sorted(classes)}")
    scaler = StandardScaler().fit(features)
    probe = LogisticRegression(C=strength, max_iter=1000)
    probe.fit(scaler.transform(features), labels)

    scores: list[float] = []
    counts: list[int] = []
    for x, y in (held_out, generated):
        known = np.array([label in classes for label in y], bool)
        if not known.any():
            raise VesaliusError("no image to score has a label that the training images have")
        truth = np.array(y)[known]
        right = np.equal(probe.predict(scaler.transform(x[known])), truth)
        recalls = [right[truth == label].mean() for label in np.unique(truth)]
        scores += [float(right.mean()), float(np.mean(recalls))]
        counts.append(int(known.sum()))
    chance = 1 / len(classes)
    return Consistency(scores[0], scores[2], scores[1], scores[3], chance, counts[0], counts[1])
