"""How fast each method trains, beside diffusers' own example scripts in the same run.

    python -m benchmarks.train.speed --peer PATH/train_text_to_image.py --work WORK --out OUT
    python -m benchmarks.train.speed --peer PATH/train_text_to_image.py --work WORK --out OUT --small
    python -m benchmarks.train.speed --work WORK --out OUT --tiny

Stable Diffusion 1.5 by its shapes, with random weights, at 512 px, and a U-ViT from scratch at
256 px. PATH is `examples/text_to_image` in a checkout of diffusers; the scripts for LoRA and
textual inversion are looked for beside it. Each case is a process of its own: `vesalius train` with
a recipe of a paper, stopped once its rate is known, then the script that does the same.

The rate is the median of what log.jsonl tells of each 20 steps, without the first 20. The peer's is
that of its progress bar over ten seconds or more, without the first ten steps. Our first step, which compiles from an empty cache, is
told apart; so is encoding the images, which the peer does in each step and we do once. Memory is
torch's own peak in the process, as allocated and as reserved; on a CPU the peak of the process.
With --repeat the sides take turns, and the fastest run of each counts.

What differs from the peer: its script trains no text encoder, so `full-text` is set against `full`,
and our LoRA (U-Net and text encoder) against one of the U-Net alone; `lora-unet` leaves the text
encoder as it is, too. --eager does not compile. --small is a network of the same form for a CPU, at
128 px, in float32 and not compiled. --tiny runs every case on a CPU with networks of no use, to test
this script.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.recording import record, table
from benchmarks.train.material import SD15, SMALL, TINY, Shapes, write_images, write_models

INTERVALS = 3  # of 20 steps, whose rates are taken
WARM_STEPS, PEER_STEPS = 10, 20  # not timed, timed at least: at batch 128 an epoch has 32
NEVER = 10**9  # images: a case is stopped long before
POLL_SECONDS = 0.05
TEXT_TO_IMAGE, LORA, INVERSION = (
    "train_text_to_image.py",
    "train_text_to_image_lora.py",
    "textual_inversion.py",
)
STEP = re.compile(rf"(\d+)/{NEVER} \[")  # of the tqdm bar that counts steps, as others show others


@dataclass(frozen=True)
class Case:
    """A recipe at a batch size, and the script that does the same."""

    name: str
    recipe: str
    batch: int
    peer: str | None = None
    settings: tuple[str, ...] = ()


AVERAGED = ("optimisation.ema_half_life_images=10000",)  # the peer has --use_ema
ONE = ("per=set",)
CASES = (
    Case("full-8", "eyediff", 8, TEXT_TO_IMAGE, AVERAGED),
    Case("full-32", "eyediff", 32, TEXT_TO_IMAGE, AVERAGED),
    Case("full-128", "eyediff", 128, TEXT_TO_IMAGE, AVERAGED),
    Case("full-text-32", "medisyn", 32, TEXT_TO_IMAGE, AVERAGED),
    Case("lora-1", "cytodiff", 1, LORA, ONE),
    Case("lora-8", "cytodiff", 8, LORA, ONE),
    Case("lora-unet-8", "cytodiff", 8, LORA, (*ONE, "train.text_encoder=false")),
    Case("inversion-1", "textual-inversion", 1, INVERSION, ONE),
    Case("inversion-8", "textual-inversion", 8, INVERSION, ONE),
    Case("uvit-256", "chest-diffusion", 256),
)


@dataclass(frozen=True)
class Bench:
    """Where everything is."""

    shapes: Shapes
    work: Path
    images: Path
    pairs: Path
    model: Path
    bert: Path
    peer: Path | None
    eager: bool
    deadline: float  # of time.monotonic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer", type=Path, help="diffusers' examples: train_text_to_image.py")
    parser.add_argument("--work", type=Path, required=True, help="folder for models and runs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8, help="begin no case after so long")
    parser.add_argument("--repeat", type=int, default=1, help="of each side, one after the other")
    parser.add_argument("--only", help=f"of {', '.join(case.name for case in CASES)}")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--small", action="store_true", help="networks for a CPU")
    parser.add_argument("--tiny", action="store_true", help="to test this script on a CPU")
    args = parser.parse_args()
    cases = chosen(args.only)
    shapes = TINY if args.tiny else SMALL if args.small else SD15
    if shapes is SD15 and not torch.cuda.is_available():
        raise SystemExit("error: there is no GPU here: --small is for a CPU")
    if args.peer and not args.peer.is_file():
        raise SystemExit(f"error: there is no script {args.peer}")
    deadline = time.monotonic() + 60 * args.minutes
    work, eager = args.work.absolute(), args.eager or shapes is not SD15
    work.mkdir(parents=True, exist_ok=True)
    images, pairs = write_images(work, shapes)
    models = write_models(work, shapes)
    bench = Bench(shapes, work, images, pairs, *models, args.peer, eager, deadline)
    settings = {"shapes": shapes.name, "compiled": not eager, "pixels": shapes.size}
    figures = {name: {} for name in ("vesalius", "encoding", "diffusers")}
    for case in cases:
        for name, measure in args.repeat * steps_of(case, bench, figures):
            if name == "encoding" and cache_of(case, bench).name in figures[name]:
                continue
            if time.monotonic() > deadline:
                print(f"{name}: not begun, {args.minutes:g} minutes are over", flush=True)
                continue
            for key, found in measure().items():
                print(f"{case.name}, {name}: {found}", flush=True)
                figures[name][key] = faster(found, figures[name].get(key, {}))
            # after each, so that a call that is cut short has told what it knows
            record(args.out, f"train-speed-{shapes.name}", figures, settings)
    print()
    table(rows_of(cases, figures))


def faster(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Of two runs of a case the faster one."""
    return max(other, one, key=lambda run: run.get("img/s", 0))


