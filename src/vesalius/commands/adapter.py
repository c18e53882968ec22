"""`vesalius adapter`."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.options import Overwrite


def adapter(
    source: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="A LoRA or textual inversion: file or folder.")
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    to: Annotated[
        str,
        typer.Option(
            help="diffusers, kohya (of a LoRA), or webui: kohya, or for a textual inversion "
            "emb_params, whose word is the file's name."
        ),
    ] = "diffusers",
    token: Annotated[
        str | None,
        typer.Option(help="Word for a textual inversion.", show_default="the file's own"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert an adapter of any format, also a legacy .pt or .bin, to another format."""
    from vesalius.models.adapter_files import export_adapter

    export_adapter(source, to, out, token=token, overwrite=overwrite)
    print(f"wrote {out}: vesalius generate PROMPT --adapter {out}")
