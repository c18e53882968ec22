"""Adapting a text encoder to a domain, before a denoiser is trained on what it says.

The first step of Chest-Diffusion (https://arxiv.org/abs/2407.00752): a text and an image encoder
learn to tell which caption belongs to which image (CLIP; Radford et al. 2021,
https://arxiv.org/abs/2103.00020), so that the text states carry what an image shows. The text
encoder alone is kept.
"""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.config import ContrastiveRecipe
from vesalius.data.latents import turn
from vesalius.data.pairs import Pairs, read_pairs
from vesalius.errors import VesaliusError
from vesalius.io.atomic import atomic_path, writable_new_folder
from vesalius.models.quiet import quiet
from vesalius.models.text_encoder import load_text_encoder
from vesalius.models.towers import Towers, clip_towers, timm_towers
from vesalius.train.distributed import join, on_first_rank
from vesalius.train.loop import train
from vesalius.train.methods import choose_rows, generator
from vesalius.train.prepare import settle

OWN = "own"  # the image encoder of the CLIP that the text encoder is part of
CAPTION_STEP = 32  # captions are cut to a batch's longest, in steps of so many tokens
VALIDATION_BATCH = 32
FIGURES = "validation.json"  # beside the weights that it is of


def contrastive_loss(text: Tensor, image: Tensor, scale: Tensor, caption: Tensor) -> Tensor:
    """Symmetric InfoNCE of B pairs of unit vectors (B, W) with captions numbered (B,).

        logits = scale * image @ text.T,    loss = (CE(logits, p) + CE(logits.T, p)) / 2

    Pairs with the same caption are no negatives of each other, as they would be in CLIP: p is the
    identity where all captions differ, and otherwise a row's share is divided among its equals.
    """
    logits = scale * image @ text.T  # (B, B)
    same = (caption[:, None] == caption).to(logits.dtype)
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def recall(text: Tensor, image: Tensor, caption: Tensor, k: int) -> Tensor:
    """Share of queries with a right answer among the k nearest, the mean of both directions.

    `text` (U, W) holds each distinct caption once, `image` (N, W) has caption `caption` (N,). An
    image looks for its caption among the U, a caption for any of its images among the N.
    """
    cosine = image @ text.T  # (N, U)
    texts = cosine.topk(min(k, cosine.shape[1]), dim=1).indices  # (N, k)
    images = cosine.topk(min(k, cosine.shape[0]), dim=0).indices  # (k, U)
    found_text = (texts == caption[:, None]).any(1)
    found_image = (caption[images] == torch.arange(len(text), device=text.device)).any(0)
    return (found_text.float().mean() + found_image.float().mean()) / 2


def build_towers(recipe: ContrastiveRecipe) -> tuple[Any, Towers]:
    """The tokenizer and both encoders of a recipe; what no file holds is drawn from its seed.

    Raises VesaliusError for encoders that are not there or do not fit the recipe.
    """
    text, size = recipe.text_encoder, recipe.size
    tokenizer, encoder = load_text_encoder(text.source, text.tokens)
    encoder.requires_grad_(True)
    if recipe.image_encoder == OWN:
        return tokenizer, clip_towers(encoder, text.source, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.optimisation.seed)
        name, weights = recipe.image_encoder, recipe.image_weights
        return tokenizer, timm_towers(encoder, name, weights, size, recipe.width)


