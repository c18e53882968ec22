"""What a method is given besides its recipe: tables, cached latents, a place for samples.

And what every run leaves behind besides its result: the recipe, and which images it was trained on.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from torch import nn

from vesalius.config import Part
from vesalius.core.atomic import atomic_path
from vesalius.core.terminal import image_progress
from vesalius.core.trained_on import TrainedOn, find_rows, read_rows
from vesalius.errors import VesaliusError
from vesalius.models.cost import count_denoiser, outline
from vesalius.models.generator import Generator
from vesalius.models.locate import locate
from vesalius.models.noise_process import Process
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.train.distributed import on_first_rank, world_size
from vesalius.train.latents import Latents, cached_latents
from vesalius.train.method import Rows

SAMPLES = 8

# Draws one image a prompt with a generator; given by the caller, as training cannot sample itself.
Sampler = Callable[[Generator, list[str]], list[Image.Image]]


@dataclass
class Material:
    """What a method that starts from a generator is given."""

    base: Generator
    latents: Latents
    rows: Rows
    captions: list[list[str]]  # of each table row, one or several to choose from
    process: Process
    device: str


class Joined(Pairs):
    """The rows of a table that training reads, train and val; then another table's training rows.

    The rows that no split uses are left out, so that they are not encoded. Without `captions` all
    rows have the empty one: none is encoded for nothing where the text encoder is trained.
    """

    def __init__(self, first: Pairs, second: Pairs | None = None, *, captions: bool = True) -> None:
        self.first, self.second, self.captions = first, second, captions
        own = [(first, row) for row in sorted([*first.rows("train"), *first.rows("val")])]
        more = [(second, row) for row in second.rows("train")] if second else []
        self.own, self.places = len(own), own + more

    def __len__(self) -> int:
        return len(self.places)

    def column(self, name: str) -> list[str]:
        if name == "caption" and not self.captions:
            return [""] * len(self)
        tables = {id(table): table.column(name) for table in (self.first, self.second) if table}
        return [tables[id(table)][row] for table, row in self.places]

    def encoded(self, index: int) -> bytes:
        table, row = self.places[index]
        return table.encoded(row)

    def added(self) -> list[int]:
        """The rows of the second table."""
        return list(range(self.own, len(self)))


def open_pairs(path: Path | str) -> Pairs:
    """A pairs table that a model can learn words from. Raises VesaliusError without captions."""
    pairs = read_pairs(path)
    if not any(caption and caption.strip() for caption in pairs.column("caption")):
        raise VesaliusError(
            f"{path} has no captions, and a model that reads text needs some: make it again with "
            "`vesalius pairs SOURCE --captions DICTIONARY`"
        )
    return pairs


def cache(
    pairs: Pairs,
    autoencoder: Any,
    tokenizer: Any,
    text_encoder: Any,
    size: int,
    folder: Path,
    views: int,
    chunks: int = 1,
    images_in: str = "images",
) -> Latents:
    """`data.latents.cached_latents` with a bar; of several processes, one encodes."""

    def work() -> Latents:
        with image_progress("encoding images") as progress:
            return cached_latents(
                pairs,
                autoencoder,
                tokenizer,
                text_encoder,
                size,
                folder,
                views,
                progress,
                partial(print, file=sys.stderr),
                chunks=chunks,
                images_in=images_in,
            )

    def work_alone() -> None:
        work()

    if world_size() > 1:
        on_first_rank(work_alone)
    return work()


def training_flops(denoiser: Any, latents: Latents, *, frozen: bool = False) -> float:
    """FLOPs of a training step for one image: forward, then the gradients of inputs and weights.

    Each of the three costs what the forward pass does; `frozen` weights have no gradients.
    """
    height, width = latents.mean[torch.zeros(1, dtype=torch.long)].shape[2:]
    macs, _ = count_denoiser(outline(denoiser), (height, width), len(latents.empty_state))
    return 2.0 * macs.products * (2 if frozen else 3)


def settings_of(recipe: Part, **more: Any) -> dict[str, Any]:
    """What two parts of one run must agree on besides the plan, which the loop looks at itself."""
    told = recipe.model_dump(mode="json", exclude={"licence", "sampler", "prompts", "optimisation"})
    told.pop("autoencoder", None)  # a stage of its own, with settings of its own
    if "denoiser" in told:
        told["denoiser"].pop("optimisation")
        if not told["denoiser"]["sizes"]:  # as in checkpoints from before there were any
            told["denoiser"].pop("sizes")
    return told | more


def sample_with(
    method: Any,
    sampler: Sampler | None,
    generator: Generator,
    prompts: list[str],
    pairs: Pairs,
    rows: Rows,
) -> None:
    """Give `method` its hook for samples, drawn by `sampler` with `generator`'s parts.

    Without prompts, these are the first captions of the held-out rows.
    """
    if sampler is None:
        return
    captions = pairs.column("caption")
    chosen = prompts or list(dict.fromkeys(captions[row] for row in rows.held_out))[:SAMPLES]

    def sample(module: nn.Module) -> list[Image.Image]:
        with method.denoising.autocast():
            return sampler(generator, chosen)

    method.sample = sample


def write_recipe(recipe: Part, out: Path) -> None:
    """Write `out`/recipe.yaml, with every value resolved."""
    with atomic_path(out / "recipe.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))


def write_training_rows(
    pairs: Pairs, rows: list[int], out: Path, bases: Sequence[str] = ()
) -> None:
    """Write `out`/training_rows.json: which images, and whose, a later test must not hold.

    What the `bases` have learned from, as far as they say, is in the weights too.
    """
    used = TrainedOn.of_rows("", pairs.column, sorted(rows))
    for base in bases:
        if path := find_rows(locate(base)):
            used = used.plus(read_rows(path))
    used.write(out)


def save_generator(generator: Generator, folder: Path, *, half: bool = True) -> None:
    """Write a finished generator."""
    generator.save(folder, half=half)


def as_mapping(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as text, for a safetensors header."""
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
