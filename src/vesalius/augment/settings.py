"""What `vesalius augment` can be asked for; what is left out is chosen from the data (`choose.py`)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from vesalius.core.settings import Help
from vesalius.errors import VesaliusError
from vesalius.sample.checks import check_numbers
from vesalius.synthesize.settings import HowMany
from vesalius.utility.settings import UtilitySettings

IMAGES, GENERATOR, AMOUNT, JUDGES = "Images", "Generator", "How many", "Classifiers and evidence"
OWN = "the model's own"
Method = Literal["none", "textual-inversion", "lora", "full"]
METHODS: tuple[str, ...] = ("auto", *get_args(Method))
Dtype = Literal["auto", "float32", "float16", "bfloat16"]
_DECIDES_NOTHING = ("device", "dtype", "restart", "study")  # but speed, rounding, or the report


@dataclass(frozen=True)
class AugmentSettings:
    """All but the last four must stay the same when a stopped run goes on.

    Raises VesaliusError for what makes no sense whatever the data.
    """

    model: Annotated[str, Help("Base: a bundled name, a folder or a hub id.", panel=GENERATOR)] = (
        "mini"
    )
    method: Annotated[
        str,
        Help(
            "auto (by the number of images), none, textual-inversion, lora or full.",
            panel=GENERATOR,
        ),
    ] = "auto"
    split: Annotated[
        str | None,
        Help(
            "Draw a new one, as val=0.15,test=0.2.",
            panel=IMAGES,
            unset="the table's own where it has a test, else val=0.15,test=0.2",
        ),
    ] = None
    where: Annotated[
        Mapping[str, str],
        Help("COLUMN=VALUE of the rows that take part; may be repeated.", panel=IMAGES),
    ] = field(default_factory=dict)
    label: Annotated[
        str, Help("Column of the classes.", flags=("--label-column",), panel=IMAGES)
    ] = "label"
    balance: Annotated[
        bool,
        Help(
            "Top up every class to the largest: the default for uneven classes; for even ones it is "
            "--ratio 1.",
            panel=AMOUNT,
        ),
    ] = False
    per_class: Annotated[int | None, Help("Images of each class.", panel=AMOUNT)] = None
    ratio: Annotated[
        float | None, Help("Images of each class, as a multiple of its real ones.", panel=AMOUNT)
    ] = None
    images_seen: Annotated[
        int | None,
        Help(
            "Length of the training, in images seen.",
            panel=GENERATOR,
            unset="by the number of images, at most 9,600 without a GPU",
        ),
    ] = None
    overrides: tuple[str, ...] = ()  # of the recipe, key.sub=value
    steps: Annotated[int | None, Help("Denoising steps.", panel=GENERATOR, unset=OWN)] = None
    guidance: Annotated[float | None, Help("Guidance scale.", panel=GENERATOR, unset=OWN)] = None
    backbone: Annotated[str, Help("As in `vesalius utility`.", panel=JUDGES)] = "inception"
    tune: Annotated[
        Literal["probe", "full"], Help("probe (frozen backbone) or full.", panel=JUDGES)
    ] = "probe"
    seeds: Annotated[int, Help("Trainings of each arm.", panel=JUDGES)] = 5
    arms: Annotated[
        tuple[str, ...], Help("As in `vesalius utility`.", panel=JUDGES, unset="all", commas=True)
    ] = ()
    ratios: Annotated[
        tuple[float, ...], Help("Synthetic images for a real one, of the arm mixed.", panel=JUDGES)
    ] = (0.5, 1.0, 2.0)
    side: Annotated[
        int | None,
        Help(
            "Crop all images to squares of this many pixels first.",
            panel=JUDGES,
            unset="each as the network wants it",
        ),
    ] = None
    classifier_steps: Annotated[int, Help("Optimiser steps of a classifier.", panel=JUDGES)] = 1000
    extractors: Annotated[
        tuple[str, ...], Help("Networks of the evidence, with commas.", panel=JUDGES, commas=True)
    ] = ("inception", "efficientnet-lite0")
    samples: Annotated[
        int, Help("Pictures of a class in the reports; 0 for none.", least=0, panel=JUDGES)
    ] = 6
    seed: Annotated[int, Help("Decides every draw.")] = 0
    learned_from: Annotated[
        tuple[str, ...],
        Help(
            "What the base model learned from, where it does not say: a run or a pairs table.",
            flags=("--trained-on",),
            panel=GENERATOR,
        ),
    ] = ()
    allow_unproven: Annotated[
        bool, Help("Go on where it cannot be proven that the base model saw no test image.")
    ] = False
    device: Annotated[str, Help("auto, cpu, cuda, cuda:1 or mps.")] = "auto"
    dtype: Annotated[
        Dtype, Help("Of generation: auto, float32, float16 or bfloat16.", panel=GENERATOR)
    ] = "auto"
    study: Annotated[
        Path | None,
        Help(
            "A reader study of the finished set, its folder or results.json: goes into the report.",
            panel=JUDGES,
            unset="none",
        ),
    ] = None
    restart: Annotated[bool, Help("Remove what an earlier run left, and begin again.")] = False

    def __post_init__(self) -> None:
        for name, choices in (("method", METHODS), ("dtype", get_args(Dtype))):
            if (value := getattr(self, name)) not in choices:
                raise VesaliusError(f"--{name} {value!r}: choose one of {', '.join(choices)}")
        HowMany(**self.amounts)
        check_numbers(steps=self.steps, guidance=self.guidance)
        if self.images_seen is not None and self.images_seen < 8:
            raise VesaliusError(f"--images-seen is {self.images_seen}: give 8 or more")
        if self.method == "none" and (self.images_seen or self.overrides):
            raise VesaliusError(
                "--method none trains nothing: leave out --images-seen and the recipe's values"
            )
        if self.samples < 0:
            raise VesaliusError(f"--samples is {self.samples}: give 0 or more")
        if self.classifier_steps < 10:
            raise VesaliusError(f"--classifier-steps is {self.classifier_steps}: give 10 or more")
        self.classifiers(self.arms)

    @property
    def amounts(self) -> dict[str, Any]:
        """What is asked of the number of images: at most one of three."""
        asked = {"balance": self.balance, "per_class": self.per_class, "ratio": self.ratio}
        return {name: value for name, value in asked.items() if value not in (None, False)}

    def classifiers(
        self, arms: tuple[str, ...], learned_from: tuple[str, ...] = (), store: Path | None = None
    ) -> UtilitySettings:
        """How classifiers are trained and compared. Raises VesaliusError as they do."""
        return UtilitySettings(
            arms=arms,
            ratios=self.ratios,
            seeds=self.seeds,
            backbone=self.backbone,
            tune=self.tune,
            steps=self.classifier_steps,
            batch=64 if self.tune == "probe" else 32,
            side=self.side,
            device=self.device,
            allow_unproven=self.allow_unproven,
            samples=self.samples,
            learned_from=learned_from,
            store=store,
            overwrite=True,
        )

    def as_dict(self) -> dict[str, Any]:
        """All that decides what comes out, for augment.json."""
        kept = {k: v for k, v in asdict(self).items() if k not in _DECIDES_NOTHING}
        return {
            "seen" if name == "learned_from" else name: list(v) if isinstance(v, tuple) else v
            for name, v in kept.items()
        }
