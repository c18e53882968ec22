"""`vesalius augment`: what is typed becomes the settings, and bad input one line."""

from types import SimpleNamespace

import pytest

from vesalius.augment import run
from vesalius.augment.settings import AugmentSettings


@pytest.fixture
def called(monkeypatch, run_cli):
    """The way replaced by one that only remembers what it was asked for."""
    seen = {}

    def remembered(pairs, out, settings, **more):
        seen.update(pairs=pairs, out=out, settings=settings, **more)
        return SimpleNamespace(headline="No gain was shown.")

    monkeypatch.setattr(run, "augment", remembered)

    def ask(*arguments):
        return seen, run_cli("augment", *arguments)

    return ask


def test_defaults_are_the_library_s_own(called):
    seen, (code, out, _) = called("p.parquet", "--out", "o")
    assert code == 0
    assert seen["settings"] == AugmentSettings()
    assert out.splitlines() == ["No gain was shown.", "report: o/report.html"]
    assert seen["command"] == "vesalius augment p.parquet --out o"


def test_options_reach_the_way(called):
    seen, (code, _, _) = called(
        "p.parquet", "--out", "o", "--where", "site=a=b", "--arms", "mixed,minority", "--ratios",
        "1,4", "--method", "full", "--ratio", "2", "--restart", "--trained-on", "run", "lora.rank=4",
        "--extractors", "inception, sscd",
    )  # fmt: skip
    settings = seen["settings"]
    assert code == 0 and settings.restart
    assert settings.where == {"site": "a=b"} and settings.arms == ("mixed", "minority")
    assert settings.ratios == (1.0, 4.0) and settings.ratio == 2.0 and settings.method == "full"
    assert settings.overrides == ("lora.rank=4",) and settings.learned_from == ("run",)
    assert settings.extractors == ("inception", "sscd")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ratios", "a"), "--ratios 'a' are no numbers"),
        (("--where", "x"), "write it as COLUMN=VALUE"),
        (("--method", "x"), "--method 'x': choose one of auto, none"),
        (("--balance", "--ratio", "1"), "--balance and --ratio exclude each other"),
        (("--images-seen", "1"), "give 8 or more"),
        (("--tune", "ful"), "'ful' is not one of 'probe', 'full'"),
        ((), "no pairs table at p.parquet"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_what_cannot_be_done_is_one_line_and_exit_2(run_cli, tmp_path, arguments, said, dry):
    out = tmp_path / "out"
    code, shown, err = run_cli("augment", "p.parquet", "--out", out, *arguments, *dry)
    assert (code, shown) == (2, "")
    assert said in err and err.count("\n") == 1
    assert not out.exists()


def test_a_stop_says_that_the_same_command_goes_on(run_cli, monkeypatch):
    def stopped(*_arguments, **_options):
        raise KeyboardInterrupt("interrupted in step 2 of 6: repeat the command to resume")

    monkeypatch.setattr(run, "augment", stopped)
    code, _, err = run_cli("augment", "p.parquet", "--out", "o")
    assert code == 130 and "repeat the command to resume" in err
