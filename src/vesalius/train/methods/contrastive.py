"""Adapting a text encoder to a domain, before a denoiser is trained on what it says.

The first step of Chest-Diffusion (https://arxiv.org/abs/2407.00752): a text and an image encoder
learn which caption belongs to which image (CLIP; Radford et al. 2021,
https://arxiv.org/abs/2103.00020), so that the text states carry what an image shows. The text
encoder alone is kept. The image encoder is trained along, or its place is taken by the features of
a measuring network that stays as it is: those are taken once, and a CPU is then enough.
"""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.config import ContrastiveRecipe
from vesalius.core.atomic import atomic_path, writable_new_folder
from vesalius.core.quiet import quiet
from vesalius.errors import VesaliusError
from vesalius.models.networks.extractors import find_extractor
from vesalius.models.text_encoder import adapted_folder, load_text_encoder
from vesalius.models.towers import TextTower, clip_towers, feature_towers, timm_towers
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.train.checkpoint import CONTRASTED
from vesalius.train.checks import begun, check_plan
from vesalius.train.conditioning import send
from vesalius.train.contrast import contrastive_loss, label_recall, label_separation, recall
from vesalius.train.distributed import join, on_first_rank, world_size
from vesalius.train.draws import generator
from vesalius.train.estimate import Estimate, Length, count_pairs
from vesalius.train.image_inputs import Crops, Features, ImageInputs
from vesalius.train.loop import train
from vesalius.train.method import Method
from vesalius.train.modes import mixed_precision
from vesalius.train.optimiser import micro_batch
from vesalius.train.resuming import images_of, settle
from vesalius.train.rows import choose_rows, open_pairs
from vesalius.train.run_files import write_recipe, write_training_rows
from vesalius.train.session import Session, Trained

OWN = "own"  # the image encoder of the CLIP that the text encoder is part of
CAPTION_STEP = 32  # captions are cut to a batch's longest, in steps of so many tokens
GROUP_STEP = 16  # captions that are read in groups are cut to a group's longest, in such steps
VALIDATION_BATCH = 32
FIGURES = "validation.json"  # beside the weights that it is of


