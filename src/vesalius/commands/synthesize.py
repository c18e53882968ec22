"""`vesalius synthesize`."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.options import options
from vesalius.synthesize.settings import SynthesizeSettings


@options
def synthesize(
    plan: Annotated[Path, typer.Argument(help="What `vesalius plan` wrote: .csv or .parquet.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the set; repeat the command to resume.")],
    settings: SynthesizeSettings,
) -> None:
    """Generate all images of a plan, with manifest and contact sheet; resumable."""
    from vesalius.core.terminal import image_progress, say, warn
    from vesalius.synthesize.engine import synthesize

    with image_progress("synthesizing", f"loading {settings.model}") as on_progress:
        done = synthesize(
            plan, out, settings, on_progress=on_progress, on_warning=warn, on_message=say
        )
    if not (counts := done.counts):
        print(f"{done}: the other shards make more")
        return
    print(f"{done}: vesalius pairs {out} --out PAIRS.parquet")
    if counts.rejected_images:
        print(
            f"rejected by the guard: {counts.rejected_images:,} images; "
            f"{counts.rejected_rows:,} rows are left without one"
        )
