"""Options that several commands share."""

from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output.")]