def chosen(only: str | None) -> list[Case]:
    """The cases named in `only`, all without it."""
    names = only.split(",") if only else [case.name for case in CASES]
    known = {case.name: case for case in CASES}
    if wrong := [name for name in names if name not in known]:
        raise SystemExit(f"error: no case {wrong[0]}: choose of {', '.join(known)}")
    return [known[name] for name in names]


def steps_of(
    case: Case, bench: Bench, figures: dict[str, Any]
) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
    """What there is to measure for a case, each as what it is a figure of and how it is taken."""
    steps: list[tuple[str, Callable[[], dict[str, Any]]]] = []
    if (cache := cache_of(case, bench).name) not in figures["encoding"]:
        steps.append(("encoding", lambda: {cache: encode(case, bench)}))
    steps.append(("vesalius", lambda: {case.name: ours(case, bench)}))
    script, name = peer_script(case, bench.peer), f"{case.peer} {case.batch}"
    if script and name not in figures["diffusers"]:
        steps.append(("diffusers", lambda: {name: theirs(case, script, bench)}))
    return steps


def rows_of(cases: list[Case], figures: dict[str, Any]) -> list[list[Any]]:
    """The table: a row a case, the peer's figures behind ours."""
    rows: list[list[Any]] = [
        ["case", "img/s", "MFU", "first step s", "GB", "reserved", "peer img/s", "GB", "times"]
    ]
    for case in cases:
        mine = figures["vesalius"].get(case.name, {})
        peer = figures["diffusers"].get(f"{case.peer} {case.batch}", {})
        rate, other = mine.get("img/s"), peer.get("img/s")
        names = ("img/s", "MFU", "first step s", "peak GB", "reserved GB")
        cells = [mine.get(name) for name in names] + [other, peer.get("peak GB")]
        rows.append([case.name, *cells, rate / other if rate and other else None])
    return rows


