"""kohya's names for LoRA weights, which the common web UIs read: Stable Diffusion 1.x and 2.x.

`lora_unet_down_blocks_0_..._to_q.lora_down.weight` is what diffusers calls
`unet.down_blocks.0. ... .to_q.lora_A.weight`: the dots of a module's name become underscores, and
each module brings its own alpha as a tensor.
"""

import re
from collections.abc import Mapping

import torch

from vesalius.errors import VesaliusError

Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]  # module -> A (r, in, ...), B (out, r, ...)

_PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
# An underscore that was a dot. Not one: those in words of a U-Net, of CLIP and of a U-ViT.
_WORD_OR_DOT = re.compile(
    r"""(?:^|(?<=_)) (?:
    conv_(?:in|out|shortcut) | (?:time|add)_embedding | time_emb_proj | linear_[12] | class_embedding
    | (?:down|mid|up|transformer)_blocks? | proj_(?:in|out) | to_(?:q|k|v|out)
    | text_model | self_attn | (?:q|k|v|out)_proj | (?:token|position)_embedding | text_projection
    | (?:in|out)_blocks | skip_linear | (?:patch|context)_embed | decoder_pred | final_layer
    ) (?=_|$) | _""",
    re.VERBOSE,
)


def is_kohya(names: Mapping[str, object]) -> bool:
    """Whether tensors called `names` are a LoRA in kohya's format."""
    return any(name.startswith("lora_") and ".lora_down." in name for name in names)


def to_kohya(pairs: Pairs, alphas: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """The tensors of a kohya file. The weights are handed on as they are, to the bit."""
    tensors = {}
    for module, (down, up) in pairs.items():
        component, _, name = module.partition(".")
        key = _PREFIXES[component] + name.replace(".", "_")
        tensors[f"{key}.lora_down.weight"] = down
        tensors[f"{key}.lora_up.weight"] = up
        tensors[f"{key}.alpha"] = _scalar(alphas[module], down.dtype)
    return tensors


def from_kohya(tensors: Mapping[str, torch.Tensor]) -> tuple[Pairs, dict[str, float]]:
    """Pairs and alphas by module, as `unet....` and `text_encoder....`; no alpha means the rank.

    Raises VesaliusError for what is not a plain LoRA of a U-Net and one text encoder.
    """
    pairs, alphas = {}, {}
    for key in tensors:
        flat, _, part = key.partition(".")
        if part not in ("lora_down.weight", "lora_up.weight", "alpha"):
            raise VesaliusError(
                f"{key} is not of a plain LoRA: LoHa, LoKr, DoRA and the other kinds of LyCORIS are "
                "not read"
            )
        module = _module(flat)
        if module in pairs:
            continue
        down, up = (tensors.get(f"{flat}.{half}.weight") for half in ("lora_down", "lora_up"))
        if down is None or up is None:
            raise VesaliusError(f"the LoRA is not whole: of {flat} it has only one half")
        alpha = tensors.get(f"{flat}.alpha", torch.tensor(len(down) if down.ndim else 0))
        if alpha.numel() != 1:
            raise VesaliusError(f"the LoRA's alpha of {flat} is not one number: get it again")
        pairs[module], alphas[module] = (down, up), float(alpha)
    return pairs, alphas


def _module(flat: str) -> str:
    for component, prefix in _PREFIXES.items():
        if flat.startswith(prefix):
            name = flat.removeprefix(prefix)
            return f"{component}.{_WORD_OR_DOT.sub(lambda m: '.' if m[0] == '_' else m[0], name)}"
    raise VesaliusError(
        f"the LoRA has {flat}: it was made for a model with other parts than a U-Net and one text "
        "encoder, such as Stable Diffusion XL"
    )


def _scalar(alpha: float, dtype: torch.dtype) -> torch.Tensor:
    """Alpha as kohya stores it, in the weights' format; in float32 where that would round it."""
    short = torch.tensor(alpha, dtype=dtype)
    return short if float(short) == alpha else torch.tensor(alpha, dtype=torch.float32)
