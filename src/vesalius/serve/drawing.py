"""From the body of a job to images, by the functions that the commands call. No torch here."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vesalius.errors import VesaliusError
from vesalius.sample.canvas import Canvas, read_canvas
from vesalius.sample.checks import check_prompts
from vesalius.sample.inpaint import inpaint
from vesalius.sample.interpolate import interpolate
from vesalius.sample.masks import make_mask, parse_ellipse
from vesalius.sample.prompt import parse_prompt
from vesalius.sample.settings import (
    DrawSettings,
    GenerateSettings,
    InpaintSettings,
    InterpolateSettings,
)
from vesalius.sample.start import read_start
from vesalius.serve.bodies import (
    Compose,
    Drawing,
    Generate,
    ImageToImage,
    Inpaint,
    Interpolate,
    Sized,
)

if TYPE_CHECKING:
    from vesalius.sample.generate import Sample, TextToImage

_SHARED = ("seed", "steps", "guidance", "guidance_rescale", "guidance_interval", "sampler")


def settings_of(body: Drawing) -> DrawSettings:
    """The settings of the command that draws the same, whose seed must be drawn already.

    Raises VesaliusError for whatever the command would refuse.
    """
    shared: dict[str, Any] = {name: getattr(body, name) for name in _SHARED} | {
        "negative": body.negative
    }
    if isinstance(body, Inpaint):
        return InpaintSettings(**shared, n=body.n, strength=body.strength, feather=body.feather)
    assert isinstance(body, Sized)
    if isinstance(body, Interpolate):
        return InterpolateSettings(**shared, size=body.size, frames=body.frames)
    return GenerateSettings(**shared, size=body.size, n=body.images)


def check(body: Drawing) -> None:
    """Raise VesaliusError for a body that no model could draw."""
    settings_of(body)
    if isinstance(body, Interpolate):
        for prompt in check_prompts([body.first, body.second]):
            if len(parse_prompt(prompt)) > 1:
                raise VesaliusError("interpolate between two prompts without AND")
        return
    [prompt] = check_prompts(body.words)
    parse_prompt(prompt)
    if isinstance(body, Inpaint):
        if body.mask is None and not body.ellipses:
            raise VesaliusError("nothing says what to draw anew: give a mask or ellipses")
        for text in body.ellipses:
            parse_ellipse(text)


def samples(
    model: "TextToImage", body: Drawing, pictures: Mapping[str, Path], bits: int
) -> "Iterator[tuple[Sample, Canvas | None]]":
    """The images of a job in order; those that were painted into with their canvas.

    `pictures` are the files of `body.pictures`; `bits` is the depth of images drawn from noise.
    Raises VesaliusError for what this model cannot make.
    """
    settings = settings_of(body)
    if isinstance(body, Inpaint):
        assert isinstance(settings, InpaintSettings)
        canvas = read_canvas(pictures["image"])
        shapes = [parse_ellipse(text) for text in body.ellipses]
        mask = make_mask(canvas.size, pictures.get("mask"), shapes)
        drawn = inpaint(model, [canvas], [mask], body.words, settings)
        yield from ((sample, canvas) for sample in drawn)
        return
    if isinstance(body, Interpolate):
        assert isinstance(settings, InterpolateSettings)
        drawn = interpolate(model, body.first.strip(), body.second.strip(), settings)
        yield from ((sample, None) for sample in drawn)
        return
    assert isinstance(body, Generate | ImageToImage | Compose)
    start = None
    if isinstance(body, ImageToImage):
        start = read_start(pictures["image"], body.strength)
    requests = model.requests(body.words, body.n, settings, start)
    yield from ((sample, None) for sample in model.draw(requests, bits=bits))
