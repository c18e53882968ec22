"""`vesalius synthesize`: what a user gets, and one clear line for everything that can go wrong."""

import os
import signal
import subprocess
import sys
import time

import pytest

from vesalius.core.manifest import read_manifest
from vesalius.synthesize.plan import PlanRow, write_plan

SLOW = [pytest.mark.slow, pytest.mark.ci]


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.csv"
    rows = [PlanRow(k, "chest x-ray", "none", k, attributes={"sex": "F"}) for k in range(6)]
    write_plan(rows, path)
    return path


def test_a_set_and_the_command_that_comes_next(run_cli, tiny_flow, plan, tmp_path):
    out = tmp_path / "set"
    code, told, err = run_cli("synthesize", plan, "--model", tiny_flow, "--out", out)
    assert (code, err.count("\n"), err[:11]) == (0, 1, "precision: ")
    assert told == f"6 synthetic images in {out}: vesalius pairs {out} --out PAIRS.parquet\n"
    assert run_cli("synthesize", plan, "--model", tiny_flow, "--out", out)[:2] == (0, told)


def test_every_option_arrives(run_cli, tiny_flow, plan, tmp_path):
    options = {
        "--steps": 2,
        "--guidance": 3.5,
        "--sampler": "euler",
        "--format": "jpeg",
        "--store": "webdataset",
        "--chunk": 2,
        "--batch-size": 2,
        "--device": "cpu",
        "--dtype": "float32",
        "--model": tiny_flow,
        "--out": tmp_path / "set",
    }
    flat = [part for item in options.items() for part in item]
    for shard in ("1/2", "0/2"):
        code, told, _ = run_cli("synthesize", plan, "--shard", shard, *flat)
        assert code == 0
        if shard == "1/2":
            assert told.startswith("2 of 6 rows are in")
    row = read_manifest(tmp_path / "set" / "manifest.jsonl")[0]
    expected = {"steps": 2, "guidance": 3.5, "sampler": "euler", "sex": "F"}
    assert row | expected == row
    assert row["file"] == "synthetic-000000-of-000003.tar:000000.jpg"


def test_bad_input_is_one_line(run_cli, tiny_flow, plan, tmp_path):
    out = tmp_path / "set"
    wrong = [
        ([tmp_path / "none.csv"], "no plan at"),
        ([plan, "--model", "nonesuch"], "unknown model"),
        ([plan, "--model", tiny_flow, "--shard", "2/2"], "the last of 2 is 1/2"),
        ([plan, "--model", tiny_flow, "--adapter", "none"], "there is no adapter"),
    ]
    for arguments, message in wrong:
        code, told, err = run_cli("synthesize", *arguments, "--out", out)
        assert (code, told) == (2, "")
        assert err.startswith("error: ")
        assert message in err
        assert err.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=SLOW)])
def test_a_signal_says_how_much_is_done(tiny_flow, tmp_path, number):
    write_plan([PlanRow(k, "lung", "", k) for k in range(4000)], tmp_path / "plan.csv")
    out = tmp_path / "set"
    options = ["--chunk", "1", "--batch-size", "1", "--model", tiny_flow, "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-m", "vesalius", "synthesize", tmp_path / "plan.csv", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # a test run in the background inherits that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list(out.glob("chunks/*.json")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    done = len(list(out.glob("chunks/*.json")))
    assert 0 < done < 4000
    assert (
        err.splitlines(keepends=True)[-1]
        == f"interrupted: {done:,} of 4,000 rows are done; repeat the command to resume\n"
    )
    assert not list(out.glob(".*"))
