"""`vesalius plan` as it is typed: what it prints, what it writes, how it fails."""

from collections import Counter

import pytest
import typer
from typer.testing import CliRunner

from vesalius.commands.plan import plan
from vesalius.errors import VesaliusError
from vesalius.synthesize.plan import read_plan


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run the command with these words in an empty folder; return what it printed."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(plan)

    def run(*words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_a_table_is_topped_up(command, tiny_pairs):
    out = command("--pairs", tiny_pairs, "--per-class", 3, "--steps", 4, "--out", "plan.csv")
    assert "lungs/nodule" in out and "planned 12 images in plan.csv" in out
    rows = read_plan("plan.csv")
    assert set(Counter((r.attributes["source"], r.label) for r in rows).values()) == {3}
    assert {row.steps for row in rows} == {4}
    with pytest.raises(VesaliusError, match="exists already"):
        command("--pairs", tiny_pairs, "--per-class", 3, "--out", "plan.csv")
    command("--pairs", tiny_pairs, "--total", 9, "--out", "plan.csv", "--overwrite")
    assert len(read_plan("plan.csv")) == 9


def test_prompts_come_from_a_dictionary(command, tiny_pairs, tiny_sets):
    words = ["--prompts", "dictionary", "--captions", tiny_sets / "dictionary.yaml"]
    words += ["--source", "retinas", "--attribute", "eye=left,right", "--out", "plan.parquet"]
    command("--pairs", tiny_pairs, "--per-class", 2, *words)
    said = {row.prompt for row in read_plan("plan.parquet")}
    assert {text.removesuffix(" nodule").removesuffix(" effusion") for text in said} == {
        "retina of the left",
        "retina of the right",
    }


def test_prompts_are_given_by_hand(command):
    out = command("--prompt", "retina", "-n", 2, "--label", "eye", "--out", "plan.csv")
    assert out == "planned 2 images in plan.csv\n"
    assert [(row.prompt, row.label) for row in read_plan("plan.csv")] == [("retina", "eye")] * 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "say what to plan"),
        (["--prompt", "a", "--balance"], "--balance has no use with --prompt"),
        (["--prompt", "a", "--pairs", "p.parquet"], "--pairs has no use with --prompt"),
        (["--pairs", "p.parquet", "-n", "2"], "-n has no use with --pairs"),
        (["--pairs", "p.parquet", "--balance"], "no pairs table at p.parquet"),
        (["--pairs", "p.parquet", "--prompts", "dictionary"], "needs --captions"),
        (["--pairs", "p.parquet", "--prompts", "reports"], "choose one of captions, dictionary"),
        (["--pairs", "p", "--prompts", "captions", "--template", "a"], "takes the real ones"),
        (["--prompt", "a", "-n", "0"], "-n is 0"),
        (["--prompt", "a", "--size", "64x"], "neither like 256 nor like 384x256"),
        (["--prompt", "a", "--steps", "0"], "steps is 0"),
        (["--prompt", "a", "--sampler", "dimm"], "no sampler is called 'dimm'"),
        (["--prompt", "a", "--model", "nothing"], "unknown model"),
        (["--prompt", "a", "--out", "plan.xlsx"], "a .csv or a .parquet file"),
        (["--prompt", "a", "--out", "/dev/null/plan.csv"], "cannot write into"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(command, tmp_path, words, told):
    words = words if "--out" in words else [*words, "--out", "plan.csv"]
    with pytest.raises(VesaliusError) as stopped:
        command(*words)
    assert told in str(stopped.value)
    assert not list(tmp_path.iterdir())
