import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.growth import many_plans, run
from benchmarks.growth.measuring import Stage, exponent, measure
from benchmarks.growth.stored import spans, write_shard
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_its_own(power):
    sizes = [10, 100, 1000]
    assert exponent(sizes, [3 * n**power for n in sizes]) == pytest.approx(power)
    assert exponent(sizes[:1], [1.0]) is None
    assert exponent(sizes, [0.0, 0.0, 0.0]) is None


def test_memory_that_is_freed_again_is_seen():
    # in a process of its own, as stages are: this one may have memory left from other tests
    code = """
import numpy as np
from benchmarks.growth.measuring import Memory
with Memory() as memory:
    held = np.ones(2**23)  # 64 MiB
    for _ in range(20):
        held += 1
    del held
print(memory.most - memory.before)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert 60 < float(done.stdout) < 90


def test_only_the_work_is_measured(tmp_path):
    def prepare(size, folder):
        (folder / "made").write_text("x" * size)
        return size

    def work(size, folder, given):
        assert given == size
        return {"bytes": (folder / "made").stat().st_size}

    found = measure(Stage("letters", (7,), work, prepare), 7, tmp_path / "new")
    assert found["bytes"] == 7 and found["size"] == 7
    assert found["seconds"] < 1


@pytest.mark.parametrize(
    ("name", "size"),
    [("serve: library", 300), ("latents: cache", 300), ("guard: ask", 200), ("study: measures", 8)],
)
def test_a_stage_runs_at_a_small_size(name, size, tmp_path):
    found = measure(run.stages(name.partition(":")[0])[name], size, tmp_path)
    assert found["seconds"] > 0


def test_every_stage_is_named_after_its_room():
    for room in run.ROOMS:
        assert all(name.startswith(f"{room}: ") for name in run.stages(room))


def test_runs_add_up_and_the_exponents_are_those_of_the_last_two_sizes(tmp_path, capsys):
    figures = {
        "a: b": {
            "10": {"size": 10, "seconds": 1.0, "MiB": 2.0},
            "100": {"size": 100, "seconds": 100.0, "MiB": 2.0},
        }
    }
    (tmp_path / "growth.json").write_text(json.dumps({"figures": figures}))
    assert run.lines(run.earlier(tmp_path)) == [
        ["a: b", "10", 1.0, 2.0, None, None],
        ["a: b", "100", 100.0, 2.0, pytest.approx(2.0), pytest.approx(0.0)],
    ]


def test_shards_that_are_made_up_are_safetensors(tmp_path):
    key = np.arange(60, dtype=np.uint8).reshape(3, 20)
    write_shard(tmp_path / "a.safetensors", {"by": "test"}, {"key": key}, {"mean": ("F16", (2, 4))})
    found = load_file(tmp_path / "a.safetensors")
    assert (found["key"].numpy() == key).all()
    assert found["mean"].shape == (3, 2, 4) and not found["mean"].any()
    assert spans(5, 10, 20) == [(0, 2), (2, 4), (4, 5)]


@pytest.mark.slow
@pytest.mark.ci
def test_many_plans_are_made_once_and_share_no_image(tmp_path, monkeypatch):
    given = ["--work", f"{tmp_path}/work", "--out", f"{tmp_path}", "--plans", "2", "--rows", "40"]
    monkeypatch.setattr("sys.argv", ["many_plans", *given])
    many_plans.main()
    written = [path.stat().st_mtime_ns for path in tmp_path.glob("work/plan-*.parquet")]
    many_plans.main()
    assert written == [path.stat().st_mtime_ns for path in tmp_path.glob("work/plan-*.parquet")]
    found = json.loads((tmp_path / "many_plans.json").read_text())["figures"]
    assert found["rows"] == 80 and found["chunks"] == 2
    assert found["rows that another plan has"] == 0
    assert many_plans.repeated([tmp_path / "work/plan-00.parquet"] * 2) == 40
