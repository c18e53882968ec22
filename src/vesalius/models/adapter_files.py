"""Adapters on disk: recognised by what a file holds, not by its name, and written for others.

A LoRA is read in the formats of diffusers, PEFT and kohya, a textual inversion in those of
diffusers and the web UIs. Only safetensors, but for `models.legacy`.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vesalius.core.atomic import writable_new_file
from vesalius.core.documents import parse_json, read_json
from vesalius.core.labels import listed
from vesalius.core.paths import did_you_mean_path, expanded
from vesalius.core.tensors import read_tensors, save_tensors
from vesalius.errors import VesaliusError
from vesalius.models.embeddings import Embedding, embedding_from, save_embedding
from vesalius.models.kohya import Pairs, from_kohya, is_kohya, to_kohya
from vesalius.models.legacy import SUFFIXES, read_legacy

LORA_FILE = "pytorch_lora_weights.safetensors"
# What a run, diffusers or PEFT call the one file in an adapter's folder.
USUAL_FILES = (LORA_FILE, "learned_embeds.safetensors", "adapter_model.safetensors")
FORMATS = ("diffusers", "kohya", "webui")
_CONFIG = "lora_adapter_metadata"  # diffusers' entry in the header, with PEFT's settings as JSON
_WEIGHT = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_linear_layer\.(?:down|up)|lora\.(?:down|up))"
    r"(?:\.default)?\.weight"
)
# Attention processors, as diffusers named them until 2023, and text encoders until 0.17.
_PROCESSOR = re.compile(
    r"(?P<before>.+?)\.(?:processor\.)?to_(?P<which>q|k|v|out)_lora\.(?P<half>down|up)\.weight"
)
_OTHER_KINDS = {  # what a tensor's name says of an adapter that is no plain LoRA
    "lora_magnitude_vector": "DoRA",
    "dora_scale": "DoRA",
    "hada_": "LoHa (LyCORIS)",
    "lokr_": "LoKr (LyCORIS)",
    "oft_": "OFT",
    "boft_": "BOFT",
    "ia3_": "IA3",
    "on_input": "IA3 (LyCORIS)",
    "vera_lambda": "VeRA",
    "lora_embedding_": "a LoRA of embeddings",
    "modules_to_save": "a LoRA with whole layers beside it",
    ".diff": "full weights (LyCORIS)",
    "a1.weight": "GLoRA (LyCORIS)",
    "double_blocks": "a LoRA of Flux",
    "transformer_blocks_0_attn_add": "a LoRA of Stable Diffusion 3",
    "input_blocks": "a LoRA of Stable Diffusion XL",
    "control_": "ControlNet",
    "image_proj": "IP-Adapter",
}
_PLAIN_NAME = re.compile(r"[\w.\-]+")
_COMPONENTS = ("unet", "text_encoder")
_TEXT_MODULES = ("text_model.", "encoder.", "embeddings.")  # how names in CLIP and BERT begin


@dataclass(frozen=True)
class Lora:
    """Low-rank updates W + alpha / r * B A of some layers' weights (arXiv 2106.09685, eq. 3).

    Layers are called `unet.<module>` and `text_encoder.<module>`, CLIP's without `text_model`.
    """

    pairs: Pairs  # layer -> A (r, in, ...) and B (out, r, ...)
    alphas: dict[str, float]
    about: dict[str, str] = field(default_factory=dict)  # the file's own notes


def adapter_file(path: Path | str) -> Path:
    """The one file of an adapter, which may be given as its folder or as the run that made it.

    Raises VesaliusError when there is none, or several that it could be.
    """
    path = expanded(path)
    if not path.exists():
        hint = did_you_mean_path(path) or ": give a .safetensors file or its folder"
        raise VesaliusError(f"there is no adapter {path}{hint}")
    if path.is_file():
        return path
    if (path / "adapter").is_dir():
        path = path / "adapter"
    elif several := sorted(path.glob("*/adapter")):
        raise VesaliusError(
            f"{path} is a run with {len(several)} adapters, one of each label: give one or several "
            f"of {listed([str(each) for each in several])}. Several blend into every image; `vesalius "
            "synthesize` takes the run, and draws each row with the adapter of its label"
        )
    files = [path / name for name in USUAL_FILES if (path / name).is_file()]
    files = files or sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:3]) or "no safetensors"
        raise VesaliusError(f"{path} holds {names}: name the one file that is the adapter")
    return files[0]


def read_adapter(path: Path | str, *, legacy: bool = False) -> Lora | Embedding:
    """A LoRA or a textual inversion from a file or its folder; `legacy` also opens .pt and .bin.

    Read are the layouts of diffusers (attention processors of 2023 too), PEFT, kohya and the web UIs;
    adapters of other kinds are refused by their names.

    Raises VesaliusError for a file that is torn, or is neither.
    """
    file = adapter_file(path)
    if file.suffix.lower() in SUFFIXES:
        if not legacy:
            raise VesaliusError(
                f"{file} is a pickle, which is not read here: convert it once with `vesalius "
                f"adapter {file} --to diffusers --out {file.stem}.safetensors`"
            )
        tensors, about = read_legacy(file)
    else:
        tensors, about = read_tensors(file)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise VesaliusError(f"{file}: {name} holds NaN or infinite values: train it again")
    if embedding := embedding_from(tensors, about, file):
        return embedding
    if is_kohya(tensors):
        pairs, alphas = from_kohya(tensors)
        lora = Lora(_flattened(pairs), _flattened(alphas), dict(about))
    else:
        lora = lora_from(tensors, _peft_config(file, about), about, file)
    for layer, (down, up) in lora.pairs.items():
        rank = len(down) if down.ndim > 1 else 0
        # B of a convolution is 1 x 1: its kernel is A's
        if not rank or up.ndim < 2 or math.prod(up.shape[1:]) != rank or not len(up):
            raise VesaliusError(
                f"{file}: {layer} has A {tuple(down.shape)} and B {tuple(up.shape)}, which do not "
                "fit: get it again"
            )
    return lora


def lora_from(
    tensors: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    about: Mapping[str, str],
    source: Path | str,
) -> Lora:
    """A LoRA from tensors named as diffusers or PEFT name them; `config` has PEFT's settings.

    In a file of diffusers the settings are `unet.lora_alpha`, ...; in PEFT's they have no prefix.
    Raises VesaliusError for what is no plain LoRA of a U-Net and one text encoder.
    """
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _WEIGHT.fullmatch(_without_processor(key))
        if not match:
            raise VesaliusError(_unknown(source, key))
        half = "A" if match["part"].endswith(("A", "down")) else "B"
        halves.setdefault(_layer(match["module"], source), {})[half] = tensor
    if torn := [layer for layer, pair in halves.items() if len(pair) != 2]:
        raise VesaliusError(f"{source} is not whole: {torn[0]} has only one half of its update")
    if not halves:
        raise VesaliusError(f"{source} holds nothing: get it again")
    pairs = {layer: (pair["A"], pair["B"]) for layer, pair in halves.items()}
    alphas = {layer: _alpha(layer, pair[0].shape[0], config) for layer, pair in pairs.items()}
    return Lora(pairs, alphas, {k: v for k, v in about.items() if k not in (_CONFIG, "format")})


def _without_processor(key: str) -> str:
    """`...attn1.processor.to_out_lora.up.weight` as newer versions say it, others as they are."""
    match = _PROCESSOR.fullmatch(key)
    if not match:
        return key
    which, text = match["which"], match["before"].endswith("self_attn")
    name = f"{which}_proj" if text else "to_out.0" if which == "out" else f"to_{which}"
    return f"{match['before']}.{name}.lora.{match['half']}.weight"


def _unknown(source: Path | str, key: str) -> str:
    """What kind of adapter has a tensor of this name, which is not read."""
    kind = next((kind for part, kind in _OTHER_KINDS.items() if part in key), None)
    if kind:
        return f"{source} is {kind}, which is not read: only plain LoRA and textual inversion are"
    return f"{source} is neither a plain LoRA nor a textual inversion: it has {key}"


def _layer(module: str, source: Path | str) -> str:
    module = module.removeprefix("base_model.model.")
    component, _, name = module.partition(".")
    if component in ("text_encoder_2", "transformer"):
        raise VesaliusError(f"{source} was made for another kind of model: it has a {component}")
    if component not in _COMPONENTS:
        component, name = "text_encoder" if module.startswith(_TEXT_MODULES) else "unet", module
    return f"{component}.{name.removeprefix('text_model.')}"


def _flattened(by_layer: dict[str, Any]) -> dict[str, Any]:
    """The same with CLIP's layers called without `text_model`, which newer transformers lack."""
    return {layer.replace(".text_model.", ".", 1): value for layer, value in by_layer.items()}


