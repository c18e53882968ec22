"""The command line: one thin command a stage, each parsing, calling the API and printing.

The commands are in `commands/`. Nothing heavy is imported at the top of any of these files:
`vesalius --help` must answer at once.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from vesalius._version import __version__
from vesalius.commands.adapter import adapter
from vesalius.commands.augment import augment
from vesalius.commands.evaluate import evaluate
from vesalius.commands.generate import generate
from vesalius.commands.info import info
from vesalius.commands.inpaint import inpaint
from vesalius.commands.interpolate import interpolate
from vesalius.commands.pairs import pairs
from vesalius.commands.plan import plan
from vesalius.commands.serve import serve
from vesalius.commands.study import study
from vesalius.commands.synthesize import synthesize
from vesalius.commands.train import train
from vesalius.commands.utility import utility
from vesalius.core.stopping import listen, was_asked
from vesalius.core.words import nearest
from vesalius.errors import VesaliusError, one_line

_RENAMED = {"--seen": "--trained-on"}
_INTERRUPTED = "interrupted: nothing was written"
UsageError: Any = typer.BadParameter.__base__  # of click, which newer versions of typer contain


class _Commands(TyperGroup):
    """Commands whose expected failures are one line on stderr and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            return super().parse_args(ctx, args)  # which shows the help
        with _one_line():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except VesaliusError as error:
        if was_asked():  # and a library took it for something else
            _stop("interrupted", 130)
        _stop(f"error: {error}", 2)
    except UsageError as error:
        if not error.format_message():  # a group without its command: the help was shown
            raise typer.Exit(2) from error
        _stop(f"error: {_say_usage(error)} ({_hint(error)})", 2)
    except KeyboardInterrupt as interrupt:  # training says what it saved
        _stop(str(interrupt) or _INTERRUPTED, 130)
    except typer.Exit:
        raise
    except Exception:
        if not was_asked():
            raise
        _stop("interrupted", 130)


def _hint(error: Any) -> str:
    """What to do about a usage error. Of an argument too many, the options that it may belong to."""
    if "unexpected extra argument" not in error.format_message() or not error.ctx:
        return "--help lists the options"
    options = {name for one in error.ctx.command.params for name in one.opts}
    files = [name for name in ("--pairs", "--real", "--synthetic", "--out") if name in options]
    return (
        f"a file stands behind its option: {', '.join(files)}" if files else "--help has the order"
    )


def _say_usage(error: Any) -> str:
    """What click says, with what an unknown option may mean: a near one, or a value of a recipe."""
    name, ctx = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if not hasattr(error, "possibilities") or not name or ctx is None:
        return error.format_message()
    flags = [flag for parameter in ctx.command.params for flag in parameter.opts]
    if name in _RENAMED and _RENAMED[name] in flags:
        return f"No such option: {name}: it is called {_RENAMED[name]}"
    if any(parameter.name == "overrides" for parameter in ctx.command.params):
        from vesalius.config import override_of

        if field := override_of(name):
            return f"No such option: {name}: a recipe's values are given as {field}={_typed(name)}"
    near = nearest(name.lstrip("-"), [flag[2:] for flag in flags if flag[:2] == "--"])
    return f"No such option: {name}" + (f": did you mean --{near}?" if near else "")


def _typed(option: str) -> str:
    """The value that was given for an option on the command line."""
    for word, following in zip(sys.argv, [*sys.argv[1:], "-"], strict=True):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option and following[:1] != "-":
            return following
    return "VALUE"


def _stop(message: str, code: int) -> NoReturn:
    # one line even where a library's own message, quoted in ours, had several
    print(one_line(message), file=sys.stderr)
    raise typer.Exit(code)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Medical images from text, and evidence of what they are worth.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"vesalius {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Medical images from text, and evidence of what they are worth."""


_COMMANDS = (
    generate,
    interpolate,
    inpaint,
    adapter,
    info,
    pairs,
    train,
    plan,
    synthesize,
    evaluate,
    utility,
    augment,
    serve,
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(study, name="study")


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 bad input, 130 interrupted."""
    # Pillow warns of large images, which are refused, and of damaged tags, which are reported.
    warnings.filterwarnings("ignore", module=r"PIL\b")
    try:
        listen()
        app()
    except KeyboardInterrupt:  # before a command had begun
        print(_INTERRUPTED, file=sys.stderr)
        sys.exit(130)
