"""A settings dataclass as options: each kind of field, its help, and what is typed wrongly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from vesalius.commands.options import options
from vesalius.core.settings import Help
from vesalius.errors import VesaliusError


@dataclass(frozen=True)
class Inner:
    slices: Annotated[str, Help("Which slices.", panel="What is read")] = "all"


@dataclass(frozen=True)
class Settings:
    name: Annotated[str, Help("A name that must be given.")]
    steps: Annotated[int | None, Help("Steps.", least=1, most=99, unset="the model's own")] = None
    scale: Annotated[float, Help("A scale.", flags=("--guidance", "-g"))] = 1.5
    part: Annotated[tuple[float, float], Help("Two numbers.")] = (0.0, 1.0)
    strict: Annotated[bool, Help("Stop.")] = False
    stratify: Annotated[bool, Help("Draw by label.")] = True
    tune: Annotated[Literal["probe", "full"], Help("What is trained.")] = "probe"
    guard: Annotated[Path | None, Help("A table.", unset="none")] = None
    ratios: Annotated[tuple[float, ...], Help("Ratios.")] = (0.5, 1.0, 2.0)
    shots: Annotated[tuple[int, ...] | None, Help("Images a class.")] = None
    arms: Annotated[tuple[str, ...], Help("Arms.", commas=True, unset="all")] = ()
    extractors: Annotated[tuple[str, ...], Help("Networks.", commas=True)] = ("one", "two")
    exclude: Annotated[tuple[str, ...], Help("Left out.", metavar="GLOB")] = ()
    seen: Annotated[tuple[Path, ...], Help("Tables.")] = ()
    where: Annotated[Mapping[str, str], Help("Rows.")] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    hidden: int = 7  # no option: it has no help

    def __post_init__(self) -> None:
        if self.scale < 0:
            raise VesaliusError(f"--guidance {self.scale:g}: give 0 or more")


@pytest.fixture
def run():
    """Run a command that keeps the settings it gets: them, or the error; and what was shown."""
    app, got = typer.Typer(add_completion=False), []

    @app.command()
    @options
    def command(
        source: Annotated[str, typer.Argument(help="A source.")],
        *,
        settings: Settings,
        out: Annotated[Path, typer.Option(help="A folder.")] = Path("here"),
    ) -> None:
        """What it does."""
        got.append((source, out, settings))

    def run(*arguments):
        got.clear()
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})
        return (got[0] if got else result.exception), result

    return run


def test_defaults_are_those_of_the_dataclass(run):
    assert run("x", "--name", "n")[0] == ("x", Path("here"), Settings("n"))


@pytest.mark.parametrize(
    ("typed", "name", "value"),
    [
        ("--steps 4", "steps", 4),
        ("--guidance 3", "scale", 3.0),
        ("-g 3", "scale", 3.0),
        ("--part 0.2 0.8", "part", (0.2, 0.8)),
        ("--strict", "strict", True),
        ("--no-stratify", "stratify", False),
        ("--tune full", "tune", "full"),
        ("--guard a/b", "guard", Path("a/b")),
        ("--ratios 1,2.5", "ratios", (1.0, 2.5)),
        ("--shots 4,16", "shots", (4, 16)),
        ("--arms real,,mixed,real", "arms", ("real", "mixed")),
        ("--arms all", "arms", ()),
        ("--extractors three", "extractors", ("three",)),
        ("--exclude a --exclude b", "exclude", ("a", "b")),
        ("--seen a --seen b", "seen", (Path("a"), Path("b"))),
        ("--where sex=F --where age==1", "where", {"sex": "F", "age": "=1"}),
        ("--slices middle", "inner", Inner("middle")),
    ],
)
def test_every_kind_of_field(run, typed, name, value):
    (_, _, settings), _ = run("x", "--name", "n", *typed.split())
    assert getattr(settings, name) == value
    assert type(getattr(settings, name)) is type(value)


@pytest.mark.parametrize(
    "typed",
    ["", "--name n --steps 0", "--name n --tune ful", "--name n --strict yes", "--hidden 3"],
)
def test_what_typer_refuses(run, typed):
    _, result = run("x", *typed.split())
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--ratios a", "--ratios 'a' are no numbers: write them as 0.5,1"),
        ("--shots 4.5", "--shots '4.5': give whole numbers, such as 4,16"),
        ("--where sex", "--where 'sex': write it as COLUMN=VALUE"),
        ("--guidance -1", "--guidance -1: give 0 or more"),
    ],
)
def test_what_the_settings_refuse_names_the_option(run, typed, message):
    error, _ = run("x", "--name", "n", *typed.split())
    assert isinstance(error, VesaliusError)
    assert str(error) == message


def test_help_says_types_defaults_panels_and_what_unset_means(run):
    shown = " ".join(run("--help")[1].stdout.split())
    for expected in (
        "[default: (the model's own)]",
        "[1<=x<=99]",
        "[default: 0.5,1,2]",
        "[default: one,two]",
        "[default: (all)]",
        "[default: (none)]",
        "--stratify --no-stratify",
        "--strict",
        "<probe|full>",
        "GLOB",
        "What is read",
        "[required]",
    ):
        assert expected in shown, (expected, shown)
    assert "--no-strict" not in shown
    assert "--hidden" not in shown


def test_a_wrong_value_is_one_line_and_exit_code_2(run_cli):
    for typed in ("--folds many", "--duplicates no", "--bits 3", "--fraction 0", "--nonsense"):
        code, out, err = run_cli("pairs", "x", "--out", "y.parquet", *typed.split())
        assert (code, out, err.count("\n")) == (2, "", 1), typed
        assert err.startswith("error: ")
