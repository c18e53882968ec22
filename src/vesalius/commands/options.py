"""Options that several commands share, and how their texts are read."""

from typing import Annotated

import typer

from vesalius.errors import VesaliusError

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output.")]


def numbers(text: str, name: str) -> tuple[float, ...]:
    """`0.5,1` as numbers. Raises VesaliusError naming the option."""
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise VesaliusError(f"{name} {text!r} are no numbers: write them as 0.5,1") from error


def pair(text: str) -> tuple[str, str]:
    """`COLUMN=VALUE` of --where as both. Raises VesaliusError where it is something else."""
    name, equals, value = text.partition("=")
    if not equals:
        raise VesaliusError(f"--where {text!r}: write it as COLUMN=VALUE")
    return name, value
