"""Plans for ten million images, as a job array would take them: written, read, divided; none is drawn.

    python -m benchmarks.growth.many_plans --work WORK --out OUT [--plans 10] [--rows 1000000]

Ten plans of a million rows, each with a seed of its own, by `vesalius plan` on a table of 20,000 real
images in 8 classes (their text; no pixel is read). A run that is stopped is gone on with. Prints, and
writes to many_plans.json, processor seconds and peak memory of a plan, bytes, the chunks of a job, and
the rows of different plans that have the same prompt and seed, and so would be the same image.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.recording import record

CHUNK, JOBS = 1000, 100  # rows of a chunk, and jobs of the array for each plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="folder for the plans")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plans", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if not (args.work / "pairs.parquet").is_file():
        make = "import sys, pathlib; from benchmarks.growth.of_synthesize import table; "
        make += "table(0, pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", make, str(args.work)], check=True)
    seen = [planned(args.work, seed, args.rows) for seed in range(args.plans)]
    paths = [args.work / f"plan-{seed:02}.parquet" for seed in range(args.plans)]
    shares = [len(range(job, -(-args.rows // CHUNK), JOBS)) for job in range(JOBS)]
    figures = {
        "rows": sum(pq.read_metadata(path).num_rows for path in paths),
        "seconds": round(sum(one["seconds"] for one in seen), 1),
        "most MiB": round(max(one["MiB"] for one in seen)),
        "bytes": sum(path.stat().st_size for path in paths),
        "chunks": args.plans * sum(shares),
        "chunks a job": [min(shares), max(shares)],
        "rows that another plan has": repeated(paths),
    }
    print(json.dumps(figures, indent=1))
    record(args.out, "many_plans", figures, {"plans": args.plans, "rows": args.rows})


def planned(work: Path, seed: int, rows: int) -> dict[str, float]:
    """Seconds and peak MiB of one plan, which is written unless an earlier run has."""
    path, known = work / f"plan-{seed:02}.parquet", work / f"plan-{seed:02}.json"
    if not known.is_file():
        command = [sys.executable, "-m", "vesalius", "plan", "--pairs", str(work / "pairs.parquet")]
        command += ["--total", str(rows), "--seed", str(seed), "--out", str(path), "--overwrite"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"failed: {' '.join(command)}")
        found = {"seconds": usage.ru_utime + usage.ru_stime, "MiB": usage.ru_maxrss / 1024}
        known.write_text(json.dumps(found))
    return json.loads(known.read_text())


def repeated(paths: list[Path]) -> int:
    """Rows whose prompt and seed an earlier plan has, or an earlier row of the same."""
    seeds = pa.concat_tables([pq.read_table(path, columns=["prompt", "seed"]) for path in paths])
    prompts = pc.dictionary_encode(seeds["prompt"].combine_chunks())  # pyright: ignore[reportAttributeAccessIssue]
    images = pc.add(pc.multiply(prompts.indices.cast(pa.int64()), 10**10), seeds["seed"])  # pyright: ignore[reportAttributeAccessIssue]
    return len(images) - pc.count_distinct(images).as_py()  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    main()