class ContrastiveMethod(Method):
    """Tell which caption of a batch belongs to which image.

    The negatives of a pair are the others of its micro-batch: many (256 and more) teach better.
    """

    name = "contrastive"

    def __init__(
        self,
        recipe: ContrastiveRecipe,
        pairs: Pairs,
        session: Session,
        features: Path | None = None,
    ) -> None:
        """`features` is the folder where those of a frozen network are kept; None: in memory."""
        self.session, self.plan = session, recipe.optimisation
        self.device = torch.device(session.device)
        self.image_lr_scale, self.by_label = recipe.image_lr_scale, recipe.positives == "label"
        self.dtype = getattr(torch, self.plan.precision)
        self.settings = recipe.model_dump(mode="json", exclude={"optimisation", "name"})
        # unlike elsewhere, what is learnt depends on the micro-batch
        self.settings[CONTRASTED] = micro_batch(self.plan, world_size())
        if self.settings[CONTRASTED] < 2:
            raise VesaliusError(
                "a pair is told from the others of its micro-batch: set optimisation.micro above 1, or "
                "a batch that leaves each process several"
            )
        chosen = choose_rows(pairs, self.plan)
        if not pairs.rows("val"):
            raise VesaliusError(
                "the pairs table has no rows in the split val, which recall is measured on: make "
                "it with `vesalius pairs ... --split val=0.1`"
            )
        self.rows, self.row_weights = chosen.train, chosen.weights
        text = recipe.text_encoder
        self.tokenizer, encoder = load_text_encoder(text.source, text.tokens)
        encoder.requires_grad_(True)
        self._read_captions([caption or "" for caption in pairs.column("caption")])
        self._read_labels(pairs)
        draw = generator(self.plan.seed, "validation rows")
        self.validation_rows = chosen.validated(self.plan, draw)
        self.settings |= images_of(pairs, [*self.rows, *self.validation_rows])
        self.images, towers = self._image_side(recipe, pairs, encoder, features)
        towers.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.module: nn.Module = towers.to(self.device)
        self.before = self.figures = self.validate(self.module.eval())
        self.module.train()

    def _image_side(
        self, recipe: ContrastiveRecipe, pairs: Pairs, encoder: Any, folder: Path | None
    ) -> tuple[ImageInputs, TextTower]:
        """What is read of images, and the towers; what no file holds is drawn from the seed.

        Raises VesaliusError for networks that are not there or do not fit the recipe.
        """
        name, width = recipe.image_encoder, recipe.width
        if recipe.image_features:
            network = find_extractor(recipe.image_features)
            # other weights under the same name are another run
            self.settings["image_features_weights"] = network.weights
            images = Features(pairs, network, self.rows, self.validation_rows, folder, self.session)
            make = partial(feature_towers, encoder, images.dims, width)
        else:
            images, size = Crops(pairs, recipe.size), recipe.size
            make = partial(timm_towers, encoder, name, recipe.image_weights, size, width)
            if name == OWN:
                make = partial(clip_towers, encoder, recipe.text_encoder.source, size)
        with torch.random.fork_rng(devices=[]):  # not before: what is cached draws nothing
            torch.manual_seed(recipe.optimisation.seed)
            return images, make()

    def _read_captions(self, captions: list[str]) -> None:
        """Tokens of each distinct caption, and which one each row of the table has."""
        if blank := [row for row in self.rows if not captions[row].strip()]:
            raise VesaliusError(f"row {blank[0]} of the pairs table has no caption")
        distinct = sorted(set(captions))
        if len({captions[row] for row in self.rows}) < 2:
            raise VesaliusError(
                "all training rows have one caption: there is nothing to distinguish"
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

    def _read_labels(self, pairs: Pairs) -> None:
        """Which set and which label of it each row is of; a row without a label has its own."""
        sources, labels = pairs.column("source"), pairs.column("label")
        whose = [
            (name, label) if label else (name, label, row)
            for row, (name, label) in enumerate(zip(sources, labels, strict=True))
        ]
        self.source, self.label = (
            torch.tensor([known.setdefault(one, len(known)) for one in column])
            for column, known in ((sources, {}), (whose, {}))
        )

    def _tokens(self, caption: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, T) of captions (B,), by number, cut to their longest."""
        longest = int(self.lengths[caption].max())
        tokens = min(self.ids.shape[1], -(-longest // step) * step)
        caption = caption.to(self.device, non_blocking=True)
        return self.ids[caption, :tokens], self.mask[caption, :tokens]

    def _grouped(self, caption: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Each distinct one of captions (B,) once, by length; where each of the B stands (B,)."""
        distinct, which = caption.unique(return_inverse=True)
        size = (self.lengths[distinct] - 1) // GROUP_STEP
        groups = [self._tokens(distinct[size == one], GROUP_STEP) for one in size.unique()]
        place = size.argsort(stable=True).argsort()  # groups stand in order of their size
        return groups, place[which].to(self.device)

    def _compare(
        self, module: nn.Module, caption: Tensor, images: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of captions (B,), by number, and of images; the scale."""
        images = send(images, self.device)
        with self._autocast():
            if isinstance(self.images, Features):
                return module(*self._grouped(caption), images)
            return module(*self._tokens(caption, CAPTION_STEP), images)

    def _autocast(self) -> torch.autocast:
        return mixed_precision(self.device, self.dtype)

    def _loss(self, text: Tensor, image: Tensor, scale: Tensor, rows: list[int]) -> Tensor:
        numbers = (self.caption[rows], self.label[rows]) if self.by_label else (self.caption[rows],)
        on_device = [one.to(self.device, non_blocking=True) for one in numbers]
        return contrastive_loss(text, image, scale, *on_device)

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        chosen = [self.rows[k] for k in rows.tolist()]
        images = self.images.drawn(chosen, draw)
        text, image, scale = self._compare(self.module, self.caption[chosen], images)
        loss = self._loss(text, image, scale, chosen)
        return {"loss": loss, "scale": scale.detach().mean()}

    def after_step(self) -> None:
        assert isinstance(self.module, TextTower)
        self.module.limit_scale()

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        texts, images, scale = [], [], torch.ones(())
        for start in range(0, len(self.validation_rows), VALIDATION_BATCH):
            rows = self.validation_rows[start : start + VALIDATION_BATCH]
            whole = self.images.whole(rows)
            text, image, scale = self._compare(module, self.caption[rows], whole)
            texts.append(text)
            images.append(image)
        text, image = torch.cat(texts), torch.cat(images)
        distinct, caption = self.caption[self.validation_rows].unique(return_inverse=True)
        numbers = caption.tolist()
        first = torch.tensor([numbers.index(k) for k in range(len(distinct))], device=self.device)
        loss = self._loss(text, image, scale, self.validation_rows).item()
        text, caption = text[first], caption.to(self.device)
        label = self.label[self.validation_rows].to(self.device)
        self.figures = {
            "loss": loss,
            "recall_1": recall(text, image, caption, 1).item(),
            "recall_5": recall(text, image, caption, 5).item(),
            "label_recall_1": label_recall(text, image, caption, label).item(),
        }
        if (separation := self._separation(module)) is not None:
            self.figures["label_separation"] = separation
        return self.figures

    def _separation(self, module: nn.Module) -> float | None:
        """`label_separation` of the held-out rows' captions, by the states as a denoiser has them."""
        assert isinstance(module, TextTower)
        columns = (self.caption, self.source, self.label)
        known = torch.stack([one[self.validation_rows] for one in columns], 1).unique(dim=0)
        caption, source, label = known.unbind(1)  # each caption once a label that it stands for
        states = []
        for part in caption.split(VALIDATION_BATCH):
            with self._autocast():
                states.append(module.text_state(*self._tokens(part, CAPTION_STEP)))
        return label_separation(torch.cat(states).cpu(), source, label)

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
        assert isinstance(module, TextTower)
        with quiet():
            module.text_encoder.save_pretrained(folder)  # pyright: ignore[reportCallIssue]
            self.tokenizer.save_pretrained(folder)
        figures = {"before": self.before, "after": self.figures}
        (folder / FIGURES).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


class Contrastive:
    """The `Kind` of recipes that adapt a text encoder."""

    recipe = ContrastiveRecipe

    def train(self, recipe: ContrastiveRecipe, pairs: Path, out: Path, session: Session) -> Trained:
        """Adapt the recipe's text encoder to a pairs table; the result is `out`/text_encoder.

        That folder is what `text_encoder.source` of another recipe names: weights, tokenizer, and
        validation.json with figures on held-out pairs before and after: the loss, recall at 1 and
        5, and how well images find a caption of their label and token states separate the labels. `out`
        also receives recipe.yaml, training_rows.json, features/ of a frozen image network, and
        contrastive/ (log and checkpoints), from which `resume` continues.

        Raises VesaliusError for a table without captions or held-out rows, and for encoders that
        are not there or do not fit the recipe.
        """
        # a run may be resumed; a file is in the way
        out, device = writable_new_folder(out, overwrite=True), join(session.device)
        session = replace(session, device=device)
        check_plan(recipe.optimisation)
        begun(out / "contrastive", session)
        settled = settle(recipe.optimisation, out / "contrastive", device, session.on_message)
        recipe = recipe.model_copy(update={"optimisation": settled})
        table = read_pairs(pairs)
        method = ContrastiveMethod(recipe, table, session, out / "features")
        on_first_rank(partial(write_recipe, recipe, out, keep=session.resume))
        plan, folder = recipe.optimisation, out / "contrastive"
        done = train(method, plan, folder, session)

        def finish() -> None:
            write_recipe(recipe, out)
            bases = adapted_folder(recipe.text_encoder.source)
            write_training_rows(table, method.rows, out, bases)
            with atomic_path(out / "text_encoder") as temporary:
                shutil.copytree(done.best, temporary, dirs_exist_ok=True)

        on_first_rank(finish)
        return done.trained(out / "text_encoder", "text encoder")

    def estimate(self, recipe: ContrastiveRecipe, pairs: Path, session: Session) -> Estimate:
        """What `train` would do; nothing is downloaded or written."""
        table, stage = open_pairs(pairs), recipe.optimisation
        check_plan(stage)
        rows = len(choose_rows(table, stage).train)
        most = "reading captions" if recipe.image_features else "decoding images"
        return Estimate(
            **count_pairs(table, rows),
            trains=f"the text encoder {recipe.text_encoder.source}",
            lengths={"length": Length.of(stage, rows)},
            time=f"unknown before the first steps: it is mostly that of {most}",
        )


KIND = Contrastive()
