"""Many readers at once: how long is it from an answer to the next picture?

    python -m benchmarks.study.readers --out OUT [--readers 20] [--trials 40] [--side 512] \
        [--think 1.0] [--seed 0]

`vesalius study serve` runs in a process of its own, on a drawn study. Each reader is a thread with a
connection of its own, thinks for a random time about the mean `--think` seconds (people take five or
more), and answers. Measured is the whole way: the answer is sent, acknowledged on the disk, and the
next image is fetched, although a browser has fetched it before. Client and server share the machine.
Prints, and writes to readers.json, the percentiles in milliseconds.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import httpx2
import numpy as np

from benchmarks.recording import record, run, table
from benchmarks.study.drawn import SmallStudy, small_study
from benchmarks.study.http_reader import HttpReader
from benchmarks.study.served import Served
from vesalius.errors import VesaliusError
from vesalius.study.database import Database
from vesalius.study.layout import Layout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--think", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    names = tuple(f"R{k + 1}" for k in range(args.readers))
    with tempfile.TemporaryDirectory() as folder:
        study = small_study(
            Path(folder) / "study",
            SmallStudy(("turing",), names, 0, args.trials, side=args.side, images=100),
        )
        served = Served(study)
        try:
            begun = time.perf_counter()
            waits = read_together(served.links, args.trials, args.think, args.seed)
            seconds = time.perf_counter() - begun
        finally:
            served.stop()
        with Database(Layout(study).database) as database:
            answers = len(list(database.answers()))
    if answers != args.readers * args.trials:
        raise VesaliusError(f"{answers} answers were kept of {args.readers * args.trials}")
    figures = {f"p{p}_ms": float(np.percentile(waits, p)) for p in (50, 95, 99, 100)}
    figures |= {"answers": answers, "answers_per_s": answers / seconds}
    table([list(figures), list(figures.values())])
    record(args.out, "readers", figures, {**vars(args), "out": None})


def read_together(links: dict[str, str], trials: int, think: float, seed: int) -> list[float]:
    """Milliseconds from each answer to the next picture, of all readers."""
    waits: list[float] = []
    failed: list[BaseException] = []

    def read(number: int, link: str) -> None:
        try:
            with httpx2.Client(timeout=60) as client:
                reader = HttpReader(client, link, seed * 1000 + number)
                reader.arrive()
                state = reader.state()
                for _ in range(trials):
                    time.sleep(reader.rng.uniform(0, 2 * think))
                    begun = time.perf_counter()
                    state = reader.post("answer", reader.body(state)).json()["state"]
                    if state["page"] == "reading":
                        reader.images(state)
                        waits.append(1000 * (time.perf_counter() - begun))
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=read, args=(k, link)) for k, link in enumerate(links.values())
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise VesaliusError(f"a reader failed: {failed[0]!r}")
    return waits


if __name__ == "__main__":
    run(main)
