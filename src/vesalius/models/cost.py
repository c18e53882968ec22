"""What a model costs: multiply-accumulates, parameters and memory, counted without any weights.

A MAC is one multiplication with its addition: half of what others call FLOPs. Networks run on the
meta device, where tensors have shapes and no content, so the largest is counted in a second.
"""

import re
from collections.abc import Callable
from dataclasses import astuple, dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vesalius.core.quiet import quiet
from vesalius.models.generator import Generator
from vesalius.models.text import token_window

# Training keeps float32 weights, gradients, AdamW's two moments and one average of each parameter.
TRAINING_BYTES_A_PARAMETER = 20
COUNTED_IN = torch.bfloat16
# At once: one image at 1 x 1 cells may be one value a group, which group normalisation refuses.
COUNTED_IMAGES = 2


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one call."""

    linear_and_conv: int
    layer_norm: int  # 4 an element: less the mean, divided by the deviation, scaled, shifted
    attention: int  # products of queries with keys and of weights with values; no softmax

    @property
    def by_layers(self) -> int:
        """What `thop` counts and papers quote: linear, conv and LayerNorm, no attention products."""
        return self.linear_and_conv + self.layer_norm

    @property
    def products(self) -> int:
        """Every matrix product, attention's too: what a GPU's matrix units do in a forward pass."""
        return self.linear_and_conv + self.attention


@dataclass(frozen=True)
class Cost:
    """What one image of `size` costs a generator."""

    name: str
    size: tuple[int, int]  # width, height in pixels
    tokens: int
    parameters: dict[str, int]  # of unet, vae, text_encoder
    step: Macs  # one call of the denoiser for one image: guidance makes two a step
    decoding: Macs
    saved_bytes: int  # activations that training the denoiser keeps for one image

    def training_bytes(self, images: int) -> int:
        """Estimated memory to train the denoiser on cached latents, `images` a forward pass.

        That is float32 weights, gradients, AdamW's moments and one average, and `saved_bytes` for
        each image. Compiled code keeps less than this, float32 normalisation keeps more.
        """
        return self.parameters["unet"] * TRAINING_BYTES_A_PARAMETER + images * self.saved_bytes


def count_macs(module: nn.Module, *inputs: Any, call: Callable[..., Any] | None = None) -> Macs:
    """MACs of `module(*inputs)`, or of `call(*inputs)`, a method of it such as `decode`.

    Every matrix product outside of linear and convolution layers counts as attention. The call
    takes place, so module and inputs are best on the meta device.
    """
    layers = norms = 0

    def on_layer(layer: Any, _: Any, output: Tensor) -> None:
        nonlocal layers
        layers += output.numel() * layer.weight[0].numel()  # inputs of one output: C_in * k * k

    def on_norm(_layer: Any, _: Any, output: Tensor) -> None:
        nonlocal norms
        norms += 4 * output.numel()

    hooks = {nn.Linear: on_layer, nn.Conv2d: on_layer, nn.LayerNorm: on_norm}
    handles = [
        part.register_forward_hook(hook)
        for part in module.modules()
        for kind, hook in hooks.items()
        if isinstance(part, kind)
    ]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as products:
            (call or module)(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return Macs(layers, norms, products.get_total_flops() // 2 - layers)


class _FlashAttention(TorchFunctionMode):
    """Attention as a GPU computes it, which never keeps a matrix of weights, (S, S) a head."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_flash_attention(*args[:3])[0]
        return func(*args, **(kwargs or {}))


def saved_bytes(module: nn.Module, *inputs: Any) -> int:
    """Bytes that autograd keeps between `module(*inputs)`, on the meta device, and its backward.

    Counted in the inputs' format, without compilation or checkpointing, each storage once and
    parameters not at all.
    """
    known = {weight.untyped_storage()._cdata for weight in module.parameters()}
    kept: dict[int, Any] = {}  # the storages themselves: else an address could be used again

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = storage
        return tensor

    with torch.enable_grad(), _FlashAttention(), saved_tensors_hooks(keep, lambda tensor: tensor):
        output = module(*inputs)
        del output
    return sum(storage.nbytes() for storage in kept.values())