class ContrastiveMethod:
    """Tell which caption of a batch belongs to which image.

    The negatives of a pair are the others of its micro-batch: many (256 and more) teach better.
    """

    name = "contrastive"

    def __init__(self, recipe: ContrastiveRecipe, pairs: Pairs, device: str) -> None:
        self.pairs, self.size, self.device = pairs, recipe.size, torch.device(device)
        self.plan, self.image_lr_scale = recipe.optimisation, recipe.image_lr_scale
        self.dtype = getattr(torch, self.plan.precision)
        self.settings = recipe.model_dump(mode="json", exclude={"optimisation", "name"})
        if (self.plan.micro or self.plan.batch) < 2:
            raise VesaliusError(
                "a pair is told from the others of its micro-batch: set optimisation.micro above 1"
            )
        chosen, held_out = choose_rows(pairs, self.plan), pairs.rows("val")
        if not held_out:
            raise VesaliusError(
                "the pairs table has no rows in the split val, which recall is measured on: make "
                "it with `vesalius pairs ... --split val=0.1`"
            )
        self.rows, self.row_weights = chosen.train, chosen.weights
        self.symmetric = [name == "square" for name in pairs.column("symmetry")]
        self.tokenizer, towers = build_towers(recipe)
        towers.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.module: nn.Module = towers.to(self.device)
        self._read_captions([caption or "" for caption in pairs.column("caption")])
        # Decoding goes on while the device is still at the steps before: nothing waits for it.
        self.threads = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
        draw = generator(self.plan.seed, "validation rows")
        order = torch.randperm(len(held_out), generator=draw)[: self.plan.validation_size]
        self.validation_rows = [held_out[k] for k in order.tolist()]
        self.before = self.figures = self.validate(self.module.eval())
        self.module.train()

    def _read_captions(self, captions: list[str]) -> None:
        """Tokens of each distinct caption, and which one each row of the table has."""
        if blank := [row for row in self.rows if not captions[row].strip()]:
            raise VesaliusError(f"row {blank[0]} of the pairs table has no caption")
        distinct = sorted(set(captions))
        if len({captions[row] for row in self.rows}) < 2:
            raise VesaliusError(
                "all training rows have one caption: there is nothing to tell apart"
            )
        number = {caption: k for k, caption in enumerate(distinct)}
        self.caption = torch.tensor([number[caption] for caption in captions])
        parts = [
            self.tokenizer(
                distinct[start : start + 1024],
                padding="max_length",
                truncation=True,
                padding_side="right",
                return_tensors="pt",
            )
            for start in range(0, len(distinct), 1024)
        ]
        mask = torch.cat([part.attention_mask for part in parts]).bool()
        self.lengths = mask.sum(1)  # on the CPU, where shapes are decided
        self.ids = torch.cat([part.input_ids.int() for part in parts]).to(self.device)
        self.mask = mask.to(self.device)

    def _crop(self, row: int, top: int, left: int, symmetry: int) -> Tensor:
        """A crop of seven eighths of the side, turned where that leaves the caption true."""
        pixels = torch.from_numpy(self.pairs.image(row, _margin(self.size)).copy())
        crop = pixels.permute(2, 0, 1)[:, top : top + self.size, left : left + self.size]
        return turn(crop, symmetry if self.symmetric[row] else 0)

    def _whole(self, row: int) -> Tensor:
        return torch.from_numpy(self.pairs.image(row, self.size).copy()).permute(2, 0, 1)

    def _compare(
        self, module: nn.Module, caption: Tensor, images: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of captions (B,), by number, and of images (3, s, s); the scale."""
        longest = int(self.lengths[caption].max())
        tokens = min(self.ids.shape[1], -(-longest // CAPTION_STEP) * CAPTION_STEP)
        caption = caption.to(self.device, non_blocking=True)
        pixels = torch.stack(images)
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        pixels = pixels.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return module(self.ids[caption, :tokens], self.mask[caption, :tokens], pixels)

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        chosen = [self.rows[k] for k in rows.tolist()]
        room = _margin(self.size) - self.size + 1
        places = torch.randint(room, (2, len(chosen)), generator=draw).tolist()
        turns = torch.randint(8, (len(chosen),), generator=draw).tolist()
        images = list(self.threads.map(self._crop, chosen, *places, turns))
        caption = self.caption[chosen]
        text, image, scale = self._compare(self.module, caption, images)
        loss = contrastive_loss(text, image, scale, caption.to(self.device, non_blocking=True))
        return {"loss": loss, "scale": scale.detach().mean()}

    def after_step(self) -> None:
        assert isinstance(self.module, Towers)
        self.module.limit_scale()

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        texts, images, scale = [], [], torch.ones(())
        for start in range(0, len(self.validation_rows), VALIDATION_BATCH):
            rows = self.validation_rows[start : start + VALIDATION_BATCH]
            whole = list(self.threads.map(self._whole, rows))
            text, image, scale = self._compare(module, self.caption[rows], whole)
            texts.append(text)
            images.append(image)
        text, image = torch.cat(texts), torch.cat(images)
        distinct, caption = self.caption[self.validation_rows].unique(return_inverse=True)
        numbers = caption.tolist()
        first = torch.tensor([numbers.index(k) for k in range(len(distinct))], device=self.device)
        caption = caption.to(self.device)
        self.figures = {
            "loss": contrastive_loss(text, image, scale, caption).item(),
            "recall_1": recall(text[first], image, caption, 1).item(),
            "recall_5": recall(text[first], image, caption, 5).item(),
        }
        return self.figures

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Text encoder and the rest at their own rates; only matrices decay, as in CLIP."""
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, weight in self.module.named_parameters():
            key = (name.startswith("text_encoder."), weight.ndim > 1)
            groups.setdefault(key, []).append(weight)
        return [
            {
                "params": weights,
                "lr_scale": 1.0 if is_text else self.image_lr_scale,
                "weight_decay": self.plan.weight_decay if is_matrix else 0.0,
            }
            for (is_text, is_matrix), weights in groups.items()
        ]

    def save(self, module: nn.Module, folder: Path) -> None:
        """The text encoder and its tokenizer, and the figures of the weights validated last."""
        assert isinstance(module, Towers)
        with quiet():
            module.text_encoder.save_pretrained(folder)  # pyright: ignore[reportCallIssue]
            self.tokenizer.save_pretrained(folder)
        figures = {"before": self.before, "after": self.figures}
        (folder / FIGURES).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def adapt_text_encoder(
    recipe: ContrastiveRecipe,
    pairs_path: Path | str,
    out: Path | str,
    device: str = "cpu",
    resume: bool = False,
) -> Path:
    """Adapt the recipe's text encoder to a pairs table; return its folder, `out`/text_encoder.

    That folder is what `text_encoder.source` of another recipe names: weights, tokenizer, and
    validation.json with the loss and recall at 1 and 5 on held-out pairs before and after. `out`
    also receives recipe.yaml and contrastive/ (log and checkpoints), which `resume` goes on from.

    Raises VesaliusError for a table without captions or held-out rows, and for encoders that are
    not there or do not fit the recipe.
    """
    out, device = Path(out), join(device)
    settled = settle(recipe.optimisation, out / "contrastive", device)
    recipe = recipe.model_copy(update={"optimisation": settled})
    pairs = read_pairs(pairs_path)
    method = ContrastiveMethod(recipe, pairs, device)

    def begin() -> None:
        writable_new_folder(out, overwrite=True)  # a run may be gone on with
        with atomic_path(out / "recipe.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))

    on_first_rank(begin)
    best = train(method, recipe.optimisation, out / "contrastive", resume)
    result = out / "text_encoder"

    def finish() -> None:
        with atomic_path(result) as temporary:
            shutil.copytree(best, temporary, dirs_exist_ok=True)

    on_first_rank(finish)
    return result


def _margin(size: int) -> int:
    """The side that images are shrunk to before a crop of `size` is taken."""
    return size * 8 // 7