def _alpha(layer: str, rank: int, config: Mapping[str, Any]) -> float:
    component, _, module = layer.partition(".")

    def setting(name: str) -> Any:
        return config.get(f"{component}.{name}", config.get(name))

    alpha = setting("lora_alpha")
    patterns = setting("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise VesaliusError("the LoRA's alpha_pattern is not a table of layers: get it again")
    for pattern, value in patterns.items():
        # PEFT takes a pattern for the end of a layer's name, from a dot on. What a file brings is
        # never compiled: names alone are understood.
        name = pattern.removeprefix("^").replace("\\.", ".").removeprefix("text_model.")
        if not _PLAIN_NAME.fullmatch(name):
            raise VesaliusError(f"the LoRA's alpha_pattern {pattern[:60]!r} is no layer's name")
        if f".{module}".endswith(f".{name}"):
            alpha = value
            break
    if alpha is None:
        return float(rank)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise VesaliusError(
            f"the LoRA's alpha of {layer} is {str(alpha)[:60]}: a number is expected"
        )
    # rank-stabilised LoRA scales by alpha / sqrt(r) instead of alpha / r (arXiv 2312.03732)
    return float(alpha) * (math.sqrt(rank) if setting("use_rslora") else 1)


def _peft_config(file: Path, about: Mapping[str, str]) -> dict[str, Any]:
    if _CONFIG in about:
        try:
            return dict(parse_json(about[_CONFIG], file))
        except (VesaliusError, ValueError, TypeError) as error:
            raise VesaliusError(f"{file}: its {_CONFIG} is not JSON: get it again") from error
    beside = file.with_name("adapter_config.json")
    return read_json(beside) if beside.is_file() else {}


def write_lora(path: Path | str, lora: Lora) -> Path:
    """Write a LoRA for stock `load_lora_weights`; a folder gets `pytorch_lora_weights.safetensors`.

    The header has PEFT's settings, from which diffusers takes alpha, and the LoRA's own notes.
    """
    path = Path(path)
    path = path if path.suffix == ".safetensors" else path / LORA_FILE
    tensors, config = {}, {}
    for component in _COMPONENTS:
        layers = [layer for layer in lora.pairs if layer.startswith(f"{component}.")]
        down, up = "lora_A", "lora_B"
        if component == "text_encoder" and not any(layer.endswith("_proj") for layer in layers):
            # diffusers knows PEFT's names in a text encoder by CLIP's attention alone, these always
            down, up = "lora_linear_layer.down", "lora_linear_layer.up"
        for layer in layers:
            name = _outer_name(layer)
            tensors[f"{name}.{down}.weight"] = lora.pairs[layer][0].cpu().contiguous()
            tensors[f"{name}.{up}.weight"] = lora.pairs[layer][1].cpu().contiguous()
        if layers:
            config |= _settings(component, layers, lora)
    notes = {**lora.about, "format": "pt", _CONFIG: json.dumps(config, sort_keys=True)}
    save_tensors(path, tensors, notes)
    return path


def _outer_name(layer: str) -> str:
    """CLIP's layers as all versions of the other tools know them: with `text_model`."""
    return layer.replace("text_encoder.encoder.layers.", "text_encoder.text_model.encoder.layers.")


def _settings(component: str, layers: list[str], lora: Lora) -> dict[str, Any]:
    """PEFT's LoraConfig for some layers: the usual rank and alpha, and who differs."""
    ranks = {layer.partition(".")[2]: lora.pairs[layer][0].shape[0] for layer in layers}
    alphas = {layer.partition(".")[2]: lora.alphas[layer] for layer in layers}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    settings = {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(ranks),
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
    }
    return {f"{component}.{key}": value for key, value in settings.items()}


def export_adapter(
    path: Path | str, to: str, out: Path | str, *, token: str | None = None, overwrite: bool = False
) -> Path:
    """Convert an adapter of any format, a legacy .pt or .bin included, to the format `to`.

    `diffusers` is what is written here everywhere; `kohya` is for a LoRA; `webui` is what web UIs
    read, kohya's format or an embedding's `emb_params`. `token` renames a textual inversion.
    Raises VesaliusError for a format that does not fit, and for a file that exists.
    """
    if to not in FORMATS:
        raise VesaliusError(f"--to {to}: the formats are {', '.join(FORMATS)}")
    if Path(out).suffix != ".safetensors":
        raise VesaliusError(f"--out {out}: an adapter is a .safetensors file")
    out = writable_new_file(out, overwrite=overwrite)
    adapter = read_adapter(path, legacy=True)
    if isinstance(adapter, Embedding):
        if to == "kohya":
            raise VesaliusError(f"{path} is a textual inversion: use --to diffusers or --to webui")
        notes, webui = adapter.about, to == "webui"
        return save_embedding(out, token or adapter.token, adapter.vectors, notes, webui=webui)
    if token:
        raise VesaliusError(f"{path} is a LoRA, which has no token: leave --token out")
    if to == "diffusers":
        return write_lora(out, adapter)
    named = {_outer_name(layer): pair for layer, pair in adapter.pairs.items()}
    alphas = {_outer_name(layer): alpha for layer, alpha in adapter.alphas.items()}
    save_tensors(out, to_kohya(named, alphas), adapter.about)
    return out
