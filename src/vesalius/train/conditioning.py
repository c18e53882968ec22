"""Text states of a batch: read from the cache, or encoded in each step where the text encoder is trained."""

from typing import Any, Protocol

import torch
from torch import Tensor

from vesalius.models.text import tokenize_prompts
from vesalius.train.latents import Latents


class Conditioning(Protocol):
    """Text states of table rows."""

    def __call__(self, rows: Tensor, dropped: Tensor, draw: torch.Generator | None) -> Tensor:
        """Of `rows` (B,), the empty caption's where `dropped` (B,): (B, T, D) on the device.

        Both lie where the cache does, on the CPU or the device. `draw`, on the device, chooses
        among several captions of a row; without it the choice is always the same.
        """
        ...


class CachedText:
    """Text states from the cache: the text encoder is frozen, and not needed at all."""

    def __init__(self, latents: Latents, device: str) -> None:
        self.latents, self.device = latents, device

    def __call__(self, rows: Tensor, dropped: Tensor, draw: torch.Generator | None) -> Tensor:
        return send(self.latents.text(rows, dropped), self.device)


class EncodedText:
    """Captions tokenised once and encoded in each step, for a text encoder that is trained.

    `captions` are those of each table row.
    """

    def __init__(
        self, tokenizer: Any, text_encoder: Any, captions: list[list[str]], device: str
    ) -> None:
        distinct = sorted({caption for several in captions for caption in several})
        number = {caption: k for k, caption in enumerate(distinct)}
        inputs = tokenize_prompts(tokenizer, [*distinct, ""])
        self.text_encoder = text_encoder
        self.ids = inputs.input_ids.to(device)  # (U + 1, T), the empty caption last
        masked = getattr(text_encoder.config, "use_attention_mask", None)
        self.mask = inputs.attention_mask.to(device) if masked else None
        self.count = torch.tensor([len(several) for several in captions], device=device)
        self.first = self.count.cumsum(0) - self.count
        # the captions of all rows, one row's after another's
        listed = [number[caption] for several in captions for caption in several]
        self.caption = torch.tensor(listed, device=device)

    def __call__(self, rows: Tensor, dropped: Tensor, draw: torch.Generator | None) -> Tensor:
        device = self.ids.device
        rows, dropped = (part.to(device, non_blocking=True) for part in (rows, dropped))
        count, place = self.count[rows], rows  # without a draw, the row's number chooses
        if draw is not None:
            place = (torch.rand(len(rows), generator=draw, device=device) * count).long()
        chosen = self.caption[self.first[rows] + place % count]
        chosen = torch.where(dropped, len(self.ids) - 1, chosen)
        mask = None if self.mask is None else self.mask[chosen]
        return self.text_encoder(self.ids[chosen], attention_mask=mask).last_hidden_state


def send(values: Tensor, device: str | torch.device) -> Tensor:
    """`values` on `device`; from the CPU to a GPU by way of pinned memory, so that nothing waits.

    A copy from other memory waits for all that the device has still to do.
    """
    if values.device.type == "cpu" and torch.device(device).type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
