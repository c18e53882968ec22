"""`vesalius utility`: what is typed becomes the settings, and bad input one line."""

from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from vesalius.commands.utility import utility
from vesalius.errors import VesaliusError
from vesalius.utility import run as module
from vesalius.utility.settings import UtilitySettings


@pytest.fixture
def called(monkeypatch):
    """The experiment replaced by one that only remembers what it was asked for."""
    seen = {}

    def fake(real, synthetic, out, settings, **more):
        seen.update(real=real, synthetic=synthetic, out=out, settings=settings, **more)
        return SimpleNamespace(verdict=SimpleNamespace(headline="No gain was shown."))

    monkeypatch.setattr(module, "utility", fake)
    app = typer.Typer()
    app.command()(utility)

    def run(*arguments):
        result = CliRunner().invoke(
            app, ["--real", "r", "--synthetic", "s", "--out", "o", *arguments]
        )
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return seen, result

    return run


def test_defaults_are_the_library_s_own(called):
    seen, result = called()
    ours, theirs = seen["settings"], UtilitySettings()
    assert ours == theirs
    assert result.stdout.splitlines()[0] == "No gain was shown."
    assert "report.html" in result.stdout


def test_options_reach_the_experiment(called):
    seen, _ = called(
        "--arms", "mixed,minority", "--ratios", "1,4", "--shots", "4,16", "--where", "source=a=b",
        "--trained-on", "run", "--test-split", "val", "--allow-unproven", "--synthetic", "t",
    )  # fmt: skip
    settings = seen["settings"]
    assert settings.arms == ("mixed", "minority") and settings.ratios == (1.0, 4.0)
    assert settings.shots == (4, 16) and settings.fractions == ()
    assert settings.where == {"source": "a=b"} and settings.allow_unproven
    assert [str(path) for path in seen["synthetic"]] == ["s", "t"]
    assert settings.learned_from == ("run",)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--ratios", "a"), "--ratios 'a' are no numbers"), (("--where", "x"), "write it as COLUMN")],
)
def test_what_cannot_be_read_is_one_line(called, arguments, said):
    with pytest.raises(VesaliusError, match=said):
        called(*arguments)
