"""Vesalius: synthetic medical images from text, with the evidence that they can be trusted.

    import vesalius
    model = vesalius.load("mini")
    model.generate(["a chest X-ray with an effusion"])[0].image.show()

Names are imported when they are first used, so `import vesalius` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vesalius._version import __version__

if TYPE_CHECKING:
    from vesalius.errors import VesaliusError
    from vesalius.models.generator import Generator, load_generator
    from vesalius.sample.folder import generate_to_folder
    from vesalius.sample.generate import Sample, TextToImage, load

__all__ = [
    "Generator",
    "Sample",
    "TextToImage",
    "VesaliusError",
    "__version__",
    "generate_to_folder",
    "load",
    "load_generator",
]

_HOMES = {
    "Generator": "vesalius.models.generator",
    "Sample": "vesalius.sample.generate",
    "TextToImage": "vesalius.sample.generate",
    "VesaliusError": "vesalius.errors",
    "generate_to_folder": "vesalius.sample.folder",
    "load": "vesalius.sample.generate",
    "load_generator": "vesalius.models.generator",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vesalius' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