def cache_of(case: Case, bench: Bench) -> Path:
    """Latents of one size serve all cases; each finds them as a link in its run's folder."""
    size = bench.shapes.scratch_size if case.recipe == "chest-diffusion" else bench.shapes.size
    return bench.work / f"{bench.shapes.name}-latents-{size}"


def encode(case: Case, bench: Bench) -> dict[str, Any]:
    """Seconds from the start of a run to its first step: loading, encoding, one small step."""
    # a recipe that reads captions from the cache too
    whole = case if case.recipe == "chest-diffusion" else CASES[0]
    shutil.rmtree(cache_of(case, bench), ignore_errors=True)
    started = time.monotonic()
    run = train(replace(whole, batch=1), bench, 1, compiled=False)
    if "failed" in run:
        return run | memory_of(bench)
    seconds = round(time.monotonic() - started, 1)
    return {"images": bench.shapes.images, "seconds": seconds} | memory_of(bench)


def ours(case: Case, bench: Bench) -> dict[str, Any]:
    """Rate, utilisation, first step and memory of `vesalius train`."""
    run = train(case, bench, INTERVALS + 2, compiled=not bench.eager)
    if "failed" in run:
        return run | memory_of(bench)
    first, _, *lines = run["lines"]  # the second begins with an empty queue: it looks too fast
    figures: dict[str, Any] = {"batch": case.batch, "first step s": first["first_step_seconds"]}
    for name, key in {"img/s": "img_per_sec", "MFU": "mfu"}.items():
        values = [line[key] for line in lines if key in line]
        figures |= {name: round(statistics.median(values), 4)} if values else {}
    return figures | memory_of(bench)


def train(case: Case, bench: Bench, wanted: int, compiled: bool) -> dict[str, Any]:
    """Run a case until its log has `wanted` lines, then stop it; {"lines"}, or {"failed"}."""
    out, cache = bench.work / "run", cache_of(case, bench)
    shutil.rmtree(out, ignore_errors=True)
    cache.mkdir(exist_ok=True)
    out.mkdir()
    (out / "latents").symlink_to(cache)
    scratch = case.recipe == "chest-diffusion"
    stage = "denoiser.optimisation" if scratch else "optimisation"
    lengths = ("seen_images", "validate_images", "checkpoint_images")
    settings = [*(f"{stage}.{name}={NEVER}" for name in lengths), f"{stage}.sample_images=0"]
    settings += [f"{stage}.batch={case.batch}"]
    if bench.shapes is SMALL:  # what the peer computes in
        settings.append(f"{stage}.precision=float32")
    settings += [f"{stage}.compile={str(compiled).lower()}", *case.settings]
    if scratch:
        settings += [f"size={bench.shapes.scratch_size}", f"text_encoder.source={bench.bert}"]
        settings += bench.shapes.scratch
    else:
        settings.append(f"size={bench.shapes.size}")
    command = ["vesalius", "train", case.recipe, "--pairs", str(bench.pairs), "--out", str(out)]
    log: list[dict[str, Any]] = []

    def finished() -> bool:
        found = next(out.glob("*/log.jsonl"), None)
        # whole lines alone: the last may be half written
        text = found.read_text().rpartition("\n")[0] if found else ""
        log[:] = [json.loads(line) for line in text.splitlines()]
        return len(log) >= wanted

    told = follow([*command, "--model", str(bench.model), *settings], bench, finished)
    return {"failed": told} if told else {"lines": log[:wanted]}


def peer_script(case: Case, peer: Path | None) -> Path | None:
    """The diffusers script for a case, where there is one."""
    if peer is None or case.peer is None:
        return None
    beside, examples = peer.parent / case.peer, peer.absolute().parent.parent
    found = [beside, examples / "textual_inversion" / case.peer]
    return next((path for path in found if path.is_file()), None)


