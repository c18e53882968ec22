"""Whole networks as classifiers: timm's, pretrained or from scratch, and a CLIP with low-rank layers.

The same interface as the probe's, the same draws, the same number of steps for every arm and the same
search: when to stop, by the AUROC of the real validation images. Images are decoded once and held as
bytes at the network's own size; only the arm `augmented` changes them, and only in training.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vesalius.core.optional import need
from vesalius.core.quiet import quiet
from vesalius.errors import VesaliusError
from vesalius.images.pixels import open_rgb, square
from vesalius.models.networks import backbones
from vesalius.models.networks.resize import View
from vesalius.utility.arms import Plan
from vesalius.utility.classifiers import (
    CHECKPOINTS,
    Trained,
    as_probabilities,
    draws,
    judged,
    losses,
    schedule,
    stops,
)
from vesalius.utility.pool import Pool
from vesalius.utility.views import augment

RANK = 16  # of a CLIP's low-rank layers, alpha as much (CytoDiff)
WEIGHT_DECAY = 1e-2
_EVALUATED_AT_ONCE = 64
_WORKERS = 4


@dataclass(frozen=True)
class Network:
    """A network that can be made anew for every training."""

    name: str
    make: Callable[
        [Sequence[str]], nn.Module
    ]  # of prompts, one a class; may draw from torch's seed
    view: View
    mean: tuple[float, ...]  # of channels from 0 to 1
    std: tuple[float, ...]
    lr: float
    about: dict[str, Any]


def find_network(name: str) -> Network:
    """A network by name, see `backbones`. Raises VesaliusError where it cannot be had."""
    kind, colon, rest = name.partition(":")
    if colon and kind == "clip":
        return _clip(rest)
    if colon and kind == "scratch":
        return _timm(rest, None, pretrained=False)
    if Path(name).is_dir():
        return _clip(name)
    if name == "efficientnet-lite0":
        network = backbones.converted_backbone(name)
        return _timm(backbones.CONVERTED[name][0], network.files[0], pretrained=True)
    if kind in ("inception", "swav", "sscd"):
        raise VesaliusError(
            f"{name} is for --tune probe: choose timm:NAME, scratch:NAME or clip:ID"
        )
    architecture, _, path = (rest if colon and kind == "timm" else name).partition("=")
    return _timm(architecture, Path(path) if path else None, pretrained=True)


def _timm(name: str, file: Path | None, *, pretrained: bool) -> Network:
    timm = need("timm", "eval")
    if pretrained:
        found = backbones.timm_backbone(name, file)
        side, short, mean, std = found.side, found.short, found.mean, found.std
        load, about = found.load, {"network": name, "weights": str(found.files[0])}
    elif not timm.is_model(name):
        raise VesaliusError(f"timm has no network {name!r}")
    else:
        cfg = timm.get_pretrained_cfg(name)
        side, mean, std = cfg.input_size[-1], cfg.mean, cfg.std
        short, load = int(side / cfg.crop_pct), None
        about = {"network": name, "weights": "random"}

    def make(prompts: Sequence[str]) -> nn.Module:
        if load is None:
            return timm.create_model(name, pretrained=False, num_classes=len(prompts))
        body: Any = load().requires_grad_(True)
        dims = getattr(body, "head_hidden_size", body.num_features)
        head = nn.Linear(dims, len(prompts))
        nn.init.zeros_(head.weight)
        return nn.Sequential(body, head)

    lr = 1e-4 if pretrained else 1e-3
    return Network(name, make, View("crop", side, short), tuple(mean), tuple(std), lr, about)


def _clip(source: str) -> Network:
    found = backbones.transformers_backbone(source)
    folder = backbones.cached(source, ("config.json",))
    way = "crop" if found.short else "squash"
    about = {"network": f"CLIP {source}", "weights": ", ".join(str(f) for f in found.files),
             "lora": f"rank {RANK}, alpha {RANK}, attention of the image half"}  # fmt: skip
    make = partial(_ClipClassifier, source, folder)
    view = View(way, found.side, found.short)
    return Network(source, make, view, found.mean, found.std, 1e-4, about)


class _ClipClassifier(nn.Module):
    """Images against one direction a class, which starts as the embedding of the class's prompt.

    The text half is frozen, so that it is asked once; low-rank layers in the attention of the image
    half train, and the directions.
    """

    def __init__(self, source: str, folder: Path, prompts: Sequence[str]) -> None:
        super().__init__()
        from peft import LoraConfig, inject_adapter_in_model

        from vesalius.evaluate.metrics.clip import TransformersClip

        clip = TransformersClip(source, folder, "cpu")
        self.head = nn.Parameter(clip.texts(prompts).clone())  # (C, D)
        self.bias = nn.Parameter(torch.zeros(len(prompts)))
        model = clip.model.requires_grad_(False)
        self.scale = float(model.logit_scale.exp())
        names = ("q_proj", "k_proj", "v_proj", "out_proj")
        config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(names))
        with quiet():
            inject_adapter_in_model(config, model.vision_model)
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        found = self.model.get_image_features(pixel_values=x)
        image = nn.functional.normalize(getattr(found, "pooler_output", found), dim=-1)
        return self.scale * image @ nn.functional.normalize(self.head, dim=-1).T + self.bias


@dataclass
class FineTune:
    """Trains a network whole, one seed after the other; see `classifiers.Learner`."""

    pool: Pool
    network: Network
    steps: int
    batch: int
    lr: float | None = None
    side: int | None = None
    device: str = "cpu"
    _held: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
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
        plans: Sequence[Plan],
        seeds: Sequence[int],
        validation: np.ndarray,
        test: np.ndarray,
    ) -> Trained:
        """As `Learner`."""
        began = time.monotonic()
        self._symmetry = self._symmetry or self.pool.real.column("symmetry")
        made = [self._train(p, s, validation, test) for p, s in zip(plans, seeds, strict=True)]
        columns = list(zip(*made, strict=True))
        return Trained(np.stack(columns[0]), np.stack(columns[1]), list(columns[2]),
                       time.monotonic() - began)  # fmt: skip

    def _train(
        self, plan: Plan, seed: int, validation: np.ndarray, test: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = self.network.make(_prompts(self.pool)).to(self.device)
            rate = self.lr or self.network.lr
            parameters = [p for p in model.parameters() if p.requires_grad]
            optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=WEIGHT_DECAY)
            batches, stopping = draws(plan, self.steps, self.batch, seed), stops(plan, self.steps)
            best: tuple[float, float] = (-np.inf, -np.inf)
            kept, stopped = _state(model), 0
            targets = torch.from_numpy(self.pool.targets).float().to(self.device)
            for step in range(self.steps):
                number, share, first = schedule(plan, step, self.steps)
                phase = plan.phases[number]
                if first and step:
                    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=WEIGHT_DECAY)
                for group in optimiser.param_groups:
                    group["lr"] = rate * share
                model.train()
                rows = batches.rows[step]
                x = self._pixels(rows, batches.views[step] if phase.views else None)
                with self._autocast():
                    logits = model(x)
                weights = phase.weights
                loss = losses(
                    logits.float()[None, :, None],
                    targets[rows][None],
                    None if weights is None else torch.from_numpy(weights[None]).to(x),
                    exclusive=self.pool.exclusive,
                )
                optimiser.zero_grad()
                loss.sum().backward()
                optimiser.step()
                if step + 1 in stopping:
                    p = torch.from_numpy(self._answers(model, validation))[None, :, None]
                    value, log_loss = judged(p, self.pool.targets[validation], self.pool.exclusive)
                    if (score := (float(value[0, 0]), -float(log_loss[0, 0]))) > best:
                        best, kept, stopped = score, _state(model), step + 1
            model.load_state_dict(kept, strict=False)
            answers = [self._answers(model, rows) for rows in (validation, test)]
        return answers[0], answers[1], {"stopped": stopped, "validation_auroc": best[0]}

    @torch.no_grad()
    def _answers(self, model: nn.Module, rows: np.ndarray) -> np.ndarray:
        """Probabilities (n, C); the images as they are."""
        model.eval()
        found = []
        for start in range(0, len(rows), _EVALUATED_AT_ONCE):
            with self._autocast():
                logits = model(self._pixels(rows[start : start + _EVALUATED_AT_ONCE], None))
            found.append(as_probabilities(logits.float(), exclusive=self.pool.exclusive).cpu())
        return torch.cat(found).double().numpy()

    def _pixels(self, rows: np.ndarray, views: np.ndarray | None) -> Tensor:
        """(B, 3, side, side), normalised; augmented where `views` are given."""
        with ThreadPoolExecutor(_WORKERS) as threads:
            if views is None:
                missing = [
                    int(row) for row in dict.fromkeys(rows.tolist()) if row not in self._held
                ]
                self._held.update(zip(missing, threads.map(self._read, missing), strict=True))
                images = [self._held[int(row)] for row in rows]
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

    def _autocast(self) -> AbstractContextManager[Any]:
        if torch.device(self.device).type != "cuda":
            return nullcontext()
        return torch.autocast("cuda", torch.bfloat16)


def _state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of what training changes."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    return {k: v.detach().clone() for k, v in model.state_dict().items() if k not in frozen}


def _prompts(pool: Pool) -> list[str]:
    """What each class is called: the caption that most of its real images have, else its label."""
    captions = pool.real.column("caption")
    found = []
    for column, name in enumerate(pool.classes):
        own = [captions[k] for k in np.flatnonzero(pool.targets[: len(pool.real), column])]
        named = [caption for caption in own if caption]
        found.append(max(sorted(set(named)), key=named.count) if named else name.replace("_", " "))
    return found
