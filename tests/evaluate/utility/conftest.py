"""A small test set: patients with several images, and arms of known worth."""

import numpy as np
import pytest

from vesalius.evaluate.utility.scores import truth_of


@pytest.fixture
def trial():
    """Draws truth (three classes) and predictions (S, N, C) that know the class so well."""

    def draw(worth: float = 1.0, seeds: int = 4, patients: int = 60, seed: int = 0, noise=0.3):
        rng = np.random.default_rng(7)  # truth and difficulty: the same in every arm
        of_patient = rng.choice(3, patients, p=[0.5, 0.3, 0.2])
        groups = np.repeat(np.arange(patients), 2)
        y = of_patient[groups]
        logits = 1.2 * rng.normal(size=(len(y), 3)) + worth * np.eye(3)[y]
        own = np.random.default_rng(seed).normal(size=(seeds, *logits.shape))
        p = np.exp(logits + noise * own)
        names = ["basophil", "eosinophil", "lymphocyte"]
        return truth_of(y, names, groups.tolist()), p / p.sum(-1, keepdims=True)

    return draw
