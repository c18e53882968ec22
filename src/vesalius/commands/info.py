"""`vesalius info`."""

from dataclasses import asdict
from typing import Annotated

import typer

from vesalius.errors import VesaliusError


def info(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="With --cost: recipes, bundled models, folders or hub ids. With --get: inception, "
            "efficientnet-lite0, lpips; NAME=FILE for an archive that is here already.",
            show_default="mini, with --cost",
        ),
    ] = None,
    cost: Annotated[
        bool,
        typer.Option(
            "--cost", help="Parameters, multiply-accumulates, memory and speed, beside SD 1.x."
        ),
    ] = False,
    get: Annotated[
        bool, typer.Option("--get", help="Install networks that measure, once, checked by hash.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same for programs.")] = False,
) -> None:
    """Show what this machine and this installation can do, and what models and recipes cost."""
    import json

    from vesalius.core.terminal import print_info, say
    from vesalius.info import cost_report, describe, prices
    from vesalius.models.networks.weights import PACKAGES, install

    if cost and get:
        raise VesaliusError("--cost and --get are two things: give one of them")
    if names and not (cost or get):
        raise VesaliusError(f"what should be said of {names[0]}? add --cost or --get")
    if get and not names:
        raise VesaliusError(f"--get names no network: {', '.join(PACKAGES)}")
    if get:
        install(names or [], print)
    elif cost:
        found = prices(names or ["mini"], say)
        print(
            json.dumps([asdict(one) for one in found], indent=1) if as_json else cost_report(found)
        )
    elif as_json:
        print(json.dumps(describe(), indent=1))
    else:
        print_info(describe())
