"""A vision-language model that is asked about images and answers yes or no.

Any model of transformers that answers questions about images will do, with an encoder and a decoder
(BLIP-2 and InstructBLIP on T5) or a decoder alone (LLaVA, Qwen-VL, ...).
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.models.networks.backbones import cached
from vesalius.models.networks.loading import LOCAL, WEIGHTS, check_complete, loading


class Answerer(Protocol):
    """A model that is asked about images."""

    name: str

    def __call__(self, images: Sequence[np.ndarray], questions: Sequence[str]) -> np.ndarray:
        """P(Yes) and P(No) of the first answer token for B uint8 images (H, W, 3): (B, 2)."""
        ...


class TransformersVqa:
    """A vision-language model of transformers, by hub id in the cache or by folder."""

    def __init__(
        self,
        source: str,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        template: str | None = None,
    ) -> None:
        """Load it. `template` is the prompt with {question} in it, and the image's token if needed.

        Without one, the model's own chat template is taken, else the question as it is, behind an
        image token where the processor puts none. InstructBLIP takes the question; BLIP-2 was made
        for "Question: {question} Answer:".
        Raises VesaliusError when it is not to be had, or is no such model.
        """
        from transformers import AutoModelForImageTextToText, AutoProcessor

        folder = cached(source, ("config.json",))
        what = f"VQA model {source!r}"
        with loading(what):
            kind: Any = AutoModelForImageTextToText
            model, report = kind.from_pretrained(folder, **WEIGHTS, dtype=dtype)
            self.processor: Any = AutoProcessor.from_pretrained(folder, **LOCAL)
        check_complete(what, report)
        self.model: Any = model.to(device).eval()
        self.name, self.device, self.dtype, self.template = source, device, dtype, template
        # A decoder alone answers behind the prompt's last token. An encoder counts the distance from
        # the image in front to the question, between which some processors put padding on the left.
        config = model.config
        encodes = config.is_encoder_decoder or config.get_text_config().is_encoder_decoder
        self.processor.tokenizer.padding_side = "right" if encodes else "left"
        self.yes, self.no = (first_tokens(self.processor.tokenizer, w) for w in ("Yes", "No"))
        if not (self.yes and self.no):
            raise VesaliusError(f"{what} has no single tokens for Yes and No")

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray], questions: Sequence[str]) -> np.ndarray:
        """As `Answerer`."""
        inputs = self.processor(
            images=[Image.fromarray(image) for image in images],
            text=[self._prompt(question) for question in questions],
            padding=True,
            return_tensors="pt",
        ).to(self.device, self.dtype)
        # one token by the model's own loop: it knows where its encoder or its prompt ends
        output = self.model.generate(
            **inputs,
            max_new_tokens=1,
            min_new_tokens=0,
            do_sample=False,
            num_beams=1,
            output_logits=True,
            return_dict_in_generate=True,
        )
        probabilities = (
            output.logits[0].float().softmax(-1)
        )  # (B, V), before any rule of generation
        return torch.stack(
            [probabilities[:, ids].sum(1) for ids in (self.yes, self.no)], 1
        ).cpu().numpy()  # fmt: skip

    def _prompt(self, question: str) -> str:
        if self.template:
            return self.template.replace("{question}", question)
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": question}]
            chat = [{"role": "user", "content": content}]
            return self.processor.apply_chat_template(chat, add_generation_prompt=True)
        token = getattr(self.processor, "image_token", None)
        puts_its_own = getattr(self.processor, "num_query_tokens", None) is not None
        return question if puts_its_own or not token else f"{token}\n{question}"


def first_tokens(tokenizer: Any, word: str) -> list[int]:
    """The tokens that are an answer's whole first `word`, at the start of a text or after a space.

    A tokenizer may write that space as part of the word's token, or as one before it.
    """
    found: set[int] = set()
    for text in (word, f" {word}"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        spoken = [token for token in ids if tokenizer.decode([token]).strip()]
        if len(spoken) == 1 and tokenizer.decode(spoken).strip() == word:
            found |= set(spoken)
    return sorted(found)
