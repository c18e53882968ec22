"""Plans and sets of many rows: planned, written, read, and made by an engine whose model draws nothing.

Everything of `vesalius synthesize` runs as it does for users, from the claim of the set to its manifest,
but that a row's pixels are grey and 16 x 16: only denoising and decoding are left out.
"""

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import vesalius
from benchmarks.growth.measuring import Stage
from benchmarks.sample.bulk import random_model
from vesalius.synthesize import worker
from vesalius.synthesize.engine import synthesize
from vesalius.synthesize.make_plan import plan_from_pairs
from vesalius.synthesize.plan import plan_digest, read_plan, write_plan
from vesalius.synthesize.settings import HowMany, PlanSettings, SynthesizeSettings

REAL, CLASSES, CHUNK = 20_000, 8, 1000


def table(size: int, folder: Path) -> None:
    """A pairs table of REAL training images without their pixels: only its text is read."""
    rows = range(REAL)
    columns = {
        "image": [{"bytes": b"", "path": ""}] * REAL,
        "caption": [f"chest x-ray, finding {row % CLASSES}, patient of {row % 70 + 20} years" for row in rows],
        "label": [f"finding {row % CLASSES}" for row in rows],
        "group": [f"p{row // 4}" for row in rows],
        "split": ["train"] * REAL,
        "source": ["drawn"] * REAL,
        "sha1": [f"{row:040x}" for row in rows],
        "symmetry": ["none"] * REAL,
    }  # fmt: skip
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns["image"] = pa.array(columns["image"], kind)  # pyright: ignore[reportArgumentType]
    pq.write_table(pa.table(columns), folder / "pairs.parquet")


def plan(size: int, folder: Path) -> dict[str, Any]:
    """Planned from the real captions, written, read again, hashed."""
    parts, began = {}, time.process_time()
    rows = plan_from_pairs(folder / "pairs.parquet", PlanSettings(HowMany(total=size))).rows
    parts["planning"], began = time.process_time() - began, time.process_time()
    write_plan(rows, folder / "plan.parquet")
    parts["writing"], began = time.process_time() - began, time.process_time()
    del rows
    read = read_plan(folder / "plan.parquet")
    parts["reading"], began = time.process_time() - began, time.process_time()
    plan_digest(read)
    parts["digest"] = time.process_time() - began
    said = {name: round(value, 2) for name, value in parts.items()}
    return {"parts": said, "bytes": (folder / "plan.parquet").stat().st_size}


def model_and_plan(size: int, folder: Path) -> Any:
    """A plan, and a model of a few thousand parameters with random weights."""
    table(size, folder)
    plan(size, folder)
    return vesalius.load(str(random_model(folder / "model", tiny=True)), "cpu", "float32")


def whole_set(size: int, folder: Path, model: Any) -> dict[str, Any]:
    """The set made, then asked for again: all its files are read and hashed."""
    drawn = worker.draw, worker.decode
    worker.draw = lambda generator, requests, **named: torch.zeros(len(requests), 1)
    worker.decode = lambda vae, latents, bits: torch.full((len(latents), 16, 16, 3), 128, dtype=torch.uint8)  # fmt: skip
    settings = SynthesizeSettings(store="parquet", chunk=CHUNK, batch_size=64)
    parts, began = {}, time.process_time()
    try:
        synthesize(folder / "plan.parquet", folder / "set", settings, model=model)
        parts["making"], began = time.process_time() - began, time.process_time()
        synthesize(folder / "plan.parquet", folder / "set", settings, model=model)
        parts["asked again"] = time.process_time() - began
    finally:
        worker.draw, worker.decode = drawn
    written = sum(path.stat().st_size for path in (folder / "set").rglob("*") if path.is_file())
    return {"parts": {n: round(v, 2) for n, v in parts.items()}, "bytes": written}


STAGES = {
    "synthesize: plan": Stage("rows", (10_000, 100_000, 1_000_000), plan, table),
    "synthesize: set": Stage("rows", (1_000, 10_000, 100_000), whole_set, model_and_plan),
}
