"""The generator that made a set, ready to be asked whether it gives away its training images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vesalius.core.privacy_card import PrivacyCard
from vesalius.models.adapter_files import adapter_file
from vesalius.models.adapters import parse_adapter
from vesalius.models.generator import Generator, load_generator
from vesalius.models.locate import locate
from vesalius.models.privacy import privacy_cards


@dataclass(frozen=True)
class EvaluatedModel:
    """A generator in float32, for the differences looked for are small."""

    name: str
    generator: Generator
    make: Callable[[int], object]  # makes so many images
    base: Generator | None = None  # without the adapter
    card: PrivacyCard | None = None  # of the adapter or the model
    folder: Path | None = None  # where training_rows.json may lie
    words: tuple[str, ...] = ()  # that adapters have taught it


def load_model(model: str, adapters: Sequence[str], device: str) -> EvaluatedModel:
    """The model with its adapters, and without them for comparison.

    Raises VesaliusError where it cannot be loaded.
    """
    from vesalius.sample.generate import load

    loaded = load(model, device, "float32", list(adapters))
    folder = adapter_file(parse_adapter(adapters[-1])[0]).parent if adapters else locate(model)
    return EvaluatedModel(
        name=" + ".join([model, *adapters]),
        generator=loaded.generator,
        make=lambda images: loaded.generate("medical image", n=images),
        base=load_generator(model, device, "float32") if adapters else None,
        card=privacy_cards(locate(model), adapters).any,
        folder=folder,
        words=tuple(adapter.token for adapter in loaded.adapters if adapter.token),
    )
