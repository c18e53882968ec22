"""What a user may ask for, checked before anything heavy is imported or loaded. No torch here."""

import math
from collections.abc import Sequence

from vesalius.errors import VesaliusError

LONGEST_PROMPT = 2_000  # characters; over twenty times what any text encoder here can read
LARGEST_SIDE = 4_096  # pixels; attention over more latents than this needs outgrows any memory
LARGEST_SEED = 2**63 - 1
MOST_FEATHER = 256  # pixels


def check_prompts(prompts: str | Sequence[str]) -> list[str]:
    """The prompts without blanks around them. Raises VesaliusError for one that says nothing."""
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if not prompts:
        raise VesaliusError("no prompt is given")
    for prompt in prompts:
        check_negative(prompt)
    if not all(prompt.strip() for prompt in prompts):
        raise VesaliusError("a prompt is empty: say what to draw")
    return [prompt.strip() for prompt in prompts]


def check_negative(prompt: str) -> None:
    """Raise VesaliusError for a prompt, which may be empty, that is too long or no text."""
    if len(prompt) > LONGEST_PROMPT:
        raise VesaliusError(
            f"a prompt has {len(prompt):,} characters, and {LONGEST_PROMPT:,} are the most: "
            "say it shorter (a model reads some 50 to 75 words)"
        )
    # what Python makes of bytes on the command line that are not UTF-8
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise VesaliusError("a prompt is not valid text: give it in UTF-8")


def check_numbers(
    *,
    n: int = 1,
    images: int = 1,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    batch_size: int | None = None,
) -> None:
    """Raise VesaliusError for a number out of range; `images` are drawn from seed, seed + 1, ..."""
    if n < 1:
        raise VesaliusError(f"-n is {n}: at least 1 image is needed for each prompt")
    if steps is not None and not 1 <= steps <= 1000:
        raise VesaliusError(f"steps is {steps}: it must be between 1 and 1000")
    if guidance is not None and not (math.isfinite(guidance) and 0 <= guidance <= 100):
        raise VesaliusError(f"guidance is {guidance}: it must be between 0 and 100 (1 is none)")
    if batch_size is not None and batch_size < 1:
        raise VesaliusError(f"batch size is {batch_size}: it must be at least 1")
    if not 0 <= seed <= LARGEST_SEED - images:
        raise VesaliusError(f"seed is {seed}: it must be 0 or more, and below 2^63")


def check_guidance(rescale: float, interval: tuple[float, float]) -> None:
    """Raise VesaliusError for what `guidance.Guidance` gives no meaning to."""
    if not 0 <= rescale <= 1:
        raise VesaliusError(f"guidance rescale is {rescale}: it must be between 0 and 1")
    first, last = interval
    if not 0 <= first < last <= 1:
        raise VesaliusError(
            f"guidance interval is {first:g} to {last:g}: give two parts of the way, such as 0 0.8"
        )


def check_strength(strength: float) -> None:
    """Raise VesaliusError unless `strength` is between 0 and 1."""
    if not 0 <= strength <= 1:
        raise VesaliusError(f"strength is {strength}: it must be between 0 and 1")


def check_feather(feather: int) -> None:
    """Raise VesaliusError unless `feather` is between 0 and 256."""
    if not 0 <= feather <= MOST_FEATHER:
        raise VesaliusError(f"feather is {feather}: it must be between 0 and {MOST_FEATHER} pixels")


def parse_size(text: str | int | tuple[int, int]) -> tuple[int, int]:
    """`256` or `384x256` (width x height, pixels) as (width, height).

    Raises VesaliusError unless both are between 1 and 4096.
    """
    if isinstance(text, tuple):
        text = "{}x{}".format(*text)
    try:
        sides = [int(part) for part in str(text).lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise VesaliusError(f"size {text!r} is neither like 256 nor like 384x256")
    width, height = sides[0], sides[-1]
    if min(width, height) < 1:
        raise VesaliusError(f"size {width}x{height} is too small: give pixels, such as 256")
    if max(width, height) > LARGEST_SIDE:
        raise VesaliusError(
            f"size {width}x{height} is too large: {LARGEST_SIDE} pixels a side are the most"
        )
    return width, height


def check_multiple(size: tuple[int, int], multiple: int) -> None:
    """Raise VesaliusError unless the model can make (width, height), naming one that it can."""
    if any(side % multiple for side in size):
        near = "x".join(str(max(1, round(side / multiple)) * multiple) for side in size)
        raise VesaliusError(
            f"size {size[0]}x{size[1]}: this model makes multiples of {multiple} pixels only, such "
            f"as {near}"
        )
