"""FID, KID, precision and recall of n images against n, beside torch-fidelity and clean-fid.

    python -m benchmarks.evaluate.speed --out OUT [--n 1000] [--data SOURCE] [--device cpu] \
        [--sides ours fidelity ours-fid fidelity-fid ours-clean clean-fid]

All read the same two folders of 256 px PNGs, from SOURCE (anything `vesalius evaluate` reads, 2n
images or more) or drawn, with the weights of 2015-12-05. `ours` and `fidelity` take FID, KID and
precision and recall in one pass, with the resize of TensorFlow 1; `...-fid` FID alone;
`ours-clean` and `clean-fid` FID with clean-fid's resize. Ours: no store. torch-fidelity: one call of
`calculate_metrics`, without its cache. clean-fid: `compute_fid` with two workers.

Each side is a process of its own. Its time begins after a run of 8 images that loads libraries;
its memory is its largest resident set. clean-fid is left out where it is not installed.
"""

import argparse
import importlib.util
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.recording import in_a_process, peak_resident, record, table

MODULE = "benchmarks.evaluate.speed"
SIDE, K = 256, 3  # K: torch-fidelity's
WARM = 8  # images of the run that loads libraries
PAIRS = {  # what is compared: ours and the peer's side
    "FID + KID + PRC": ("ours", "fidelity"),
    "FID alone": ("ours-fid", "fidelity-fid"),
    "FID, clean-fid's resize": ("ours-clean", "clean-fid"),
}
SIDES = [side for pair in PAIRS.values() for side in pair]
OF_PEER = {
    "fid": "frechet_inception_distance",
    "kid": "kernel_inception_distance_mean",
    "precision": "precision",
    "recall": "recall",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures")
    parser.add_argument("--n", type=int, default=1000, help="images on each side")
    parser.add_argument("--data", type=Path, help="where real images are taken from")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)  # a side's process
    args = parser.parse_args()
    if args.one:
        synthetic, real = args.one
        print(json.dumps(measure(args.sides[0], synthetic, real, args.device)))
        return
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as work:
        write_images(Path(work), args.n, args.data)
        write_images(Path(work) / "warm", WARM, None)
        for side in args.sides:
            if side == "clean-fid" and importlib.util.find_spec("cleanfid") is None:
                print("clean-fid: not installed, left out")
                continue
            known = ["--sides", side, "--device", args.device, "--out", work]
            figures[side] = in_a_process(MODULE, *known, "--one", work, f"{work}/warm")
            print(f"{side}: {figures[side]}", flush=True)
    head = ["", "ours s", "peer s", "times", "of processor time", "ours MiB", "peer MiB"]
    rows: list[list[Any]] = [head]
    for name, (mine, peer) in PAIRS.items():
        if mine in figures and peer in figures:
            a, b = figures[mine], figures[peer]
            rows.append([name, a["seconds"], b["seconds"], b["seconds"] / a["seconds"]])
            rows[-1] += [b["processor seconds"] / a["processor seconds"]]
            rows[-1] += [a["peak MiB"], b["peak MiB"]]
    table(rows)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    record(args.out, "evaluate-speed", figures, settings)


def measure(side: str, work: Path, warm: Path, device: str) -> dict[str, Any]:
    """Seconds, peak memory and figures of a side, on the folders in `work`."""
    run = {"ours": ours, "fidelity": fidelity, "clean": clean_fid}[
        "clean" if side == "clean-fid" else side.partition("-")[0]
    ]
    run(side, warm / "synthetic", warm / "real", device)
    start, busy = time.perf_counter(), processor_seconds()
    values = run(side, work / "synthetic", work / "real", device)
    seconds, busy = time.perf_counter() - start, processor_seconds() - busy
    found = {"seconds": round(seconds, 2), "processor seconds": round(busy, 2)}
    return found | {"peak MiB": round(peak_resident() / 2**20), "values": values}


def processor_seconds() -> float:
    """Of all threads, and of workers that have ended: other work beside changes them little."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def ours(side: str, synthetic: Path, real: Path, device: str) -> dict[str, float]:
    from vesalius.models.networks.extractors import find_extractor
    from vesalius.models.networks.features import extract
    from vesalius.pairs.open_images import open_images
    from vesalius.statistics.distances import fid, kid, prdc

    network = find_extractor("inception-antialias" if side == "ours-clean" else "inception-tf1")
    x, y = (
        extract(open_images(folder), [network], device=device).features[network.name]
        for folder in (synthetic, real)
    )
    found = {"fid": fid(x, y)}
    if side == "ours":
        near = prdc(y, x, K)
        found |= {"kid": kid(x, y, size=subset(len(x))).mean}
        found |= {"precision": near.precision, "recall": near.recall, "coverage": near.coverage}
    return found


def fidelity(side: str, synthetic: Path, real: Path, device: str) -> dict[str, float]:
    from benchmarks.evaluate.peer import peer_metrics

    found = peer_metrics(
        str(synthetic),
        str(real),
        cuda=device.startswith("cuda"),
        fid=True,
        kid=side == "fidelity",
        prc=side == "fidelity",
        kid_subset_size=subset(sum(1 for _ in real.iterdir())),
    )
    return {name: float(found[of]) for name, of in OF_PEER.items() if of in found}


def clean_fid(_side: str, synthetic: Path, real: Path, device: str) -> dict[str, float]:
    from cleanfid.fid import compute_fid  # pyright: ignore[reportMissingImports]

    from benchmarks.evaluate.peer import on_resized

    found = compute_fid(
        str(synthetic),
        str(real),
        mode="clean",
        num_workers=2,
        device=device,
        custom_feat_extractor=on_resized(device),
        use_dataparallel=False,
        verbose=False,
    )
    return {"fid": float(found)}


def subset(count: int) -> int:
    return min(1000, count // 2)


def write_images(work: Path, count: int, data: Path | None) -> None:
    """Folders `synthetic` and `real` of `count` PNGs each: rows drawn from `data`, or soft colours."""
    from vesalius.images.pixels import open_rgb, square
    from vesalius.pairs.open_images import open_images

    rng = np.random.default_rng(count)
    images = open_images(data) if data else None
    rows = rng.permutation(len(images))[: 2 * count] if images else np.arange(2 * count)
    folders = work / "synthetic", work / "real"
    for folder in folders:
        folder.mkdir(parents=True)
    for k, row in enumerate(rows):
        if images:
            picture = Image.fromarray(square(open_rgb(images.encoded(int(row))), SIDE))
        else:
            coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
            picture = coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        picture.save(folders[k % 2] / f"{k:06d}.png", compress_level=1)


if __name__ == "__main__":
    main()
