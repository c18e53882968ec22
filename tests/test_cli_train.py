"""From a pairs table to a generator by the command alone, interrupted on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "nothing", "--pairs", "x", "--out", "y"], "no recipe"),
        (["train", "mini-cpu", "--pairs", "x.parquet", "--out", "y"], "no pairs table"),
        (["train", "mini-cpu", "size=big", "--pairs", "x", "--out", "y"], "size"),
        (["train", "mini-cpu", "--pairs", "x", "--out", "y", "--device", "tpu"], "device"),
    ],
)
def test_bad_input_is_one_line(run_cli, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_cli(*arguments)
    assert code == 2
    assert told in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_is_told(run_cli, tiny_recipe, tiny_pairs):
    command = ["train", tiny_recipe, "--device", "cpu", "--pairs", tiny_pairs, "--out"]
    code, _, err = run_cli(*command, "/dev/null/run")
    assert (code, "cannot write" in err) == (2, True)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_training_stops_on_ctrl_c_and_resumes_to_a_generator(tiny_recipe, tiny_pairs, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "vesalius", "train", str(tiny_recipe), "--device", "cpu"]
    command += ["--pairs", str(tiny_pairs), "--out", str(out)]
    long = "denoiser.optimisation.seen_images=1000000"
    log = out / "denoiser" / "log.jsonl"
    with subprocess.Popen(
        [*command, long],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            wait_for(log, process)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "continue with --resume" in err.splitlines()[-1]
    reached = int(next((out / "denoiser" / "checkpoints").iterdir()).name)

    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2
    assert "--resume" in again.stderr.splitlines()[-1]

    more = f"denoiser.optimisation.seen_images={reached + 16}"
    done = subprocess.run([*command, more, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    settings = json.loads((out / "generator" / "vesalius.json").read_text())
    assert settings["steps"] == 3
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert events[-1]["seen_images"] == reached + 16


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not (path.is_file() and path.stat().st_size):
        assert process.poll() is None, "training ended before it was interrupted"
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def test_recipes_are_listed_and_shown(run_cli):
    code, out, _ = run_cli("train", "--list")
    assert code == 0
    assert "textual-inversion: Medical diffusion on a budget" in out
    assert [line for line in out.splitlines()[:-1] if len(line) > 200 or line[-1] in ".:"] == []
    code, out, _ = run_cli("train", "--show", "cytodiff")
    assert code == 0
    assert out.startswith("#")
    assert "\nmethod: lora" in out
    code, _, err = run_cli("train", "--show", "nonsense")
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--size", "128"], "size=128"),
        (["--lr=1e-4"], "optimisation.lr=1e-4"),
        (["--rank", "4"], "lora.rank=4"),
        (["--modle", "mini"], "did you mean --model?"),
    ],
)
def test_an_option_that_is_none_names_what_may_be_meant(more, told, run_cli):
    code, _, err = run_cli("train", "augment-lora", "--pairs", "x", "--out", "y", *more)
    assert (code, err.count("\n")) == (2, 1)
    assert told in err


def test_far_names_are_not_guessed(run_cli):
    code, _, err = run_cli("train", "augment-lora", "--pairs", "x", "--out", "y", "--foo", "1")
    assert (code, err) == (2, "error: No such option: --foo (--help lists the options)\n")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["train", "cytodif", "--pairs", "cells.parquet", "--out", "y"], "mean cytodiff?"),
        (["train", "--show", "mini_cpu"], "mean mini-cpu?"),
        (["train", "cytodiff", "--pairs", "cell.parquet", "--out", "y"], "mean cells.parquet?"),
        (["generate", "a cat", "--model", "minii"], "mean mini?"),
        (["generate", "a cat", "--adapter", "runs/lorra"], "mean runs/lora?"),
        (["pairs", "cellls.parquet", "--out", "y.parquet"], "mean cells.parquet?"),
        (["synthesize", "plan.csw", "--out", "y"], "plan.csw"),
        (["synthesize", "plann.csv", "--out", "y"], "mean plan.csv?"),
    ],
)
def test_a_name_that_is_none_is_told_with_its_nearest(
    command, told, run_cli, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("cells.parquet", "plan.csv"):
        (tmp_path / name).touch()
    (tmp_path / "runs" / "lora").mkdir(parents=True)
    code, _, err = run_cli(*command)
    assert code == 2
    assert told in err
