"""What the commands that draw images can be asked for, checked before any model is loaded.

Where a setting is None the model's own is taken.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vesalius.core.settings import Help
from vesalius.errors import VesaliusError
from vesalius.sample.checks import (
    check_feather,
    check_guidance,
    check_negative,
    check_numbers,
    check_strength,
    parse_size,
)
from vesalius.sample.samplers import check_sampler

MOST_FRAMES = 1000
OWN = "the model's own"
FORMAT = Annotated[
    str | None, Help("png, jpeg, png16 (16-bit grey) or dicom.", unset="png, or the model's own")
]
BITS = Annotated[
    int | None, Help("Bits a channel: 8, or 16 (grey only, for png16 and dicom).", unset=OWN)
]


@dataclass(frozen=True)
class ModelSettings:
    """Which model is loaded, and how."""

    model: Annotated[str, Help("A bundled name, a folder in diffusers layout, or a hub id.")] = (
        "mini"
    )
    adapters: Annotated[
        tuple[str, ...],
        Help(
            "A LoRA or textual inversion, as FILE or FILE:WEIGHT; may be given repeatedly.",
            flags=("--adapter",),
            unset="none",
        ),
    ] = ()
    device: Annotated[str, Help("auto, cpu, cuda, cuda:1 or mps.")] = "auto"
    dtype: Annotated[str, Help("auto, float32, float16 or bfloat16.")] = "auto"


@dataclass(frozen=True)
class DrawSettings:
    """How a model draws; see `guidance.Guidance` for the three settings of guidance."""

    seed: Annotated[int, Help("Image k of the run is drawn from seed + k.")] = 0
    steps: Annotated[int | None, Help("Denoising steps.", unset=OWN)] = None
    guidance: Annotated[
        float | None, Help("How closely to follow the prompt; 1 is no guidance.", unset=OWN)
    ] = None
    guidance_rescale: Annotated[
        float, Help("0 to 1: undo the contrast that high guidance adds.")
    ] = 0.0
    guidance_interval: Annotated[
        tuple[float, float], Help("Part of the steps that are guided.")
    ] = (0.0, 1.0)
    sampler: Annotated[
        str | None, Help("ddim, dpm++2m, unipc, euler, heun or euler-a.", unset=OWN)
    ] = None
    negative: Annotated[str, Help("What to move away from.")] = ""
    size: Annotated[str | None, Help("Pixels: 256, or width x height: 384x256.", unset=OWN)] = None
    batch_size: Annotated[
        int | None, Help("Images denoised at once.", unset="4 on a CPU, else 8")
    ] = None

    def __post_init__(self) -> None:
        check_negative(self.negative)
        check_numbers(
            seed=self.seed, steps=self.steps, guidance=self.guidance, batch_size=self.batch_size
        )
        check_guidance(self.guidance_rescale, self.guidance_interval)
        check_sampler(self.sampler or "")
        if self.size is not None:
            parse_size(self.size)


@dataclass(frozen=True)
class GenerateSettings(DrawSettings, ModelSettings):
    """`vesalius generate`."""

    n: Annotated[int, Help("Images for each prompt.", flags=("-n",))] = 1
    image: Annotated[
        Path | None, Help("An image to start from, instead of noise alone.", unset="none")
    ] = None
    strength: Annotated[float | None, Help("0 to 1: how far --image is changed.", unset="0.6")] = (
        None
    )
    format: FORMAT = None
    bits: BITS = None

    def __post_init__(self) -> None:
        from vesalius.images.encode import choose_format

        super().__post_init__()
        check_numbers(n=self.n)
        choose_format(self.format, self.bits)
        if self.strength is not None:
            if self.image is None:
                raise VesaliusError(
                    "--strength says how far an image is changed: name it by --image"
                )
            check_strength(self.strength)


@dataclass(frozen=True)
class InterpolateSettings(DrawSettings, ModelSettings):
    """`vesalius interpolate`."""

    seed: Annotated[int, Help("All frames are drawn from it.")] = 0
    frames: Annotated[int, Help("Images, those of A and of B included.")] = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.frames <= MOST_FRAMES:
            raise VesaliusError(f"frames is {self.frames}: it must be between 2 and {MOST_FRAMES}")


@dataclass(frozen=True)
class InpaintSettings(DrawSettings, ModelSettings):
    """`vesalius inpaint`."""

    seed: Annotated[int, Help("Result k of the run is drawn from seed + k.")] = 0
    size: str | None = None  # is that of each image
    mask: Annotated[
        Path | None, Help("An image of the same size: white is redrawn.", unset="ellipses only")
    ] = None
    ellipses: Annotated[
        tuple[str, ...],
        Help(
            "Redraw this ellipse: fractions of width and height, degrees clockwise; may be given "
            "repeatedly.",
            flags=("--ellipse",),
            metavar="CX,CY,RX,RY[,ANGLE]",
            unset="none",
        ),
    ] = ()
    n: Annotated[int, Help("Results for each image.", flags=("-n",))] = 1
    strength: Annotated[float, Help("0 to 1: how little of what was there shows through.")] = 1.0
    feather: Annotated[
        int, Help("Pixels within the mask's edge over which old turns into new.")
    ] = 4  # enough to hide the edge that an autoencoder's small errors draw

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(n=self.n)
        check_strength(self.strength)
        check_feather(self.feather)
        if self.size is not None:
            raise VesaliusError("an image that is painted into keeps its size: leave out --size")
