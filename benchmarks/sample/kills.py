"""A plan made under random kills: is any image lost, made twice or torn?

    python -m benchmarks.sample.kills --out OUT [--model mini] [--images 64] [--kills 5] \
        [--store folder] [--chunk 4] [--batch-size 4] [--device auto] [--seed 0]

`synthesize` runs as a process of its own, is killed (SIGKILL) at a random moment, and the same call
goes on; after so many kills it is left to end. Half of the kills wait for the first chunk of their
run, so that drawing and writing are hit, the others strike loading and checking too. Each of the
former waits at most until its share of the images is done, so that no run ends before all kills.

Every row must then be in the manifest once and in the plan's order, every image have the hash that
is written there and be decodable, and nothing else lie in the folder. Prints, and writes to
kills.json, what was there after each kill, and stops with an error where anything is not so.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.recording import record, run, table
from benchmarks.sample.equality import PROMPTS
from vesalius.core.manifest import read_manifest
from vesalius.errors import VesaliusError
from vesalius.images.pixels import open_rgb
from vesalius.images.stored_images import loads
from vesalius.sample.folder import digest
from vesalius.synthesize.plan import PlanRow, write_plan
from vesalius.synthesize.store import recorded

_RUN = (
    "import json, sys; from vesalius.synthesize.engine import synthesize; "
    "from vesalius.synthesize.settings import SynthesizeSettings; "
    "synthesize(sys.argv[1], sys.argv[2], SynthesizeSettings(**json.loads(sys.argv[3])))"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--store", default="folder")
    parser.add_argument("--chunk", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rng = random.Random(args.seed)
    rows = [PlanRow(k, PROMPTS[k % len(PROMPTS)], "", k) for k in range(args.images)]
    options = {"model": args.model, "store": args.store, "chunk": args.chunk}
    options |= {"batch_size": args.batch_size, "device": args.device}
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        plan, out = Path(folder) / "plan.parquet", Path(folder) / "set"
        write_plan(rows, plan)
        command = [sys.executable, "-c", _RUN, str(plan), str(out), json.dumps(options)]
        shown: list[list[Any]] = [["kill", "struck", "after s", "rows complete"]]
        chunks = -(-args.images // args.chunk)
        for kill in range(args.kills):
            if len(recorded(out)) == chunks:
                raise VesaliusError(f"complete after {kill} kills: give more --images")
            target = (kill + 1) * chunks // (args.kills + 1)
            seconds = struck(command, out, target if kill % 2 == 0 else None, rng)
            complete = sum(len(rows[n * args.chunk :][: args.chunk]) for n in recorded(out))
            shown.append([kill + 1, "drawing" if kill % 2 == 0 else "any time", seconds, complete])
        subprocess.run(command, check=True)
        check(out, rows, args.store)
    table(shown)
    took = time.perf_counter() - begun
    print(
        f"{args.images} rows complete, in order, all hashes right, nothing left over; {took:.0f} s"
    )
    figures = {"kills": [dict(zip(shown[0], row, strict=True)) for row in shown[1:]], "s": took}
    record(args.out, "kills", figures, {**vars(args), "out": None})


def struck(command: list[str], out: Path, target: int | None, rng: random.Random) -> float:
    """Seconds that a run had before it was killed.

    With a `target`, it is when a chunk is done and a random part of a second later, but at the
    latest with so many chunks complete; else within the ten seconds in which a run begins.
    """
    before, start = len(recorded(out)), time.perf_counter()
    with subprocess.Popen(command) as process:
        try:
            if target is None:
                process.wait(rng.uniform(0, 10))
            else:
                while len(recorded(out)) <= before and process.poll() is None:
                    time.sleep(0.005)
                end = time.perf_counter() + rng.uniform(0, 3)
                while time.perf_counter() < end and len(recorded(out)) < target:
                    time.sleep(0.005)
        except subprocess.TimeoutExpired:
            pass
        if process.poll() not in (None, 0):
            raise VesaliusError(f"a run failed by itself, with exit code {process.returncode}")
        process.kill()
    return time.perf_counter() - start


def check(out: Path, rows: list[PlanRow], store: str) -> None:
    """Raise VesaliusError for a row that is lost, twice or torn, and for anything left over."""
    made = read_manifest(out / "manifest.jsonl")
    if [row["row"] for row in made] != [row.row for row in rows]:
        raise VesaliusError("the manifest does not have the rows of the plan")
    for row, load in zip(made, loads(out, made), strict=True):
        data = load()
        open_rgb(data)
        if digest(data) != row["sha256"]:
            raise VesaliusError(f"{row['file']} is torn")
    images = {"folder": "images/*/*", "webdataset": "*.tar", "parquet": "data/*"}[store]
    known = {*out.glob(images), *out.glob("chunks/*")}
    known |= {out / name for name in ("about.json", "manifest.jsonl", "contact-sheet.png")}
    known |= {out / "metadata.jsonl"} if store == "folder" else set()
    if left := sorted({path for path in out.rglob("*") if path.is_file()} - known):
        raise VesaliusError(f"{left[0]} is left over")
    if store == "folder" and len([*out.glob(images)]) != len(rows):
        raise VesaliusError("there are more images than rows")


if __name__ == "__main__":
    run(main)
