"""What the duplicate check finds in real sets, and how long the search takes.

    python -m benchmarks.pairs.real_duplicates --pairs PAIRS --out OUT

PAIRS is a table of `vesalius pairs SETS... --duplicates keep`, so that copies have not been held
together. For each source: clusters of copies by kind, pictures under two labels, and, where the
source has its own test split, how many test images have a copy outside of it. No picture is written.
"""

import argparse
import json
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from benchmarks.recording import record
from vesalius.images.duplicates import clusters, find_duplicates
from vesalius.images.pixels import THUMB, open_rgb, prepare
from vesalius.pairs.table import read_pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    pairs = read_pairs(args.pairs)
    thumbs = [prepare(pairs.encoded(row), "full", 16).thumb for row in range(len(pairs))]
    array = np.frombuffer(b"".join(thumbs), np.uint8).reshape(-1, THUMB, THUMB)

    def grey(row: int) -> np.ndarray:
        return np.asarray(open_rgb(pairs.encoded(row)).convert("L"))

    def same(a: int, b: int) -> bool:
        one, other = open_rgb(pairs.encoded(a)), open_rgb(pairs.encoded(b))
        return one.size == other.size and one.tobytes() == other.tobytes()

    started = time.perf_counter()
    found = find_duplicates(array, pairs.column("sha1"), same, grey)
    seconds = time.perf_counter() - started

    sources, labels, splits = (pairs.column(name) for name in ("source", "label", "split"))
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in found:
        kinds[sources[pair.a]]["turned" if pair.turned else pair.kind] += 1
    members: dict[int, list[int]] = defaultdict(list)
    for row, cluster in enumerate(clusters(len(pairs), found).tolist()):
        if cluster >= 0:
            members[cluster].append(row)
    for rows in members.values():
        figures = kinds[sources[rows[0]]]
        figures["pictures under two labels"] += len({labels[row] for row in rows}) > 1
        test = [row for row in rows if splits[row] == "test"]
        if len(test) < len(rows):
            figures["test images with a copy elsewhere"] += len(test)
    figures = {"images": len(pairs), "seconds": round(seconds, 1)}
    figures |= {name: dict(sorted(counts.items())) for name, counts in sorted(kinds.items())}
    print(json.dumps(figures, indent=1))
    record(args.out, "real-duplicates", figures, {})


if __name__ == "__main__":
    main()