def count_denoiser(unet: Any, cells: tuple[int, int], tokens: int) -> tuple[Macs, int]:
    """MACs of one call for one image, and the bytes that training keeps for it.

    `unet` is on the meta device, in the format that is counted; `cells` are the latents' height and
    width.
    """
    form: Any = {"dtype": next(unet.parameters()).dtype, "device": "meta"}
    # where no weight is trained, as in textual inversion, the gradient passes through to the text
    trains = any(weight.requires_grad for weight in unet.parameters())
    states = torch.empty(COUNTED_IMAGES, tokens, unet.config.cross_attention_dim, **form)
    inputs = (
        torch.empty(COUNTED_IMAGES, unet.config.in_channels, *cells, **form),
        torch.empty((), device="meta"),
        states.requires_grad_(not trains),
    )
    macs = [count // COUNTED_IMAGES for count in astuple(count_macs(unet, *inputs))]
    return Macs(*macs), saved_bytes(unet, *inputs) // COUNTED_IMAGES


def cost_of(generator: Generator, pixels: int | None = None) -> Cost:
    """The cost of a generator for square images, or at its native size. It is neither run nor changed."""
    unet, vae = outline(generator.unet, COUNTED_IN), outline(generator.vae, COUNTED_IN)
    width, height = (pixels, pixels) if pixels else generator.native_size
    factor = generator.vae_factor
    tokens, cells = token_window(generator.tokenizer), (height // factor, width // factor)
    latents = torch.empty(1, unet.config.in_channels, *cells, dtype=COUNTED_IN, device="meta")
    step, kept = count_denoiser(unet, cells, tokens)
    networks = {"unet": unet, "vae": vae, "text_encoder": generator.text_encoder}
    return Cost(
        name=generator.name,
        size=(width, height),
        tokens=tokens,
        parameters={
            role: sum(weight.numel() for weight in network.parameters())
            for role, network in networks.items()
        },
        step=step,
        decoding=count_macs(vae, latents, call=vae.decode),
        saved_bytes=kept,
    )


def outline(network: Any, dtype: torch.dtype = torch.float32) -> Any:
    """The same network on the meta device, as first configured: without weights or adapters."""
    with torch.device("meta"), quiet():
        return type(network).from_config(network.config).to(dtype).train()


def stable_diffusion(pixels: int = 512) -> Generator:
    """Stable Diffusion 1.x for square images, on the meta device: its shapes, built in."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    clip = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12
    )
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=pixels // 8, cross_attention_dim=768)
        return _reference(f"SD 1.x, {pixels} px", unet, CLIPTextModel(clip), tokens=77)


def stable_diffusion_2(pixels: int = 512) -> Generator:
    """Stable Diffusion 2.x, base, for square images, on the meta device: its shapes, built in."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    clip = CLIPTextConfig(
        hidden_size=1024, intermediate_size=4096, num_attention_heads=16, num_hidden_layers=23
    )
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=pixels // 8,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),  # pyright: ignore[reportArgumentType]
            use_linear_projection=True,
        )
        return _reference(f"SD 2.x, {pixels} px", unet, CLIPTextModel(clip), tokens=77)


def known_shapes(model: str) -> Generator | None:
    """A model of the hub whose shapes are built in; None for any other."""
    kinds = {
        r"stable-diffusion-v1-[1-5]": stable_diffusion,
        r"stable-diffusion-2(-1)?-base": stable_diffusion_2,
    }
    return next((build() for name, build in kinds.items() if re.search(f"{name}$", model)), None)


def chest_diffusion() -> Generator:
    """Chest-Diffusion (https://arxiv.org/abs/2407.00752) on the meta device: U-ViT, PubMedBERT."""
    from transformers import BertConfig, BertModel

    from vesalius.models.uvit import UViT

    with torch.device("meta"):
        text_encoder = BertModel(BertConfig(vocab_size=30522), add_pooling_layer=False)
        return _reference("Chest-Diffusion", UViT(), text_encoder, tokens=256)


def _reference(name: str, unet: Any, text_encoder: Any, *, tokens: int) -> Generator:
    """A generator of these two and Stable Diffusion's autoencoder. Call it on the meta device."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    shape: dict[str, Any] = {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
    }
    vae = AutoencoderKL(**shape)
    window = SimpleNamespace(model_max_length=tokens)  # all of a tokenizer that a cost depends on
    return Generator(vae, unet, text_encoder, tokenizer=window, scheduler=None, name=name)
