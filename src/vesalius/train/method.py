"""What the loop asks of a method, and what a recipe's `method` stands for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from vesalius.config import Part
from vesalius.train.estimate import Estimate
from vesalius.train.session import Session, Trained


class Method(Protocol):
    """One way to train: which module, what loss, what validation, what is saved.

    To be inherited from: a method needs `name`, `module`, `row_weights`, `loss`, `validate` and
    `save`, and overrides what it wants of the rest. Parameters that do not require gradients are
    neither optimised nor stored.
    """

    name: str
    module: nn.Module  # a network, or a ModuleDict of those that are called one by one
    row_weights: Tensor  # (N,) float64: how often each training row is drawn
    settings: dict[str, Any] = {}  # noqa: RUF012  # that must match when a run is resumed
    few_shapes: bool = False  # whether each shape of a batch is worth compiling for
    edges: tuple[str, ...] = ()  # parts that Muon leaves to AdamW; none: Muon cannot train it
    keeps_last: bool = False  # whether the last weights come out, whatever their validation loss
    sample: Callable[[nn.Module], list[Image.Image]] | None = None  # images on fixed prompts
    # of the weights, the step's number and the images of a forward pass: sets every gradient itself,
    # where it is not that of a batch's mean loss; returns what may be logged of it
    gradient: Callable[[dict[str, nn.Parameter], int, int | None], dict[str, Tensor]] | None = None
    kept: dict[str, Any] = {}  # noqa: RUF012  # in checkpoints besides weights, as JSON

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch of training rows; the entry `loss` is what is minimised.

        `rows` (B,) are indices into `row_weights`. Every random number comes from `draw`.
        """
        ...

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Deterministic figures on rows never trained on; the entry `loss` chooses the best."""
        ...

    def save(self, module: nn.Module, folder: Path) -> None:
        """Write what was trained into a new folder."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters with `params` and, if they differ, `lr_scale` and AdamW's options."""
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    def before_step(self, seen: int) -> None:
        """Called with the number of images seen before each step."""

    def after_step(self) -> None:
        """Called after each step."""

    def flops_per_image(self) -> float | None:
        """FLOPs of a training step for one image, where they are known."""
        return None


class Kind(Protocol):
    """What `method: NAME` in a recipe stands for: see the registry `vesalius.config.METHODS`."""

    @property
    def recipe(self) -> type[Part]:
        """The fields of its recipes."""
        ...

    def train(self, recipe: Any, pairs: Path, out: Path, session: Session) -> Trained:
        """Train on a pairs table; everything is written into the folder `out`."""
        ...

    def estimate(self, recipe: Any, pairs: Path, session: Session) -> Estimate:
        """What `train` would do; nothing is downloaded, and nothing is left written."""
        ...
