"""From a folder of sets to a generator by the commands alone, interrupted on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vesalius.data.pairs import read_pairs


def test_pairs_writes_the_table_once(run_cli, tiny_sets, tmp_path):
    command = ["pairs", tiny_sets, "--captions", tiny_sets / "dictionary.yaml"]
    command += ["--out", tmp_path / "pairs.parquet"]
    code, out, _ = run_cli(*command)
    assert code == 0
    assert "lungs" in out and "wrote" in out
    assert len(read_pairs(tmp_path / "pairs.parquet")) == 50
    code, _, err = run_cli(*command)
    assert code == 2
    assert "exists already" in err
    assert run_cli(*command, "--overwrite")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.parquet"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pairs", "nowhere", "--out", "x.parquet"], "not there"),
        (["pairs", ".", "--captions", "nothing", "--out", "x.parquet"], "no prompt dictionary"),
        (["pairs", ".", "--out", "/dev/null/x.parquet"], "cannot write"),
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


def test_outputs_and_sets_that_cannot_be_are_told(
    run_cli, tiny_recipe, tiny_pairs, tiny_sets, tmp_path
):
    command = ["train", tiny_recipe, "--device", "cpu", "--pairs", tiny_pairs, "--out"]
    code, _, err = run_cli(*command, "/dev/null/run")
    assert (code, "cannot write" in err) == (2, True)
    (tmp_path / "lungs.parquet").write_bytes(tiny_pairs.read_bytes()[:50])
    (tmp_path / "one.yaml").write_text("lungs: {templates: ['{label}']}")
    command = ["pairs", tmp_path, "--captions", tmp_path / "one.yaml", "--out", tmp_path / "p"]
    code, _, err = run_cli(*command)
    assert (code, "not a Parquet file" in err) == (2, True)
    pq.write_table(pa.table({"picture": [1]}), tmp_path / "lungs.parquet")
    code, _, err = run_cli(*command)
    assert (code, "lacks the column image, label" in err) == (2, True)
    assert run_cli(*command, "--val", "5")[0] == 2


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
    assert "go on with --resume" in err.splitlines()[-1]
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
