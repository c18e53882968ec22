"""The one loop that trains classifiers, the same way for every arm and for every kind of classifier.

How strong the regularisation is and when training stops is chosen by the AUROC of the real
validation images (equal ones: by their log loss), for each training by itself, from the same choices
for every arm: the search is a part of the recipe, and so of what a seed varies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.errors import VesaliusError
from vesalius.utility.curricula import Curriculum, Phase
from vesalius.utility.schedule import draws, schedule, stops


@dataclass(frozen=True)
class Trained:
    """What the trainings of an arm came to, one a seed."""

    test: np.ndarray  # (S, n_test, C) probabilities
    chosen: list[dict[str, float]]  # of each seed
    seconds: float


class Learner(Protocol):
    """Trains a classifier a curriculum; rows are those of one pool of images."""

    @property
    def about(self) -> dict[str, Any]:
        """Settings, as JSON."""
        ...

    def __call__(
        self,
        curricula: Sequence[Curriculum],
        seeds: Sequence[int],
        validation: np.ndarray,
        test: np.ndarray,
    ) -> Trained:
        """Train curriculum s with seed s; choose on the rows `validation`, answer for `test`."""
        ...


class Trainee(Protocol):
    """S classifiers that train side by side, each with L strengths of regularisation."""

    def optimiser(self) -> torch.optim.Optimizer:
        """A fresh one, without a memory of gradients."""
        ...

    def logits(self, rows: np.ndarray, views: np.ndarray | None) -> Tensor:
        """(S, B, L, C) of a batch (S, B); `views` number the augmented views, None asks for none."""
        ...

    def penalty(self) -> Tensor | float:
        """What regularisation adds to the loss."""
        ...

    def answers(self, rows: np.ndarray) -> Tensor:
        """Probabilities (S, n, L, C), without augmentation."""
        ...

    def keep(self, better: np.ndarray) -> None:
        """Keep the weights as they are now where `better` (S, L)."""
        ...

    def restore(self) -> None:
        """Put the kept weights back."""
        ...


@dataclass(frozen=True)
class Task:
    """What is to be told apart, how long it is trained and how fast."""

    targets: np.ndarray  # (P, C) zeros and ones
    exclusive: bool  # whether an image has exactly one class
    steps: int
    batch: int
    lr: float
    device: str


def fit(
    trainee: Trainee,
    task: Task,
    curricula: Sequence[Curriculum],
    seeds: Sequence[int],
    validation: np.ndarray,
) -> tuple[list[int], list[dict[str, float]]]:
    """Train, and leave the weights of the best stop; which strength each seed chose, and where it stopped.

    Raises VesaliusError for a training that diverges.
    """
    batches = [
        draws(each, task.steps, task.batch, seed)
        for each, seed in zip(curricula, seeds, strict=True)
    ]
    y = torch.from_numpy(task.targets).float().to(task.device)
    stopping, best = stops(curricula[0], task.steps), _Best()
    optimiser = trainee.optimiser()
    for step in range(task.steps):
        number, rate, first = schedule(curricula[0], step, task.steps)
        phases = [each.phases[number] for each in curricula]
        if first and step:
            optimiser = trainee.optimiser()
        for group in optimiser.param_groups:
            group["lr"] = task.lr * rate
        rows = np.stack([each.rows[step] for each in batches])  # (S, B)
        views = np.stack([each.views[step] for each in batches]) if phases[0].views else None
        logits = trainee.logits(rows, views)
        loss = losses(logits, y[rows], _weights(phases, task.device), exclusive=task.exclusive)
        (loss.sum() + trainee.penalty()).backward()
        optimiser.step()
        optimiser.zero_grad()
        if step + 1 in stopping:
            answers, truth = trainee.answers(validation), task.targets[validation]
            if not torch.isfinite(answers).all():
                raise VesaliusError(
                    f"after {step + 1} steps a classifier's answers are no numbers: give a smaller --lr, "
                    "or another --backbone"
                )
            trainee.keep(best.offer(step + 1, *judged(answers, truth, task.exclusive)))
    trainee.restore()
    return best.chosen()


class _Best:
    """The best stop of each training so far, by score and at equal score by loss."""

    def __init__(self) -> None:
        self.score, self.loss, self.step = np.array(-np.inf), np.array(np.inf), np.array(0)

    def offer(self, step: int, score: np.ndarray, loss: np.ndarray) -> np.ndarray:
        better = (score > self.score) | ((score == self.score) & (loss < self.loss))
        self.score = np.where(better, score, self.score)
        self.loss = np.where(better, loss, self.loss)
        self.step = np.where(better, step, self.step)
        return better

    def chosen(self) -> tuple[list[int], list[dict[str, float]]]:
        order = [int(np.lexsort((self.loss[s], -self.score[s]))[0]) for s in range(len(self.score))]
        return order, [
            {"stopped": int(self.step[s, k]), "validation_auroc": float(self.score[s, k])}
            for s, k in enumerate(order)
        ]


def losses(logits: Tensor, y: Tensor, weights: Tensor | None, *, exclusive: bool) -> Tensor:
    """Mean over the batch of (S, B, L, C) against (S, B, C): (S, L). `weights` is (S, C)."""
    y = y[:, :, None]
    if exclusive:
        each = -(y * F.log_softmax(logits, -1)).sum(-1)  # (S, B, L)
        return (
            each.mean(1)
            if weights is None
            else (each * (y * weights[:, None, None]).sum(-1)).mean(1)
        )
    positive = y if weights is None else y * weights[:, None, None]
    each = -(positive * F.logsigmoid(logits) + (1 - y) * F.logsigmoid(-logits))
    return each.mean((1, 3))


def as_probabilities(logits: Tensor, *, exclusive: bool) -> Tensor:
    """Softmax of classes, sigmoid of findings."""
    return logits.softmax(-1) if exclusive else logits.sigmoid()


def judged(p: Tensor, y: np.ndarray, exclusive: bool) -> tuple[np.ndarray, np.ndarray]:
    """Macro AUROC and log loss of probabilities (S, n, L, C) for targets (n, C), each (S, L)."""
    values = p.detach().double().cpu().numpy()
    # sums of ranks; equal probabilities are so rare here that their order does not matter
    ranks = values.argsort(1, kind="stable").argsort(1, kind="stable") + 1
    areas = []
    for c in range(y.shape[1]):
        m = int(y[:, c].sum())
        if 0 < m < len(y):
            total = ranks[..., c][:, y[:, c] > 0].sum(1)
            areas.append((total - m * (m + 1) / 2) / (m * (len(y) - m)))
    likely = np.clip(values, 1e-12, 1 - 1e-12)
    at = y[None, :, None]
    if exclusive:
        loss = -(at * np.log(likely)).sum(-1).mean(1)
    else:
        loss = -(at * np.log(likely) + (1 - at) * np.log(1 - likely)).mean((1, 3))
    return np.round(np.mean(areas, 0), 9), loss


def _weights(phases: Sequence[Phase], device: str) -> Tensor | None:
    found = [phase.weights for phase in phases if phase.weights is not None]
    return torch.from_numpy(np.stack(found)).float().to(device) if found else None
