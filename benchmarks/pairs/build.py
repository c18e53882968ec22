"""Class folders of JPEG files to one table: `vesalius pairs` beside `datasets`, time and memory.

    python -m benchmarks.pairs.build --images 20000 --work WORK --out OUT
    python -m benchmarks.pairs.build --images 200000 --no-peer --work WORK --out OUT

Ours reads each image whole, hashes it, looks for near-duplicates among all, draws a split by group
and writes the datasheet. The peer, `load_dataset("imagefolder").to_parquet(...)`, writes paths, and
with the images stored, as `push_to_hub` stores them, it copies the files' bytes.
All run as processes of their own, the faster of `--repeat` runs counts, and the files are read
once before, so that neither pays for a cold disk. The images are smooth random fields with noise,
JPEG of 256 px, no two alike.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.made import picture
from benchmarks.recording import record

SIDE, CLASSES, PER_TASK = 256, 10, 500
PEER = """
import sys
from datasets import load_dataset
table = load_dataset("imagefolder", data_dir=sys.argv[1], split="train", cache_dir=sys.argv[3])
if len(sys.argv) > 4:
    from datasets.table import embed_table_storage
    table = table.with_format("arrow").map(embed_table_storage, batched=True)
table.to_parquet(sys.argv[2])
"""
PEERS = {"datasets": [], "datasets, images stored": ["stored"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--work", type=Path, required=True, help="folder for images and tables")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    folder = args.work / f"jpeg-{args.images}"
    draw(folder, args.images)
    content = sum(len(path.read_bytes()) for path in folder.glob("*/*.jpg"))
    ours, peer = args.work / "ours.parquet", args.work / "peer.parquet"
    command = [sys.executable, "-m", "vesalius", "pairs", str(folder), "--out", str(ours)]
    figures = {"images": args.images, "megabytes": round(content / 1e6)}
    figures["vesalius"] = best(args.repeat, [*command, "--overwrite"], args.work / "no-cache")
    for name, more in {} if args.no_peer else PEERS.items():
        cache = args.work / "cache"
        theirs = [sys.executable, "-c", PEER, str(folder), str(peer), str(cache), *more]
        run = best(args.repeat, theirs, cache)
        run["megabytes written"] = round(peer.stat().st_size / 1e6)
        run["times"] = round(run["seconds"] / figures["vesalius"]["seconds"], 2)
        figures[name] = run
    print(json.dumps(figures, indent=1))
    record(args.out, f"pairs-build-{args.images}", figures, {"jpeg quality": 90, "side": SIDE})


def draw(folder: Path, images: int) -> None:
    """Write the images, unless an earlier run has."""
    done = folder.with_suffix(".done")
    if done.exists():
        return
    for label in range(CLASSES):
        (folder / f"class-{label}").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        parts = [range(images)[first : first + PER_TASK] for first in range(0, images, PER_TASK)]
        list(pool.map(draw_some, [folder] * images, parts, chunksize=1))
    done.write_text("the images are complete\n")


def draw_some(folder: Path, numbers: range) -> None:
    for number in numbers:
        image = picture(number, SIDE)
        image.save(folder / f"class-{number % CLASSES}" / f"{number:07}.jpg", quality=90)


def best(repeat: int, command: list[str], cache: Path) -> dict[str, float]:
    """Wall seconds and peak memory of the fastest of `repeat` runs, its cache removed before each."""
    runs = []
    for _ in range(repeat):
        shutil.rmtree(cache, ignore_errors=True)
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        runs.append({"seconds": time.perf_counter() - started, "peak MiB": usage.ru_maxrss / 1024})
        if status:
            raise SystemExit(f"failed: {' '.join(command)}")
    return {k: round(v, 1) for k, v in min(runs, key=lambda run: run["seconds"]).items()}


if __name__ == "__main__":
    main()
