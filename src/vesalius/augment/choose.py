"""How to learn from so many images, how long, and how many to make: chosen from the data.

By our measurement (benchmarks/RECORDS.md, blood smears that mini had never seen, after as many images
seen each), a LoRA of all layers came nearest to the real images, all weights next; textual inversion
did harm. A LoRA has few weights to overfit with, so it is taken where images are few; all weights
have the room to learn from many, as EyeDiff and MediSyn do. Textual inversion changes nothing of the
model: it is taken only where nothing else fits the memory of a GPU, or on demand.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch

from vesalius.augment.base import Base
from vesalius.augment.division import Division
from vesalius.augment.settings import AugmentSettings, Method
from vesalius.config import load_recipe
from vesalius.errors import VesaliusError
from vesalius.synthesize.classes import how_many
from vesalius.synthesize.settings import HowMany
from vesalius.train.estimate import Needs, needs_of

MANY = 1_000  # training images from which on all weights are trained
PASSES = {
    "lora": 24,
    "full": 16,
    "textual-inversion": 100,
}  # over the training images, before limits
LEAST = {"lora": 2_400, "full": 16_000, "textual-inversion": 20_000}  # images seen
MOST = {"lora": 24_000, "full": 210_240, "textual-inversion": 100_000}  # `full`: EyeDiff's length
SEEN_PER_SECOND, SECONDS_PER_IMAGE = 8, 0.42  # of mini on one core
MOST_ON_CPU = 9_600  # images seen by all trainings together: 20 minutes at that rate
MOST_MADE_ON_CPU = 2_000  # synthetic images: 14 minutes at that rate
EVEN = 1.2  # the largest class is under so many times the smallest
SMALL = 200e6  # parameters of a denoiser that has attention at its coarsest levels alone
USABLE = 0.9  # of a GPU's memory


@dataclass(frozen=True)
class Choice:
    """How the generator is made from its base."""

    method: Method
    why: str
    overrides: list[str] = field(default_factory=list)  # of the recipe `augment-METHOD`
    images_seen: int = 0  # by each training
    trainings: int = 1
    length: str = ""  # how the length came about
    trains: str = "nothing"  # what, in words
    parameters: int = 0
    memory: str = ""

    @property
    def per_label(self) -> bool:
        """Whether each label has a training, and an adapter, of its own."""
        return self.method != "none" and getattr(self.recipe(), "per", "set") == "label"

    @property
    def recipe_name(self) -> str:
        """The bundled recipe."""
        return f"augment-{self.method}"

    def recipe(self) -> Any:
        """The recipe with all values but the base model."""
        return load_recipe(self.recipe_name, self.overrides)


@dataclass(frozen=True)
class Amount:
    """How many images are planned."""

    options: dict[str, Any]  # of `synthesize.settings.HowMany`
    why: str
    most: int | None  # rows of the plan that are kept, from its beginning
    counts: dict[str, int]  # by class, before `most`

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Amount":
        """What `as_dict` gave."""
        return cls(**{"options" if name == "way" else name: document[name] for name in document})

    def as_dict(self) -> dict[str, Any]:
        """For augment.json."""
        return {"way" if name == "options" else name: value for name, value in asdict(self).items()}

    @property
    def total(self) -> int:
        """Images that are made."""
        total = sum(self.counts.values())
        return total if self.most is None else min(total, self.most)


def choose(division: Division, base: Base, settings: AugmentSettings, device: str) -> Choice:
    """Method, length and recipe. Raises VesaliusError for values that the recipe does not take."""
    images = len(division.rows("train"))
    if settings.method == "none":
        return Choice("none", "as asked: the model is used as it is")
    if settings.method != "auto":
        method = cast("Method", settings.method)
        return _sized(method, "as asked", division, base, settings, device)[0]
    preferred: Method = "lora" if images < MANY else "full"
    few = (
        f"{images:,} training images are fewer than {MANY:,}: on so few, a LoRA of mini came nearer to "
        "the real images than training all weights did"
    )
    many = f"{images:,} training images are {MANY:,} or more, enough to train all weights"
    why = few if preferred == "lora" else many
    methods: list[Method] = ["full", "lora", "textual-inversion"]
    for method in methods[methods.index(preferred) :]:
        choice, fits = _sized(method, why, division, base, settings, device)
        if fits:
            return choice
        why = f"{method} would need {choice.memory}, more than {device} has free"
    raise VesaliusError(
        f"no method is sure to fit the memory of {device}: take another --device, a smaller --model, "
        "or --method lora optimisation.gradient_checkpointing=true"
    )


def _sized(
    method: Method, why: str, division: Division, base: Base, settings: AugmentSettings, device: str
) -> tuple[Choice, bool]:
    """A method with its recipe, in the largest micro-batch that fits, and whether any does."""
    kind, images = torch.device(device).type, len(division.rows("train"))
    labels = {label for _, label in division.classes()}
    asked = load_recipe(f"augment-{method}", [*settings.overrides])
    trainings = len(labels) if getattr(asked, "per", "set") == "label" else 1
    seen, length = _length(method, images, trainings, kind, settings.images_seen)
    plain = load_recipe(f"augment-{method}")
    batch = plain.optimisation.batch
    seen = max(batch, seen - seen % batch)
    overrides = [f"size={base.size}"]
    overrides += [
        f"optimisation.{name}={value}"
        for name, value in {
            "seen_images": seen,
            "warmup_images": seen // 20 if plain.optimisation.warmup_images else 0,
            "validate_images": max(batch, seen // 10),
            "checkpoint_images": max(batch, seen // 5),
            "seed": settings.seed,
        }.items()
    ]
    if any("|" in label for label in labels):  # combinations of findings: some in one image only
        overrides.append("optimisation.balance=none")
    if method == "lora" and needs_of(plain, base.folder).base_parameters < SMALL:
        overrides += ["lora.targets=all", "optimisation.lr=1e-3"]
    micro = batch
    while True:
        tried = [f"optimisation.micro={micro}"] if micro < batch else []
        every = [*overrides, *tried, *settings.overrides]
        needs = needs_of(load_recipe(f"augment-{method}", every), base.folder)
        fits = _fits(needs, device)
        if fits or micro == 1 or kind != "cuda":
            break
        micro //= 2
    recipe = load_recipe(f"augment-{method}", every)
    choice = Choice(
        method,
        why,
        every,
        recipe.optimisation.seen_images,
        trainings,
        length,
        needs.trains,
        needs.parameters * trainings,
        needs.memory,
    )
    return choice, fits


def _length(
    method: str, images: int, trainings: int, kind: str, asked: int | None
) -> tuple[int, str]:
    """Images seen by each training, and why."""
    if asked:
        return asked, "as asked"
    each = images / trainings
    seen = round(min(MOST[method], max(LEAST[method], PASSES[method] * each)))
    why = f"{seen / each:.0f} passes over the {each:,.0f} images of a training"
    if kind == "cpu" and seen * trainings > MOST_ON_CPU:
        seen = max(1, MOST_ON_CPU // trainings)
        why = (
            f"the most without a GPU ({seen / each:.0f} passes over the {each:,.0f} images of a "
            "training); --images-seen sets another length"
        )
    return seen, why


def _fits(needs: Needs, device: str) -> bool:
    if torch.device(device).type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return needs.memory_bytes < USABLE * free


def say_time(choice: Choice, planned: Amount, base: Base, device: str) -> str:
    """How long training and generating take, as far as that is known beforehand."""
    if base.bundled and torch.device(device).type == "cpu":
        training = choice.images_seen * choice.trainings / SEEN_PER_SECOND / 60
        making = planned.total * SECONDS_PER_IMAGE / 60
        return (
            f"about {training:.0f} minutes of training and {making:.0f} of generating on one core, "
            "then features and classifiers"
        )
    if choice.method == "none":
        return "unknown before the first images"
    needs = needs_of(choice.recipe(), base.folder)
    return f"training {needs.time(device, choice.trainings)}"


def amount(division: Division, settings: AugmentSettings, device: str) -> Amount:
    """How many images of each class are planned. Raises VesaliusError where that would be none."""
    classes = division.classes()
    largest, smallest = max(classes.values()), min(classes.values())
    several = any("|" in label for _, label in classes)
    options: dict[str, Any]
    if asked := settings.amounts:
        options, why = asked, "as asked"
    elif several:
        options = {"ratio": 1.0}
        why = "images have several findings each: as many as there are real ones"
    elif largest < EVEN * smallest:
        options = {"ratio": 1.0}
        why = f"the classes are even ({smallest:,} to {largest:,} images): as many as there are real ones"
    else:
        options = {"balance": True}
        why = (
            f"the classes are uneven ({smallest:,} to {largest:,} images): each is topped up to the "
            "largest"
        )
    counts = {"/".join(key): count for key, count in how_many(classes, HowMany(**options)).items()}
    limit = None if asked or torch.device(device).type != "cpu" else MOST_MADE_ON_CPU
    if limit is not None and sum(counts.values()) > limit:
        why += (
            f"; limited to {limit:,} of {sum(counts.values()):,}, as there is no GPU: --balance, "
            "--ratio or --per-class lift the limit"
        )
    else:
        limit = None
    return Amount(options, why, limit, counts)


def arms(
    asked: tuple[str, ...], counts: Mapping[str, int], known: tuple[str, ...]
) -> tuple[str, ...]:
    """The arms of the classifiers: all but those that would never see a class."""
    if asked or all(counts.values()):
        return asked
    return tuple(name for name in known if name not in ("synthetic", "pretrained"))
