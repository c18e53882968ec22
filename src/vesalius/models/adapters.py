"""LoRA and textual inversion on a model: made trainable, and applied to a generator.

For training, low-rank layers are put beside the frozen ones by PEFT. For sampling they are added
to the weights, once: W + w * alpha / r * B A costs nothing at each step and saves like any model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from vesalius.core.manifest import file_sha256
from vesalius.core.paths import expanded
from vesalius.core.privacy_card import PrivacyCard, read_card
from vesalius.errors import VesaliusError
from vesalius.models.adapter_files import (
    USUAL_FILES,
    Lora,
    adapter_file,
    lora_from,
    read_adapter,
    write_lora,
)
from vesalius.models.embeddings import Embedding, add_tokens, as_text
from vesalius.models.generator import Generator

# Query, key, value and output of every attention, as each class of network calls them. The first
# of these that a network has is what a LoRA trains by default.
ATTENTION = (
    ("to_q", "to_k", "to_v", "to_out.0"),  # diffusers' U-Nets
    ("q_proj", "k_proj", "v_proj", "out_proj"),  # CLIP
    ("query", "key", "value", "attention.output.dense"),  # BERT
    ("qkv", "proj"),  # U-ViT
)
# Parts of a text encoder that decide no token's state, and so get no gradient.
UNUSED = ("pooler.", "text_projection.")
_NAME = "default"  # PEFT's name for the one adapter that is trained


@dataclass(frozen=True)
class Applied:
    """An adapter that a generator has taken in: what its images say of it."""

    name: str
    hash: str  # 16 hex digits of the file's SHA-256
    weight: float
    token: str | None = None  # of a textual inversion
    card: PrivacyCard | None = None  # of a private one

    @property
    def provenance(self) -> str:
        """As in `blood-smear (0123456789abcdef) * 0.5`."""
        return f"{self.name} ({self.hash}) * {self.weight:g}"


def adapter_hashes(adapters: Sequence[str]) -> list[str]:
    """Each as `0123456789abcdef * 0.5`: the start of its file's SHA-256 and its weight."""
    read = [parse_adapter(text) for text in adapters]
    return [f"{file_sha256(adapter_file(path))[:16]} * {weight:g}" for path, weight in read]


def parse_adapter(text: str) -> tuple[Path, float]:
    """`A` or `A:0.5` as a path and a weight. Raises VesaliusError for a weight that is no number."""
    path, colon, number = text.rpartition(":")
    # an existing file may have a colon in its name, and so has a path on a Windows disk
    if not colon or expanded(text).exists() or "/" in number or "\\" in number:
        path, number = text, "1"
    try:
        weight = float(number)
    except ValueError as error:
        raise VesaliusError(
            f"adapter {text}: its weight {number!r} is not a number: write it as {path}:0.5"
        ) from error
    if not path:
        raise VesaliusError(f"adapter {text!r} names no file: write it as FILE:0.5")
    return Path(path), check_weight(weight, path)


def check_weight(weight: float, path: Path | str) -> float:
    """The weight. Raises VesaliusError unless it is between -10 and 10."""
    if not (math.isfinite(weight) and -10 <= weight <= 10):
        raise VesaliusError(f"adapter {path}: its weight is {weight}: give one from -10 to 10")
    return weight


def load_adapter(generator: Generator, path: Path | str, weight: float = 1.0) -> Applied:
    """Read an adapter and apply it to `generator` in place, `weight` times its full strength.

    A LoRA is added to the weights in float32 and rounded once to their own format; a textual
    inversion becomes a token for prompts. Any number of adapters add up.
    Raises VesaliusError, and changes nothing, for an adapter that was made for another base.
    """
    check_weight(weight, path)
    return apply_adapter(generator, read_adapter(path), path, weight)


def apply_adapter(
    generator: Generator, adapter: Lora | Embedding, path: Path | str, weight: float = 1.0
) -> Applied:
    """As `load_adapter`, with an adapter that has been read from `path`."""
    if isinstance(adapter, Lora):
        merge(adapter, weight, fitting_weights(generator, adapter, path))
        return facts_of(path, weight)
    if weight != 1:
        raise VesaliusError(
            f"{path} is a textual inversion, a word that has no weight: leave :{weight:g} out"
        )
    parts, vectors = (generator.tokenizer, generator.text_encoder), adapter.vectors
    try:
        add_tokens(*parts, adapter.token, len(vectors), vectors)
    except VesaliusError as error:
        raise VesaliusError(f"adapter {path}: {error}") from error
    return facts_of(path, weight, adapter.token)


def facts_of(path: Path | str, weight: float, token: str | None = None) -> Applied:
    """What images say of an adapter, which is not read for it."""
    file = adapter_file(path)
    card = read_card(file.parent)
    return Applied(_name(file), file_sha256(file)[:16], weight, token, card)


def _name(file: Path) -> str:
    """The name by which an adapter is known: its file's name, or else that of the run's folder."""
    file = file.resolve()
    names = [file.stem] if file.name not in USUAL_FILES else []
    names += [folder.name for folder in file.parents if folder.name not in ("", "adapter")]
    return names[0] if names else file.stem


