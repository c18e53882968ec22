"""Do images and their captions belong together, to a CLIP? CLIPScore (Hessel et al. 2021).

    CLIPScore = 2.5 max(cos(image, caption), 0)          (arXiv:2104.08718, eq. 1)

An absolute value means nothing: it depends on the CLIP, the captions and the modality. So every set
is told beside the same figure under shuffled captions, which is what ignoring the prompt would
score, and beside that of real images with their own captions, which is what can be hoped for.

A CLIP is given by hub id or folder: in transformers' layout (CLIP, SigLIP) or in open_clip's, as
BiomedCLIP is published.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.quiet import quiet
from vesalius.errors import VesaliusError
from vesalius.models.networks.backbones import cached
from vesalius.statistics.figure import Figure
from vesalius.statistics.per_image import by_class, mean_of

SCALE = 2.5
# what open_clip itself prefers to any pickle that may lie beside them
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")


class Clip(Protocol):
    """Images and texts as unit vectors of one space."""

    name: str

    def images(self, images: Sequence[np.ndarray]) -> Tensor:
        """uint8 (H, W, 3) images to unit vectors (B, D), float32 on the CPU."""
        ...

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Texts to unit vectors (B, D), float32 on the CPU; what is too long is cut."""
        ...

    def cut(self, texts: Sequence[str]) -> int:
        """How many of `texts` are longer than it reads."""
        ...


@dataclass(frozen=True)
class ClipScore:
    """One set of images with its captions."""

    clip: str
    score: Figure  # CLIPScore, 0 to 2.5
    cosine: Figure  # plain, -1 to 1
    shuffled_score: float | None  # expected under a caption of another image; None: all are equal
    shuffled_cosine: float | None
    cut_captions: int  # images whose caption is longer than the CLIP reads
    classes: dict[str, Figure] = field(default_factory=dict)  # CLIPScore of each label


def clip_score(
    clip: Clip,
    images: Iterable[np.ndarray],
    captions: Sequence[str],
    *,
    labels: Sequence[str | None] | None = None,
    groups: Sequence[Hashable] | None = None,
    batch_size: int = 32,
    on_image: Callable[[int, int], None] | None = None,
) -> ClipScore:
    """CLIPScore of uint8 (H, W, 3) images, read as they come, with one caption each.

    The figure for shuffled captions is exact: the mean over all pairs of an image and a caption
    that differs from its own, drawn as often as it occurs. `labels`, findings parted by `|`, give
    figures a class; intervals are by `groups`.
    Raises VesaliusError for no images, or another number of captions.
    """
    counts = Counter(captions)
    distinct = list(counts)
    if not distinct:
        raise VesaliusError("CLIPScore needs an image with a caption at least")
    texts = torch.cat(
        [clip.texts(distinct[k : k + batch_size]) for k in range(0, len(distinct), batch_size)]
    )
    vectors: list[Tensor] = []
    iterator, done = iter(images), 0
    while batch := list(islice(iterator, batch_size)):
        vectors.append(clip.images(batch))
        done += len(batch)
        if on_image:
            on_image(done, len(captions))
    if done != len(captions):
        raise VesaliusError(f"{done} images for {len(captions)} captions")
    cosines = (torch.cat(vectors) @ texts.T).double().numpy()  # (N, U)
    place = {text: number for number, text in enumerate(distinct)}
    own = np.array([place[caption] for caption in captions])
    rows = np.arange(len(own))
    cosine, scores = cosines[rows, own], SCALE * cosines.clip(min=0)
    occurs = np.array(list(counts.values()), float)
    return ClipScore(
        clip=clip.name,
        score=mean_of("clip_score", scores[rows, own], groups),
        cosine=mean_of("clip_cosine", cosine, groups),
        shuffled_score=_shuffled(scores, own, occurs),
        shuffled_cosine=_shuffled(cosines, own, occurs),
        cut_captions=clip.cut(captions),
        classes=by_class("clip_score", scores[rows, own], labels, groups) if labels else {},
    )


def _shuffled(values: np.ndarray, own: np.ndarray, occurs: np.ndarray) -> float | None:
    """Mean of `values` (N, U) over captions other than each image's `own` (N,)."""
    weights = np.repeat(occurs[None], len(own), 0)
    weights[np.arange(len(own)), own] = 0
    return float((values * weights).sum() / weights.sum()) if weights.any() else None