def theirs(case: Case, script: Path, bench: Bench) -> dict[str, Any]:
    """Rate and memory of a diffusers script at the same batch and precision."""
    arguments = {
        "pretrained_model_name_or_path": bench.model,
        "train_data_dir": bench.images / "images" if case.peer == INVERSION else bench.images,
        "output_dir": bench.work / "run",
        "resolution": bench.shapes.size,
        "train_batch_size": case.batch,
        "dataloader_num_workers": 8 if torch.cuda.is_available() else 0,
        "mixed_precision": "bf16" if torch.cuda.is_available() else "no",
        "max_train_steps": NEVER,
        "checkpointing_steps": NEVER,
    }
    flags = ["--allow_tf32"] if torch.cuda.is_available() else []
    if case.peer == INVERSION:
        arguments |= {"placeholder_token": "<concept>", "initializer_token": "a"}
        arguments |= {"num_vectors": 64, "save_steps": NEVER}
    else:
        arguments |= {"cache_dir": bench.work / "peer-cache", "caption_column": "text"}
    if case.peer == LORA:
        arguments["rank"] = 16
    if case.peer == TEXT_TO_IMAGE:
        flags.append("--use_ema")
    shutil.rmtree(bench.work / "run", ignore_errors=True)
    marks: list[tuple[int, float]] = []

    def finished() -> bool:
        seen = STEP.findall(output_of(bench).rpartition("Steps:")[2])
        step = int(seen[-1]) if seen else 0
        if step >= WARM_STEPS and (not marks or step > marks[-1][0]):
            marks.append((step, time.monotonic()))
        if not marks:
            return False
        (first, started), (last, ended) = marks[0], marks[-1]
        return last - first >= PEER_STEPS and ended - started >= bench.shapes.peer_seconds

    command = [str(script), *(f"--{name}={value}" for name, value in arguments.items()), *flags]
    if told := follow(command, bench, finished):
        return {"failed": told} | memory_of(bench)
    (first, started), (last, ended) = marks[0], marks[-1]
    rate = case.batch * (last - first) / (ended - started)
    return {"batch": case.batch, "img/s": round(rate, 4)} | memory_of(bench)


def follow(command: list[str], bench: Bench, finished: Callable[[], bool]) -> str:
    """Run a command until it has `finished`, then end it; return why it did not get there, or "".

    It is killed, not asked: a run that is asked writes a checkpoint of many gigabytes first.
    """
    (bench.work / "memory.json").unlink(missing_ok=True)
    watched = [sys.executable, "-m", "benchmarks.train.watched", str(bench.work / "memory.json")]
    with (
        tempfile.TemporaryDirectory(dir=bench.work) as compiler_cache,
        (bench.work / "output.txt").open("wb") as output,
    ):
        process = subprocess.Popen(
            [*watched, *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its workers end with it
            env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": compiler_cache, "HF_HUB_OFFLINE": "1"},
        )
        try:
            while not finished():
                if process.poll() is not None:
                    lines = [line for line in output_of(bench).splitlines() if line.strip()]
                    return lines[-1].strip()[:300] if lines else f"exit code {process.returncode}"
                if time.monotonic() > bench.deadline:
                    return "not done when the time was over"
                time.sleep(POLL_SECONDS)
            return ""
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def output_of(bench: Bench) -> str:
    """What the process has said; a bar's steps stand on lines of their own."""
    text = (bench.work / "output.txt").read_bytes()[-20_000:].decode(errors="replace")
    return text.replace("\r", "\n")


def memory_of(bench: Bench) -> dict[str, float]:
    """Peak memory of the last process, GB of 10^9 bytes: of the GPU, or without one its own."""
    note = bench.work / "memory.json"
    if not note.exists():
        return {}
    peak = json.loads(note.read_text())
    names = {"allocated": "peak GB", "reserved": "reserved GB", "resident": "peak GB"}
    return {names[kind]: round(size / 1e9, 2) for kind, size in peak.items()}


if __name__ == "__main__":
    main()