def fitting_weights(generator: Generator, lora: Lora, path: Path | str) -> dict[str, nn.Parameter]:
    """The weight that each layer of a LoRA changes. Raises VesaliusError for one of another base."""
    layers = {}
    for component in ("unet", "text_encoder"):
        for name, module in getattr(generator, component).named_modules():
            # underscores for dots: kohya's names do not say which of the two they were
            name = name.removeprefix("text_model.").replace(".", "_")
            layers[f"{component}.{name}"] = module
    found: dict[str, nn.Parameter] = {}
    for layer, (down, up) in lora.pairs.items():
        component, _, name = layer.partition(".")
        module = layers.get(f"{component}.{name.replace('.', '_')}")
        found[layer] = _fitting_weight(module, layer, down, up, f"{path}{_base(lora)}")
    return found


@torch.no_grad()
def merge(lora: Lora, weight: float, targets: Mapping[str, nn.Parameter]) -> None:
    """Add a LoRA, `weight` times, to the weights that `fitting_weights` found."""
    for layer, (down, up) in lora.pairs.items():
        target = targets[layer]
        down, up = (half.to(target.device, torch.float32).flatten(1) for half in (down, up))
        scale = weight * lora.alphas[layer] / down.shape[0]
        update = (up @ down).reshape(target.shape)  # (out, r) (r, in) -> (out, in), or a kernel
        target.copy_(target.float() + scale * update)


def _fitting_weight(
    module: nn.Module | None, layer: str, down: torch.Tensor, up: torch.Tensor, who: str
) -> nn.Parameter:
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter) or weight.ndim < 2:
        raise VesaliusError(f"{who} was made for another base: this model has no {layer}")
    here = (weight.shape[1], weight.shape[0], weight.numel())
    if here != (down.shape[1], up.shape[0], up.shape[0] * down[0].numel()):
        raise VesaliusError(
            f"{who} was made for another base: there {layer} takes {down.shape[1]} and gives "
            f"{up.shape[0]} channels, in this model {here[0]} and {here[1]}"
        )
    return weight


def _base(lora: Lora) -> str:
    base = lora.about.get("base") or lora.about.get("ss_base_model_version")
    return f" (base: {base})" if base else ""


def add_lora(
    unet: nn.Module,
    text_encoder: nn.Module | None,
    rank: int,
    alpha: float,
    targets: Sequence[str] | Literal["all"] | None = None,
    *,
    seed: int = 0,
) -> list[nn.Parameter]:
    """Freeze both networks and put trainable low-rank layers into them; return their parameters.

    `targets` are ends of layers' names, such as `to_q`; None is `ATTENTION`, `all` every linear and
    convolutional layer that decides the output. The parameters are float32 whatever the format of the
    networks; B starts at zero, A depends on `seed` alone.
    Raises VesaliusError when a network has no such layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    generator = torch.Generator().manual_seed(seed)
    parameters = []
    for network in filter(None, (unet, text_encoder)):
        network.requires_grad_(False)
        chosen = _targets(network, targets)
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=chosen)  # type: ignore[arg-type]
        inject_adapter_in_model(config, network, adapter_name=_NAME)
        for layer in _lora_layers(network).values():
            down, up = layer.lora_A[_NAME].float().weight, layer.lora_B[_NAME].float().weight
            start = torch.empty(down.shape)  # drawn on the CPU: the same on every device
            nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
            with torch.no_grad():
                down.copy_(start)
                up.zero_()
            parameters += [down.requires_grad_(), up.requires_grad_()]
    return parameters


def _targets(network: nn.Module, wanted: Sequence[str] | Literal["all"] | None) -> list[str]:
    names = [n for n, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    if wanted == "all":
        return [name for name in names if not name.startswith(UNUSED)]
    for ends in (wanted,) if wanted else ATTENTION:
        suffixes = tuple(f".{end}" for end in ends)
        if chosen := [name for name in names if f".{name}".endswith(suffixes)]:
            return chosen
    example = next((name for name in names if "att" in name), names[0])
    raise VesaliusError(
        f"LoRA: a {type(network).__name__} has no {' or '.join(wanted or ['attention'])}: give "
        f"targets, which are ends of its layers' names, such as {example}"
    )


def _lora_layers(network: nn.Module) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    return {n: m for n, m in network.named_modules() if isinstance(m, LoraLayer)}


def lora_tensors(unet: nn.Module, text_encoder: nn.Module | None) -> dict[str, torch.Tensor]:
    """What `add_lora` has put in, named as diffusers does: `unet.<module>.lora_A.weight`, ..."""
    tensors = {}
    for component, network in {"unet": unet, "text_encoder": text_encoder}.items():
        for name, layer in _lora_layers(network).items() if network is not None else ():
            name = f"{component}.{name}"
            tensors[f"{name}.lora_A.weight"] = layer.lora_A[_NAME].weight.detach()
            tensors[f"{name}.lora_B.weight"] = layer.lora_B[_NAME].weight.detach()
    return tensors


def save_lora(
    path: Path | str, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]
) -> Path:
    """Write `lora_tensors` where stock `load_lora_weights` reads it, with alpha.

    `about` must have `alpha`; what else it has, such as `base`, goes into the header as text.
    """
    settings = {"lora_alpha": about["alpha"]}
    return write_lora(path, lora_from(tensors, settings, as_text(about), path))