def load_clip(source: str, device: str = "cpu") -> Clip:
    """A CLIP by hub id, which must be in the cache, or folder.

    Raises VesaliusError when it is not to be had, has its weights as pickles only, or is no CLIP.
    """
    folder = cached(source, ())
    if (folder / "open_clip_config.json").is_file():
        return OpenClip(source, folder, device)
    return TransformersClip(source, folder, device)


class TransformersClip:
    """Any model of transformers that has features of images and of texts: CLIP, SigLIP, ..."""

    def __init__(self, name: str, folder: Path, device: str) -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        self.name, self.device = name, device
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet():
                model, report = AutoModel.from_pretrained(
                    folder, **local, use_safetensors=True, output_loading_info=True
                )
                self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, **local)
                self.processor: Any = AutoImageProcessor.from_pretrained(folder, **local)
        except (
            Exception
        ) as error:  # transformers raises a dozen types for a folder that is not right
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise VesaliusError(f"CLIP {name!r} cannot be loaded: {why}") from error
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise VesaliusError(f"{name!r} is a {type(model).__name__}, which is no CLIP")
        if missing := sorted(report["missing_keys"]):
            raise VesaliusError(
                f"CLIP {name!r} lacks {len(missing)} of its weights, such as {missing[0]}"
            )
        self.model: Any = model.to(device).eval()
        text: Any = getattr(model.config, "text_config", model.config)
        self.window = int(text.max_position_embeddings)

    @torch.inference_mode()
    def images(self, images: Sequence[np.ndarray]) -> Tensor:
        """As `Clip`."""
        pictures = [Image.fromarray(image) for image in images]
        inputs = self.processor(images=pictures, return_tensors="pt").to(self.device)
        return _unit(self.model.get_image_features(**inputs))

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """As `Clip`."""
        # to the full window, as SigLIP was trained; to a CLIP the padding makes no difference
        inputs = self.tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.window,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        return _unit(self.model.get_text_features(**inputs))

    def cut(self, texts: Sequence[str]) -> int:
        """As `Clip`."""
        lengths = map(len, self.tokenizer(list(texts), verbose=False).input_ids)
        return sum(length > self.window for length in lengths)


class OpenClip:
    """A model in open_clip's layout, such as BiomedCLIP."""

    def __init__(self, name: str, folder: Path, device: str) -> None:
        from vesalius.core.optional import need

        open_clip = need("open_clip", "clip")
        self.name, self.device = name, device
        if not any((folder / weights).is_file() for weights in OPEN_CLIP_WEIGHTS):
            raise VesaliusError(
                f"CLIP {name!r} has no {OPEN_CLIP_WEIGHTS[0]}: convert its weights; pickles are "
                "refused, because loading one can run any code"
            )
        where = f"local-dir:{folder}"
        try:
            model, preprocess = open_clip.create_model_from_pretrained(where, device=device)
            self.tokenizer: Any = open_clip.get_tokenizer(where)
        except Exception as error:  # open_clip and, for its text tower, transformers
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise VesaliusError(f"CLIP {name!r} cannot be loaded: {why}") from error
        self.model, self.preprocess = model.eval(), preprocess

    @torch.inference_mode()
    def images(self, images: Sequence[np.ndarray]) -> Tensor:
        """As `Clip`."""
        pixels = [self.preprocess(Image.fromarray(image)) for image in images]
        return _unit(self.model.encode_image(torch.stack(pixels).to(self.device)))

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """As `Clip`."""
        return _unit(self.model.encode_text(self.tokenizer(list(texts)).to(self.device)))

    def cut(self, texts: Sequence[str]) -> int:
        """As `Clip`."""
        window = int(self.tokenizer.context_length)
        longer = self.tokenizer(list(texts), context_length=window + 1)  # (N, window + 1)
        padding = self.tokenizer([""], context_length=window + 1)[0, -1]
        return int((longer[:, -1] != padding).sum())


def _unit(features: Any) -> Tensor:
    """Unit vectors (B, D) of features, or of an output that pools them."""
    features = getattr(features, "pooler_output", features)
    return F.normalize(features.float(), dim=-1).cpu()
