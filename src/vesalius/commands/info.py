"""`vesalius info`."""

from typing import Annotated

import typer

from vesalius.errors import VesaliusError


def info(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="With --cost: bundled names, folders or hub ids.",
            show_default="mini",
        ),
    ] = None,
    cost: Annotated[
        bool,
        typer.Option("--cost", help="Parameters, multiply-accumulates and memory of models."),
    ] = False,
) -> None:
    """What this machine and this installation can do, and what models cost."""
    from vesalius.core.terminal import print_info
    from vesalius.info import cost_report, describe

    if models and not cost:
        raise VesaliusError(f"what should be said of {models[0]}? add --cost")
    if cost:
        print(cost_report(models or ["mini"]))
    else:
        print_info(describe())
