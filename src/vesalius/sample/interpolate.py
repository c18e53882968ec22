"""From one prompt to another in even steps, all from the same noise."""

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.sample.prompt import blend, parse_prompt

if TYPE_CHECKING:  # torch is imported only once the request is known to make sense
    from vesalius.sample.generate import Progress, Sample, TextToImage

MOST_FRAMES = 1000
_FRAME = 150  # milliseconds
_ENDS = 900


def check_interpolation(first: str, second: str, frames: int) -> None:
    """Raise VesaliusError unless there is a way of `frames` images between two plain prompts."""
    if not 2 <= frames <= MOST_FRAMES:
        raise VesaliusError(f"frames is {frames}: it must be between 2 and {MOST_FRAMES}")
    for prompt in (first, second):
        if len(parse_prompt(prompt)) > 1:
            raise VesaliusError(
                f"{prompt!r} is composed already: interpolate between two prompts without AND"
            )


def shares(frames: int) -> list[float]:
    """How much of the second prompt is in each of `frames` images: 0 in the first, 1 in the last."""
    return [k / (frames - 1) for k in range(frames)]


def interpolate(
    model: "TextToImage",
    first: str,
    second: str,
    *,
    frames: int = 9,
    seed: int = 0,
    batch_size: int | None = None,
    on_progress: "Progress | None" = None,
    **settings: Any,
) -> "Iterator[Sample]":
    """Yield `frames` samples from `first` to `second`, all drawn from `seed`.

    Of share s the prompt is `first:1-s AND second:s`, that is (de Wilde et al. 2023, arXiv
    2303.13430) eps_u + g * ((1 - s) (eps_1 - eps_u) + s (eps_2 - eps_u)): the first image is that
    of the first prompt alone and the last that of the second, but for rounding. `settings` are
    those of `TextToImage.request`. Raises VesaliusError at once for what cannot be made.
    """
    check_interpolation(first, second, frames)
    prompts = [blend(first, second, share) for share in shares(frames)]
    requests = [model.request(prompt, seed, **settings) for prompt in prompts]
    return model.draw(requests, batch_size, on_progress)


def gif(images: Sequence[Image.Image], comment: str) -> bytes:
    """An endless animation of RGB `images` that rests at both ends; equal images, equal bytes."""
    # colours of each frame by median cut: Pillow's own default asks what libraries are there
    reduced = [image.quantize(256, method=Image.Quantize.MEDIANCUT) for image in images]
    stream = io.BytesIO()
    reduced[0].save(
        stream,
        format="GIF",
        save_all=True,
        append_images=reduced[1:],
        duration=[_ENDS, *[_FRAME] * (len(images) - 2), _ENDS],
        loop=0,
        comment=comment.encode(),
    )
    return stream.getvalue()
