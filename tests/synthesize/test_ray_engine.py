"""A Ray cluster makes the same set, and what a worker that dies leaves is made by others."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from vesalius.errors import VesaliusError
from vesalius.synthesize import engine
from vesalius.synthesize.plan import PlanRow
from vesalius.synthesize.ray_engine import _absolute
from vesalius.synthesize.settings import SynthesizeSettings

OPTIONS = {"device": "cpu", "dtype": "float32", "chunk": 2, "batch_size": 2}


def synthesize(rows, out, **settings):
    return engine.synthesize(rows, out, SynthesizeSettings(**settings, **OPTIONS))


def plan(rows: int, **settings) -> list[PlanRow]:
    return [PlanRow(k, "a chest x-ray", "nodule", k, **settings) for k in range(rows)]


def files(out: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def test_without_ray_it_says_what_to_install(tiny_flow, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(VesaliusError, match=r"pip install 'vesalius\[ray\]'"):
        synthesize(plan(2), tmp_path / "set", model=str(tiny_flow), engine="ray")
    assert not (tmp_path / "set").exists()


def test_paths_hold_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lora.safetensors").touch()
    assert _absolute("lora.safetensors:0.5") == f"{tmp_path}/lora.safetensors:0.5"
    assert _absolute("lora.safetensors") == f"{tmp_path}/lora.safetensors"
    assert _absolute("mini") == "mini"


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_worker_niceness", "0")  # else a busy machine leaves the workers no time
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()
    patch.undo()


@pytest.mark.slow
@pytest.mark.ci
def test_a_killed_worker_costs_no_row_and_changes_no_byte(cluster, tiny_flow, tmp_path):
    psutil = pytest.importorskip("psutil")
    out, killed = tmp_path / "set", []

    def kill_one_at_work() -> None:
        end = time.monotonic() + 240
        while not killed and time.monotonic() < end:
            for process in psutil.Process().children(recursive=True) + list(psutil.process_iter()):
                if _title(process) == "ray::_Actor.make" and list(out.glob("chunks/*")):
                    process.kill()
                    killed.append(process.pid)
                    return
            time.sleep(0.01)

    thread = threading.Thread(target=kill_one_at_work)
    thread.start()
    rows = plan(40, steps=60)
    done = synthesize(rows, out, model=str(tiny_flow), engine="ray")
    thread.join()
    assert len(killed) == 1
    assert done.counts.images == 40
    synthesize(rows, tmp_path / "local", model=str(tiny_flow))
    assert files(out) == files(tmp_path / "local")


def _title(process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except Exception:  # it has just ended
        return ""


@pytest.mark.slow
def test_what_a_worker_cannot_do_is_told_in_one_line(cluster, tiny_flow, tmp_path):
    rows = [PlanRow(3, "lung", "", 1, width=33, height=33)]
    with pytest.raises(VesaliusError, match="row 3 of the plan: size 33x33"):
        synthesize(rows, tmp_path / "set", model=str(tiny_flow), engine="ray")
    assert not (tmp_path / "set").exists()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
