"""Does an image show what was asked for, to a vision-language model? VQAScore (Lin et al. 2024).

    VQAScore = P("Yes" | image, 'Does this figure show "{text}"? Please answer yes or no.')

(arXiv:2404.01291, the question as EyeDiff has it.) The probability is that of the answer's first
token over the whole vocabulary. P(Yes) / (P(Yes) + P(No)) is told beside it, because a model may
spread its belief over other words. The authors' own scorer takes the geometric mean with the
probability that the answer then ends, so its values are not exactly these.

Any model of transformers that answers questions about images will do, with an encoder and a decoder
(BLIP-2 and InstructBLIP on T5) or a decoder alone (LLaVA, Qwen-VL, ...).
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from vesalius.core.quiet import quiet
from vesalius.errors import VesaliusError
from vesalius.models.networks.backbones import cached
from vesalius.statistics.figure import Figure
from vesalius.statistics.per_image import by_class, mean_of

QUESTION = 'Does this figure show "{text}"? Please answer yes or no.'


class Answerer(Protocol):
    """A model that is asked about images."""

    name: str

    def __call__(self, images: Sequence[np.ndarray], questions: Sequence[str]) -> np.ndarray:
        """P(Yes) and P(No) of the first answer token for B uint8 images (H, W, 3): (B, 2)."""
        ...


@dataclass(frozen=True)
class VqaScore:
    """One set of images with its captions."""

    model: str
    score: Figure  # P(Yes)
    yes_of_both: Figure  # P(Yes) / (P(Yes) + P(No))
    shuffled_score: float | None  # under another image's caption; None: all are equal
    classes: dict[str, Figure] = field(default_factory=dict)  # P(Yes) of each label


def vqa_score(
    model: Answerer,
    images: Iterable[np.ndarray],
    captions: Sequence[str],
    *,
    labels: Sequence[str | None] | None = None,
    groups: Sequence[Hashable] | None = None,
    question: str = QUESTION,
    batch_size: int = 8,
    seed: int = 0,
    on_image: Callable[[int, int], None] | None = None,
) -> VqaScore:
    """VQAScore of uint8 (H, W, 3) images, read as they come, with one caption each.

    Each image is asked about a second time, with another image's caption (one draw by `seed`): what
    a set that ignores its prompts would score. `labels`, findings parted by `|`, give figures a
    class; intervals are by `groups`.
    Raises VesaliusError for no images, another number of captions, or a question without {text}.
    """
    if "{text}" not in question:
        raise VesaliusError(f"the question {question!r} has no {{text}} for the caption")
    others = other_captions(captions, seed)
    own: list[np.ndarray] = []
    shuffled: list[np.ndarray] = []
    iterator, done = iter(images), 0
    while batch := list(islice(iterator, batch_size)):
        part = slice(done, done + len(batch))
        done += len(batch)
        if done > len(captions):
            break
        for asked, answers in ((captions, own), (others, shuffled)):
            if asked:
                texts = [question.replace("{text}", text) for text in asked[part]]
                answers.append(model(batch, texts))
        if on_image:
            on_image(done, len(captions))
    if done != len(captions) or not done:
        raise VesaliusError(f"{done or 'no'} images for {len(captions)} captions")
    yes, no = np.concatenate(own).astype(float).T
    return VqaScore(
        model=model.name,
        score=mean_of("vqa_score", yes, groups),
        yes_of_both=mean_of("vqa_yes_of_both", yes / (yes + no).clip(min=1e-12), groups),
        shuffled_score=float(np.concatenate(shuffled)[:, 0].mean()) if shuffled else None,
        classes=by_class("vqa_score", yes, labels, groups) if labels else {},
    )


def other_captions(captions: Sequence[str], seed: int = 0) -> list[str]:
    """For each image a caption of another image that differs from its own; none where all agree."""
    if len(set(captions)) < 2:
        return []
    rng, every = np.random.default_rng(seed), list(captions)
    others = {own: [text for text in every if text != own] for own in set(every)}
    return [others[own][rng.integers(len(others[own]))] for own in every]


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
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet():
                kind: Any = AutoModelForImageTextToText
                model, report = kind.from_pretrained(
                    folder, **local, use_safetensors=True, dtype=dtype, output_loading_info=True
                )
                self.processor: Any = AutoProcessor.from_pretrained(folder, **local)
        except (
            Exception
        ) as error:  # transformers raises a dozen types for a folder that is not right
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise VesaliusError(f"VQA model {source!r} cannot be loaded: {why}") from error
        if missing := sorted(report["missing_keys"]):
            raise VesaliusError(
                f"VQA model {source!r} lacks {len(missing)} of its weights, such as {missing[0]}"
            )
        self.model: Any = model.to(device).eval()
        self.name, self.device, self.dtype, self.template = source, device, dtype, template
        # A decoder alone answers behind the prompt's last token. An encoder counts the distance from
        # the image in front to the question, between which some processors put padding on the left.
        config = model.config
        encodes = config.is_encoder_decoder or config.get_text_config().is_encoder_decoder
        self.processor.tokenizer.padding_side = "right" if encodes else "left"
        self.yes, self.no = (first_tokens(self.processor.tokenizer, w) for w in ("Yes", "No"))
        if not (self.yes and self.no):
            raise VesaliusError(f"VQA model {source!r} has no single tokens for Yes and No")

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
