"""The command line answers at once, in one line, with the right exit code."""

import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import vesalius
from vesalius import cli
from vesalius.errors import VesaliusError

COMMANDS = [command.__name__ for command in cli._COMMANDS]
COMMANDS += ["study", *(f"study {one.callback.__name__}" for one in cli.study.registered_commands)]
HEAVY = ("torch", "diffusers", "transformers", "numpy", "PIL", "pyarrow")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    "command", ["--help", "--version", *(f"{name} --help" for name in COMMANDS)]
)
def test_help_imports_nothing_heavy(command):
    code = f"""
import contextlib, io, json, sys
from vesalius.cli import main
sys.argv = ["vesalius", *{command.split()!r}]
with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
    main()
assert {"vesalius" if command == "--version" else "Usage"!r} in shown.getvalue()
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    assert json.loads(python(code)) == []


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys, json, vesalius; print([n for n in {HEAVY!r} if n in sys.modules])"
    assert python(code).strip() == "[]"


def test_the_public_names_are_all_there():
    assert all(getattr(vesalius, name) is not None for name in vesalius.__all__)
    assert set(vesalius.__all__) <= set(dir(vesalius))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = vesalius.nonsense


def test_version(run_cli):
    assert run_cli("--version") == (0, f"vesalius {vesalius.__version__}\n", "")


def test_usage_errors_exit_with_2(run_cli):
    assert run_cli("generate")[0] == 2
    assert run_cli("nonsense")[0] == 2
    code, out, err = run_cli("--nonsense")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: No such option: --nonsense")
    assert run_cli("generate", "lung", "-n", "many")[0] == 2
    code, out, err = run_cli("study")
    assert (code, "Usage" in out, err) == (2, True, "")
    assert run_cli("study", "nonsense")[2].startswith("error: No such command 'nonsense'")


def test_a_file_without_its_option_is_told_the_options(run_cli):
    code, out, err = run_cli("plan", "pairs.parquet", "--out", "plan.csv")
    assert (code, out) == (2, "")
    assert "a file stands behind its option: --pairs, " in err and err.count("\n") == 1


def test_an_interruption_exits_with_130(run_cli, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("vesalius.info.describe", interrupted)
    assert run_cli("info") == (130, "", "interrupted: nothing was written\n")
    monkeypatch.setattr(cli, "app", interrupted)
    assert run_cli("info") == (130, "", "interrupted: nothing was written\n")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("seconds", [0.02, 0.15, 0.3, 0.5])
def test_a_job_manager_that_stops_a_command_in_its_first_moments_sees_no_traceback(seconds):
    command = [sys.executable, "-m", "vesalius", "info"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    time.sleep(seconds)
    process.terminate()
    _, said = process.communicate(timeout=60)
    # Python ends by SIGINT itself where the interruption met code that was made from text (dataclasses)
    assert process.returncode in (0, 130, -signal.SIGTERM, -signal.SIGINT)
    assert "Traceback" not in said
    assert said.count("\n") <= 1


def test_info_tells_what_there_is(run_cli):
    code, out, _ = run_cli("info")
    assert code == 0
    for expected in ("vesalius 0.1", "torch", "cpu", "bundled models", "extras", "hub cache"):
        assert expected in out


def test_info_lists_the_extras_of_this_source():
    from vesalius import info

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    declared = project["project"]["optional-dependencies"]
    assert [each["extra"] for each in info.extras()] == sorted(declared)


def test_info_describes_a_bundled_model(tiny_flow, monkeypatch):
    from vesalius import info

    monkeypatch.setattr(info, "bundled_models", lambda: {"tiny": tiny_flow})
    facts = info.describe_model("tiny")
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(tiny_flow / "unet")
    assert facts["parameters"] > sum(p.numel() for p in unet.parameters())
    assert facts["bytes"] > 4 * facts["parameters"]
    assert facts["licence"] == "CC0-1.0"


def test_info_survives_a_broken_bundled_model(monkeypatch, tmp_path):
    from vesalius import info

    monkeypatch.setattr(info, "bundled_models", lambda: {"tiny": tmp_path})
    assert "is missing" in info.describe_model("tiny")["broken"]


def test_an_error_is_one_line_whatever_a_file_puts_into_it(run_cli, tmp_path):
    name = "a\x1b[2J\x07\u202e" + "x" * 100
    code, out, err = run_cli("plan", tmp_path / f"{name}.parquet", "--out", tmp_path / "p.csv")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.rstrip("\n").isprintable() and r"\x1b[2J\x07\u202e" in err


def test_a_message_that_quotes_too_much_loses_its_middle():
    error = VesaliusError("first " + "x" * 10**6 + " last")
    assert len(str(error)) < 2000 and str(error)[:6] == "first " and str(error)[-5:] == " last"
