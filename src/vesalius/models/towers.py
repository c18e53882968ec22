"""A text encoder and an image encoder side by side, as contrastive training needs them.

After CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020). The image encoder is a timm
network, or the one of the CLIP that the text encoder is part of; or there is none, and features
that were taken before stand in its place.
"""

import math
from difflib import get_close_matches
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.quiet import quiet
from vesalius.core.stopping import raise_if_asked
from vesalius.errors import VesaliusError, first_line
from vesalius.models.text_encoder import find_text_encoder

FIRST_SCALE, MOST_SCALE = 1 / 0.07, 100.0  # of the cosines, as in CLIP
FEATURE_DROPOUT = 0.2  # frozen features are the same in every epoch


class TextTower(nn.Module):
    """A text encoder, the projections of texts and images into one space, and a temperature.

    With `pooled` a text is the encoder's own pooled state, for which a CLIP's projection was made;
    otherwise it is the mean of its tokens' states, so that all of those learn what the denoiser is
    to read from them, not the first one alone (our choice; the paper does not say).
    """

    def __init__(
        self,
        text_encoder: nn.Module,
        text_projection: nn.Module,
        image_projection: nn.Module,
        *,
        pooled: bool,
    ) -> None:
        super().__init__()
        self.text_encoder, self.text_projection = text_encoder, text_projection
        self.image_projection, self.pooled = image_projection, pooled
        # one element, not none: torch cannot divide a scalar among processes
        self.log_scale = nn.Parameter(torch.full((1,), math.log(FIRST_SCALE)))

    def text_state(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids and mask (B, T): what the encoder says of each text, (B, D)."""
        encoder: Any = self.text_encoder
        output = encoder(ids, attention_mask=_as_used(mask, encoder.config.model_type))
        if self.pooled:
            return output.pooler_output
        weight = mask[..., None].float()  # (B, T, 1)
        return (output.last_hidden_state * weight).sum(1) / weight.sum(1)

    def project(self, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States of texts (B, D) and images (B, F): unit vectors (B, W), and the scale."""
        text = F.normalize(self.text_projection(text).float(), dim=-1)
        image = F.normalize(self.image_projection(image).float(), dim=-1)
        return text, image, self.log_scale.exp()

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass, as far as the encoders can."""
        for part in self.children():
            for name in ("gradient_checkpointing_enable", "set_grad_checkpointing"):
                if hasattr(part, name):  # transformers' name and timm's
                    getattr(part, name)()
                    break

    @torch.no_grad()
    def limit_scale(self) -> None:
        """Keep the temperature from running away, as CLIP does; called after each step."""
        self.log_scale.clamp_(max=math.log(MOST_SCALE))


class Towers(TextTower):
    """Text encoder and image encoder, both trained."""

    mean: Tensor  # (1, 3, 1, 1), as is std
    std: Tensor

    def __init__(
        self,
        text_encoder: nn.Module,
        image_encoder: nn.Module,
        text_projection: nn.Module,
        image_projection: nn.Module,
        statistics: tuple[Any, Any],  # mean and standard deviation of the channels, of 0..1
        *,
        pooled: bool,
    ) -> None:
        super().__init__(text_encoder, text_projection, image_projection, pooled=pooled)
        self.image_encoder = image_encoder
        for name, values in zip(("mean", "std"), statistics, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, ids: Tensor, mask: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids and mask (B, T), pixels (B, 3, s, s) uint8: unit vectors (B, W), and the scale."""
        return self.project(self.text_state(ids, mask), self._image(pixels))

    def _image(self, pixels: Tensor) -> Tensor:
        pixels = (pixels.float() / 255 - self.mean) / self.std  # (N, 3, s, s)
        state = self.image_encoder(pixels.contiguous(memory_format=torch.channels_last))
        return getattr(state, "pooler_output", state)


class FeatureTowers(TextTower):
    """A text encoder beside features of images that somebody else's network has given.

    The text encoder is all of the cost then, so each text of a batch is read once, among others of
    about its length: `texts` are ids and mask of such groups, (U_g, T_g), and `which` (B,) says
    which of their U rows is the text of each image.
    """

    def forward(
        self, texts: list[tuple[Tensor, Tensor]], which: Tensor, features: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Texts and features (B, F): unit vectors (B, W), and the scale."""
        states = torch.cat([self.text_state(*group) for group in texts])  # (U, D)
        return self.project(states[which], features)


def _as_used(mask: Tensor, model_type: str) -> Tensor | None:
    """The mask (B, T) of the padding in the shape that attention takes.

    Given (B, T), transformers waits for the device in every step, to learn whether all is True.
    """
    if model_type == "clip_text_model":
        return None  # causal: no token sees the padding behind it
    return mask[:, None, None] if model_type in ("bert", "roberta") else mask  # (B, 1, 1, T)


def clip_towers(text_encoder: Any, source: str, size: int) -> Towers:
    """`text_encoder` with the image encoder and the projections of the whole CLIP at `source`.

    Raises VesaliusError when that is no whole CLIP, or its images are not of `size` pixels.
    """
    import transformers
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    folder = find_text_encoder(source)
    if transformers.AutoConfig.from_pretrained(folder, local_files_only=True).model_type != "clip":
        raise VesaliusError(
            f"text encoder {source!r} is not a whole CLIP with an image encoder of its own: name a "
            "timm network as image_encoder"
        )
    with quiet():
        clip: Any = transformers.CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    if (side := clip.config.vision_config.image_size) != size:
        raise VesaliusError(
            f"the image encoder of {source!r} is made for {side} px: set size={side}"
        )
    return Towers(
        text_encoder,
        clip.vision_model,
        clip.text_projection,
        clip.visual_projection,
        (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
        pooled=True,
    )


def timm_towers(text_encoder: Any, name: str, weights: str | None, size: int, width: int) -> Towers:
    """`text_encoder` with the timm network `name` for images of `size` pixels.

    `weights` is a safetensors file of timm's, without which the network is drawn at random, as the
    projections into the common space of `width` dimensions are.
    Raises VesaliusError when there is no such network or the weights are not its own.
    """
    network = _timm_network(name, weights, size)
    with torch.no_grad():
        features = network.eval()(torch.zeros(1, 3, size, size)).shape[-1]
    return Towers(
        text_encoder,
        network,
        nn.Linear(text_encoder.config.hidden_size, width, bias=False),
        nn.Linear(features, width, bias=False),
        (network.pretrained_cfg["mean"], network.pretrained_cfg["std"]),
        pooled=False,
    )


def feature_towers(text_encoder: Any, features: int, width: int) -> FeatureTowers:
    """`text_encoder` with projections, drawn at random, of itself and of so many `features`.

    Those of a network that knows no medicine need one layer more to be distinguished by.
    """
    return FeatureTowers(
        text_encoder,
        nn.Linear(text_encoder.config.hidden_size, width, bias=False),
        nn.Sequential(
            nn.Dropout(FEATURE_DROPOUT),
            nn.Linear(features, width),
            nn.GELU(),
            nn.Linear(width, width, bias=False),
        ),
        pooled=False,
    )


def _timm_network(name: str, weights: str | None, size: int) -> Any:
    """The network without its classifier."""
    try:
        import timm
        from timm.layers import freeze_batch_norm_2d
    except ImportError as error:
        raise VesaliusError("image_encoder needs timm: pip install 'vesalius[eval]'") from error
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise VesaliusError(f"image_encoder {name!r} is neither own nor a timm network{hint}")
    about = timm.get_pretrained_cfg(name)
    sized: dict[str, Any] = {"img_size": size} if about and about.fixed_input_size else {}
    network: Any = timm.create_model(name, pretrained=False, num_classes=0, **sized)
    if weights:
        head = network.pretrained_cfg["classifier"]  # one name, or several
        heads = (head,) if isinstance(head, str) else tuple(head)
        try:
            values = load_file(weights)
            network.load_state_dict({k: v for k, v in values.items() if not k.startswith(heads)})
        except Exception as error:  # missing, torn, another network's or for another size
            raise_if_asked(error)
            why = f"image_weights {weights} do not fit {name}: {first_line(error)}"
            raise VesaliusError(why) from error
        network = freeze_batch_norm_2d(network)
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules()):
        # Its running statistics are no weights: neither averaged nor in a checkpoint.
        raise VesaliusError(
            f"image_encoder {name} has batch normalisation: give image_weights, at which that is "
            "frozen, or choose a network without, such as convnext_atto"
        )
    return network
