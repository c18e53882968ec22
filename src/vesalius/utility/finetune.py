"""Whole networks as classifiers, behind the same interface as the probe's and in the same loop.

Images are decoded once and held as bytes at the network's own size; only the arm `augmented` changes
them, and only in training.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vesalius.images.pixels import open_rgb, square
from vesalius.utility.curricula import Curriculum
from vesalius.utility.learner import Task, Trained, as_probabilities, fit
from vesalius.utility.networks import Network
from vesalius.utility.pool import Pool
from vesalius.utility.schedule import CHECKPOINTS
from vesalius.utility.views import augment

WEIGHT_DECAY = 1e-2
_EVALUATED_AT_ONCE = 64
_WORKERS = 4


@dataclass
class FineTune:
    """Trains a network whole, one seed after the other; see `learner.Learner`."""

    pool: Pool
    network: Network
    steps: int
    batch: int
    lr: float | None = None
    side: int | None = None
    device: str = "cpu"
    _decoded: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    _symmetry: list[str] = field(default_factory=list, repr=False)

    @property
    def about(self) -> dict[str, Any]:
        """Settings, as JSON."""
        return {
            "classifier": "all weights" if "lora" not in self.network.about else "low-rank layers",
            "optimiser": "AdamW, cosine",
            "steps": self.steps,
            "batch": self.batch,
            "lr": self.lr or self.network.lr,
            "weight_decay": WEIGHT_DECAY,
            "stops": f"{CHECKPOINTS} within the last phase",
        }

    def __call__(
        self,
        curricula: Sequence[Curriculum],
        seeds: Sequence[int],
        validation: np.ndarray,
        test: np.ndarray,
    ) -> Trained:
        """As `Learner`."""
        began = time.monotonic()
        self._symmetry = self._symmetry or self.pool.real.column("symmetry")
        rate = self.lr or self.network.lr
        task = Task(
            self.pool.targets, self.pool.exclusive, self.steps, self.batch, rate, self.device
        )
        answers, chosen = [], []
        for each, seed in zip(curricula, seeds, strict=True):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                model = self.network.make(_prompts(self.pool)).to(self.device)
                trainee = _InTraining(self, model, rate)
                chosen += fit(trainee, task, [each], [seed], validation)[1]
                answers.append(trainee.answers(test)[0, :, 0].numpy())
        return Trained(np.stack(answers), chosen, time.monotonic() - began)

    def pixels(self, rows: np.ndarray, views: np.ndarray | None) -> Tensor:
        """(B, 3, side, side), normalised; augmented where `views` are given."""
        with ThreadPoolExecutor(_WORKERS) as threads:
            if views is None:
                missing = [
                    int(row) for row in dict.fromkeys(rows.tolist()) if row not in self._decoded
                ]
                self._decoded.update(zip(missing, threads.map(self._read, missing), strict=True))
                images = [self._decoded[int(row)] for row in rows]
            else:
                images = list(threads.map(self._read, rows.tolist(), views.tolist()))
        x = self.network.view.batch(images, self.device)
        mean, std = (
            torch.tensor(values, device=x.device).view(1, 3, 1, 1) * 255
            for values in (self.network.mean, self.network.std)
        )
        return (x - mean) / std

    def _read(self, row: int, view: int | None = None) -> np.ndarray:
        image = open_rgb(self.pool.encoded(row))
        if view is not None:
            image = augment(image, np.random.default_rng([row, view]), self._symmetry[row])
        pixels = square(image, self.side) if self.side else np.asarray(image)
        return self.network.view.prepare(pixels)

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 on a GPU."""
        if torch.device(self.device).type != "cuda":
            return nullcontext()
        return torch.autocast("cuda", torch.bfloat16)


class _InTraining:
    """One network in training; see `learner.Trainee`."""

    def __init__(self, images: FineTune, model: nn.Module, rate: float) -> None:
        self.images, self.model, self.rate = images, model, rate
        self.kept = self._weights()

    def optimiser(self) -> torch.optim.Optimizer:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.AdamW(parameters, lr=self.rate, weight_decay=WEIGHT_DECAY)

    def logits(self, rows: np.ndarray, views: np.ndarray | None) -> Tensor:
        self.model.train()
        x = self.images.pixels(rows[0], None if views is None else views[0])
        with self.images.autocast():
            logits = self.model(x)
        return logits.float()[None, :, None]

    def penalty(self) -> float:
        return 0.0  # AdamW's own

    @torch.no_grad()
    def answers(self, rows: np.ndarray) -> Tensor:
        self.model.eval()
        found = []
        for start in range(0, len(rows), _EVALUATED_AT_ONCE):
            x = self.images.pixels(rows[start : start + _EVALUATED_AT_ONCE], None)
            with self.images.autocast():
                logits = self.model(x)
            exclusive = self.images.pool.exclusive
            found.append(as_probabilities(logits.float(), exclusive=exclusive).cpu())
        return torch.cat(found).double()[None, :, None]

    def keep(self, better: np.ndarray) -> None:
        if better.all():
            self.kept = self._weights()

    def restore(self) -> None:
        self.model.load_state_dict(self.kept, strict=False)

    def _weights(self) -> dict[str, Tensor]:
        """A copy of what training changes."""
        frozen = {name for name, p in self.model.named_parameters() if not p.requires_grad}
        state = self.model.state_dict()
        return {k: v.detach().clone() for k, v in state.items() if k not in frozen}


def _prompts(pool: Pool) -> list[str]:
    """What each class is called: the caption that most of its real images have, else its label."""
    captions = pool.real.column("caption")
    found = []
    for column, name in enumerate(pool.classes):
        own = [captions[k] for k in np.flatnonzero(pool.targets[: len(pool.real), column])]
        named = [caption for caption in own if caption]
        found.append(max(sorted(set(named)), key=named.count) if named else name.replace("_", " "))
    return found
