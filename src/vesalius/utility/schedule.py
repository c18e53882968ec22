"""Which images each step of a training holds, at what learning rate, and where it may stop."""

from dataclasses import dataclass

import numpy as np

from vesalius.utility.curricula import Curriculum, Phase

CHECKPOINTS = 8  # a training, at which it may stop
WARM_UP = 0.05  # of the steps of a phase


@dataclass(frozen=True)
class Draws:
    """Which rows, and which view of each, the batches of a training hold."""

    rows: np.ndarray  # (steps, B)
    views: np.ndarray  # (steps, B)


def draws(curriculum: Curriculum, steps: int, batch: int, seed: int) -> Draws:
    """The batches of a training, drawn with replacement: a function of curriculum and seed alone."""
    rng = np.random.default_rng([seed, 2])
    uniform = rng.random((steps, batch))
    parts = []
    for start, stop, phase in spans(curriculum, steps):
        edges = np.cumsum(phase.draw)
        places = np.searchsorted(edges / edges[-1], uniform[start:stop], side="right")
        parts.append(phase.rows[np.minimum(places, len(phase.rows) - 1)])
    return Draws(np.concatenate(parts), rng.integers(0, 2**31, (steps, batch)))


def spans(curriculum: Curriculum, steps: int) -> list[tuple[int, int, Phase]]:
    """First step of each phase, the one behind its last, and the phase."""
    shares = np.cumsum([phase.share for phase in curriculum.phases])
    edges = [0, *np.rint(steps * shares / shares[-1]).astype(int).tolist()]
    return list(zip(edges[:-1], edges[1:], curriculum.phases, strict=True))


def schedule(curriculum: Curriculum, step: int, steps: int) -> tuple[int, float, bool]:
    """The phase of a step, its share of the learning rate (a cosine a phase), and whether it opens it."""
    for number, (start, stop, _) in enumerate(spans(curriculum, steps)):
        if start <= step < stop:
            place, whole = step - start, stop - start
            warm = min(1.0, (place + 1) / max(1, WARM_UP * whole))
            return number, warm * 0.5 * (1 + np.cos(np.pi * place / whole)), place == 0
    raise IndexError(step)


def stops(curriculum: Curriculum, steps: int) -> list[int]:
    """Steps after which a training may stop: within its last phase, denser at the start."""
    start, stop, _ = spans(curriculum, steps)[-1]
    shares = np.linspace(0, 1, CHECKPOINTS + 1)[1:] ** 2
    return sorted({start + max(1, round((stop - start) * share)) for share in shares})
