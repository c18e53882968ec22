"""Real images through the autoencoder of a model: what its decoder alone makes of them."""

from collections.abc import Callable

import torch
from PIL import Image

from vesalius.images.pixels import square
from vesalius.models.generator import load_generator
from vesalius.sample.autoencoder import decode, encode
from vesalius.sample.checks import parse_size


def reconstructor(model: str, device: str) -> Callable[[Image.Image], Image.Image]:
    """What takes an image to its reconstruction, a square of the model's own size.

    Raises VesaliusError for a model that cannot be loaded.
    """
    generator = load_generator(model, device)
    native = generator.settings.get("size", generator.native_size)
    side = min(parse_size(native))

    def reconstruct(image: Image.Image) -> Image.Image:
        pixels = torch.from_numpy(square(image, side).copy())[None]
        return Image.fromarray(decode(generator.vae, encode(generator.vae, pixels))[0].numpy())

    return reconstruct
