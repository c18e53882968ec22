"""Textual inversion (Gal et al. 2023, arXiv 2208.01618): new words, and nothing else, are trained."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.config import EmbeddingSettings, TextualInversionRecipe
from vesalius.core.quiet import quiet
from vesalius.errors import VesaliusError
from vesalius.models.embeddings import add_tokens, as_text, save_embedding
from vesalius.models.generator import Generator
from vesalius.models.text import lost_words
from vesalius.train.conditioning import EncodedText
from vesalius.train.denoising import DenoisingMethod
from vesalius.train.fine_tuning import FineTuning, Material
from vesalius.train.rows import TrainingPairs

# The templates of the paper's own code, for objects.
TEMPLATES = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)


class SplicedEmbedding(nn.Module):
    """A frozen embedding whose rows `ids` are replaced by the parameter `vectors`, (n, D).

    No optimiser ever sees the other rows, so that neither weight decay nor momentum can move them.
    """

    def __init__(self, embedding: nn.Embedding, ids: list[int]) -> None:
        super().__init__()
        self.embedding = embedding.requires_grad_(False)
        self.vectors = nn.Parameter(embedding.weight.detach()[ids].float())
        slot = torch.full((embedding.num_embeddings,), -1, device=embedding.weight.device)
        slot[ids] = torch.arange(len(ids), device=slot.device)
        self.slot: Tensor
        self.register_buffer("slot", slot, persistent=False)  # (vocabulary,) row -> vector or -1

    def forward(self, ids: Tensor) -> Tensor:
        slot = self.slot[ids]  # (B, T)
        known = self.embedding(ids)  # (B, T, D)
        new = F.embedding(slot.clamp_min(0), self.vectors).to(known.dtype)
        return torch.where((slot < 0)[..., None], known, new)


def initial_vectors(embedding: Tensor, count: int, seed: int) -> Tensor:
    """(count, D) normal vectors with the mean and deviation of the embeddings, (vocabulary, D)."""
    draw = torch.Generator().manual_seed(seed)
    values = embedding.detach().float().cpu()
    noise = torch.randn(count, values.shape[1], generator=draw)
    return values.mean(0) + values.std(0) * noise


def training_captions(
    tokenizer: Any, settings: EmbeddingSettings, captions: list[list[str]], own: set[int]
) -> list[list[str]]:
    """What the images of the rows `own` are called in training; other rows keep their captions.

    Templates that would push a vector out of the token window are left out.
    Raises VesaliusError when not even the token alone fits.
    """
    token = settings.token
    named = [token, *(text.format(token) for text in TEMPLATES)]
    with quiet():  # transformers warns of each prompt that is too long
        fits = {text: lost_words(tokenizer, text) is None for text in named}
    if not fits[token]:
        most = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
        raise VesaliusError(
            f"embedding.vectors: {settings.vectors} do not fit the text encoder's window of "
            f"{tokenizer.model_max_length} tokens: take at most {most}"
        )
    if settings.captions == "pairs":
        return [
            [f"{token}, {several[0]}"] if row in own and token not in several[0] else several
            for row, several in enumerate(captions)
        ]
    phrases = named[1:] if settings.captions == "templates" else []
    fitting = [text for text in phrases if fits[text]] or [token]
    return [fitting if row in own else several for row, several in enumerate(captions)]


class TextualInversionMethod(DenoisingMethod):
    """Train the vectors of one new token on the images of one concept."""

    name = "textual-inversion"
    frozen = True

    def __init__(self, recipe: TextualInversionRecipe, material: Material) -> None:
        base, device, plan = material.base, material.device, recipe.optimisation
        settings, encoder, tokenizer = recipe.embedding, base.text_encoder, base.tokenizer
        self.token, self.notes = settings.token, as_text(material.notes)
        rows = encoder.get_input_embeddings().weight
        initial = settings.initial or initial_vectors(rows, settings.vectors, plan.seed)
        ids = add_tokens(tokenizer, encoder, settings.token, settings.vectors, initial)
        captions = training_captions(tokenizer, settings, material.captions, material.own)
        encoder.requires_grad_(False).to(device)
        encoder.set_input_embeddings(SplicedEmbedding(encoder.get_input_embeddings(), ids))
        dtype = getattr(torch, plan.precision)
        base.unet.requires_grad_(False)
        with quiet():
            unet = base.unet.to(device, dtype, memory_format=torch.channels_last)
        module = nn.ModuleDict({"unet": unet, "text_encoder": encoder})
        text = EncodedText(tokenizer, encoder, captions, device)
        super().__init__(module, material.data, recipe.objective, plan, device, text)

    def save(self, module: nn.Module, folder: Path) -> None:
        embedding = next(m for m in module.modules() if isinstance(m, SplicedEmbedding))
        folder.mkdir()
        save_embedding(folder, self.token, embedding.vectors, self.notes)


def notes(
    recipe: TextualInversionRecipe, _pairs: TrainingPairs, _rows: list[int]
) -> dict[str, Any]:
    """The new word, and how many vectors it has."""
    return {"token": recipe.embedding.token, "vectors": recipe.embedding.vectors}


def check(recipe: TextualInversionRecipe, base: Generator) -> None:
    """Raise VesaliusError for a word that cannot be added, and for vectors that do not fit."""
    settings = recipe.embedding
    tokenizer, encoder = copy.deepcopy((base.tokenizer, base.text_encoder))
    width = encoder.get_input_embeddings().weight.shape[1]
    initial = settings.initial or torch.zeros(settings.vectors, width)
    add_tokens(tokenizer, encoder, settings.token, settings.vectors, initial)
    training_captions(tokenizer, settings, [], set())


KIND = FineTuning(TextualInversionRecipe, TextualInversionMethod, notes, check)
