"""The acceptance on a GPU: each part's end is told, and all of it runs once where there is none."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")


@pytest.fixture
def place(tmp_path: Path):
    from benchmarks.gpu_parts import Place

    return Place(tmp_path / "work", tmp_path / "out", tmp_path / "peer", tiny=True)


@pytest.mark.slow
def test_a_part_that_fails_or_hangs_stops_no_other(
    place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from benchmarks.gpu import run_parts
    from benchmarks.gpu_parts import Part
    from benchmarks.gpu_rows import rows_of

    def script(name: str, text: str) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        return str(path)

    child = script("child", "import time\ntime.sleep(60)")
    # its child is in a session of its own, as those of train/speed.py are
    parent = f"""
import subprocess, sys
process = subprocess.Popen([sys.executable, {child!r}], start_new_session=True)
print(process.pid, flush=True)
try:
    process.wait()
finally:
    process.kill()
    process.wait()
"""
    parts = [
        Part("bad", 30, (script("bad", "raise SystemExit('no such kernel')"),)),
        Part("good", 30, (script("good", "print('well')"),), instead_of="bad"),
        Part("spare", 30, (script("spare", ""),), instead_of="good"),
        Part("lacking", 30, (script("lacking", ""),), ("no_such_module",)),
        Part("hangs", 20, (script("hangs", parent),)),
        Part("late", 30, (script("late", ""),)),
    ]
    place.work.mkdir()
    meter = tmp_path / "bin" / "nvidia-smi"
    meter.parent.mkdir()
    meter.write_text("#!/bin/sh\nwhile echo 1000; do sleep 0.1; done\n")
    meter.chmod(0o755)
    monkeypatch.setenv("PATH", f"{meter.parent}:/usr/bin:/bin")
    run_parts(parts[:-1], place, time.time() + 200)
    document = json.loads((place.out / "gpu.json").read_text())
    states = {part["name"]: part["state"] for part in document["figures"]}
    assert states == {
        "bad": "failed",
        "good": "done",
        "spare": "not needed",
        "lacking": "missing",
        "hangs": "out of time",
    }
    assert {part["used_gb"] for part in document["figures"]} == {None, 1.05}
    said = {part["name"]: part["said"] for part in document["figures"]}
    assert said["bad"] == ["no such kernel"] and said["lacking"] == ["no_such_module"]
    assert not Path(f"/proc/{said['hangs'][0]}").exists()
    assert [line.split(":")[0] for line in rows_of(document)] == list(states)
    (late,) = run_parts(parts[-1:], place, time.time() + 5)
    assert late.state == "not begun"


def test_the_peak_of_a_gpu_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import torch
    from benchmarks.train import watched

    once = iter([None])
    monkeypatch.setattr(watched.time, "sleep", lambda seconds: next(once))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 9)
    with pytest.raises(StopIteration):
        watched.keep_note(tmp_path / "memory.json")
    note = json.loads((tmp_path / "memory.json").read_text())
    assert note == {"allocated": 7, "reserved": 9}


def test_figures_become_rows():
    from benchmarks.gpu_rows import rows_of

    case = {"img/s": 90.0, "MFU": 0.4, "peak GB": 30.0}
    speed = {
        "benchmark": "train-speed-sd15",
        "settings": {"pixels": 512, "compiled": True},
        "figures": {
            "vesalius": {"full-32": case, "lora-8": {"failed": "no memory"}},
            "encoding": {"sd15-latents-512": {"images": 4096, "seconds": 40.0}},
            "diffusers": {"train_text_to_image.py 32": {"img/s": 30.0}},
        },
    }
    part = {
        "name": "full",
        "state": "out of time",
        "said": [],
        "counts": {},
        "peak_gb": None,
        "used_gb": 31.0,
    }
    full = part | {"command": "python -m benchmarks.train.speed", "documents": [speed]}
    late = part | {"name": "late", "state": "not begun", "command": "", "documents": []}
    document = {
        "hardware": "a GPU",
        "torch": "2.15",
        "date": "2026-11-28",
        "settings": {"text encoder of mini": True},
        "figures": [full, late],
    }
    row, line = rows_of(document)
    assert line == "late: not begun"
    assert row.count(" | ") == 4 and "out of time, 31.0 GB of the GPU in use" in row
    for words in ("full-32 at 512 px, compiled: 90 images a second", "no memory", "30 images a"):
        assert words in row


@pytest.mark.slow
def test_mini_without_its_text_encoder_still_draws(tmp_path: Path):
    from benchmarks.gpu_parts import MINI, TEXT_WEIGHTS, write_text_encoder

    import vesalius

    less = tmp_path / "less"
    shutil.copytree(MINI, less)
    (less / TEXT_WEIGHTS).unlink()
    folder = write_text_encoder(less, tmp_path / "model")
    sizes = [(where / TEXT_WEIGHTS).stat().st_size for where in (MINI, folder)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    (image,) = vesalius.load(str(folder), "cpu").generate("brain MRI, glioma", steps=1)
    assert image.image.size == (256, 256)


@pytest.mark.slow
def test_the_whole_script_on_a_cpu(tmp_path: Path):
    command = ["benchmarks/gpu.sh", "--tiny", "--seconds", "1500", "--out", str(tmp_path)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    parts = json.loads((tmp_path / "gpu.json").read_text())["figures"]
    states = {part["name"]: part["state"] for part in parts}
    expected = dict.fromkeys(states, "done") | {"full-eager": "not needed"}
    if states["private"] == "missing":  # dp-accounting is an extra
        expected["private"] = "missing"
    assert states == expected, done.stdout[-4000:]
    assert parts[0]["counts"] == {"passed": parts[0]["counts"]["passed"]}
    assert all(" | " in row for row in done.stdout.split("\n\n")[-1].splitlines() if "|" in row)
