"""What a job can be asked for, as JSON: each kind gives the settings of the command that draws the same.

The bounds here are those of a machine that others use too; the settings check all else.
"""

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    model_validator,
)

from vesalius.sample.checks import LONGEST_PROMPT, MOST_FEATHER
from vesalius.sample.prompt import LARGEST_WEIGHT
from vesalius.serve.settings import (
    MOST_ADAPTERS,
    MOST_BODY,
    MOST_IMAGES,
    MOST_PARTS,
    MOST_STEPS,
)

DRAWN = -1  # of a seed: one is drawn
LARGEST_SEED = 2**53 - 1 - MOST_IMAGES  # JSON of browsers holds no larger whole number
LONGEST_LABEL = 200
IMAGE_ID = r"^[0-9a-f]{32}$"
_SIZE = r"^[1-9]\d{0,3}(x[1-9]\d{0,3})?$"
SizeInput = Annotated[int, Field(ge=1, le=9999)] | Annotated[str, Field(pattern=_SIZE)]
Sampler = Literal["ddim", "dpm++2m", "unipc", "euler", "heun", "euler-a"]


def _plain(text: str) -> str:
    """`text`. Raises ValueError for control characters, which files and headers cannot hold."""
    if any(unicodedata.category(letter) == "Cc" and letter not in "\n\t" for letter in text):
        raise ValueError("control characters are not text")
    return text


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty: say what to draw")
    return text


def _as_text(size: Any) -> Any:
    """A size as text: a whole number is that of a square."""
    return str(size) if isinstance(size, int) and not isinstance(size, bool) else size


Size = Annotated[
    str,
    BeforeValidator(_as_text, json_schema_input_type=SizeInput),
    Field(pattern=_SIZE),
]
Text = Annotated[str, AfterValidator(_plain)]
Prompt = Annotated[Text, AfterValidator(_said), Field(min_length=1, max_length=LONGEST_PROMPT)]


def _number(weight: float) -> str:
    """A weight as people write it in a prompt: never with an exponent."""
    return f"{weight:.6f}".rstrip("0").rstrip(".")


class Strict(BaseModel):
    """Names and types as they are declared, and nothing besides."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class AdapterUse(Strict):
    """An adapter that the server offers, and its weight."""

    id: str = Field(max_length=100, description="As `adapters` lists it.")
    weight: float = Field(1.0, ge=-10, le=10)


class Part(Strict):
    """One prompt of a composition."""

    prompt: Prompt
    weight: float = Field(1.0, ge=-LARGEST_WEIGHT, le=LARGEST_WEIGHT)


class Picture(Strict):
    """An image of the library by its id, or an image file's content."""

    id: str | None = Field(None, pattern=IMAGE_ID)
    data: str | None = Field(None, max_length=MOST_BODY, description="Base64 of a file.")

    @model_validator(mode="after")
    def _one(self) -> "Picture":
        if (self.id is None) == (self.data is None):
            raise ValueError("give either the id of an image or its data")
        return self


class Drawing(Strict):
    """What all kinds share. What is null is the model's own."""

    label: Text = Field("", max_length=LONGEST_LABEL, description="To find the images by.")
    model: str | None = Field(None, max_length=200, description="As `models` lists it.")
    adapters: list[AdapterUse] = Field([], max_length=MOST_ADAPTERS)
    seed: int = Field(
        DRAWN, ge=DRAWN, le=LARGEST_SEED, description="Image k is drawn from seed + k; -1: any."
    )
    steps: int | None = Field(None, ge=1, le=MOST_STEPS)
    guidance: float | None = Field(None, ge=0, le=100, description="1 is no guidance.")
    guidance_rescale: float = Field(0.0, ge=0, le=1)
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    sampler: Sampler | None = None
    negative: Text = Field("", max_length=LONGEST_PROMPT)

    @property
    def images(self) -> int:
        """How many are drawn."""
        return getattr(self, "frames", None) or getattr(self, "n", 1)

    @property
    def pictures(self) -> dict[str, Picture]:
        """The images that it needs, by their names."""
        named = {name: getattr(self, name, None) for name in ("image", "mask")}
        return {name: picture for name, picture in named.items() if picture is not None}

    @property
    def prompts(self) -> list[str]:
        """What the model is to read."""
        return [self.words]

    @property
    def words(self) -> str:
        """What the images are to show, in one line."""
        return getattr(self, "prompt", "").strip()


class Sized(Drawing):
    """A drawing whose size can be chosen, some images of each."""

    size: Size | None = Field(None, description="Pixels: 256, or width and height as `256x192`.")


class Generate(Sized):
    """As `vesalius generate`."""

    kind: Literal["generate"] = "generate"
    prompt: Prompt
    n: int = Field(1, ge=1, le=MOST_IMAGES)


class ImageToImage(Sized):
    """As `vesalius generate --image`."""

    kind: Literal["image-to-image"]
    prompt: Prompt
    image: Picture
    strength: float = Field(0.6, ge=0, le=1)
    n: int = Field(1, ge=1, le=MOST_IMAGES)


class Compose(Sized):
    """As `vesalius generate "A:0.7 AND B:0.3"`."""

    kind: Literal["compose"]
    parts: list[Part] = Field(min_length=1, max_length=MOST_PARTS)
    n: int = Field(1, ge=1, le=MOST_IMAGES)

    @property
    def words(self) -> str:
        """The notation of prompts."""
        texts = [part.prompt.strip() for part in self.parts]
        if len(texts) == 1:
            return texts[0]
        return " AND ".join(
            f"{text}:{_number(part.weight)}" for text, part in zip(texts, self.parts, strict=True)
        )


class Interpolate(Sized):
    """As `vesalius interpolate`; all frames are drawn from one seed."""

    kind: Literal["interpolate"]
    first: Prompt
    second: Prompt
    frames: int = Field(9, ge=2, le=MOST_IMAGES)

    @property
    def prompts(self) -> list[str]:
        """What the model is to read."""
        return [self.first.strip(), self.second.strip()]

    @property
    def words(self) -> str:
        """Both ends."""
        return f"{self.first.strip()} / {self.second.strip()}"


class Inpaint(Drawing):
    """As `vesalius inpaint`: white of the mask and the ellipses are drawn anew."""

    kind: Literal["inpaint"]
    prompt: Prompt
    image: Picture
    mask: Picture | None = None
    ellipses: list[Annotated[str, Field(max_length=100)]] = Field([], max_length=64)
    strength: float = Field(1.0, ge=0, le=1)
    feather: int = Field(4, ge=0, le=MOST_FEATHER)
    n: int = Field(1, ge=1, le=MOST_IMAGES)


Body = Annotated[
    Generate | ImageToImage | Compose | Interpolate | Inpaint, Field(discriminator="kind")
]
_BODY: TypeAdapter[Drawing] = TypeAdapter(Body)


def parse_body(document: Any) -> Drawing:
    """The body of a stored job."""
    return _BODY.validate_python(document)
