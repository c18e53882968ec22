"""Which sampler with how many steps: FID and seconds an image, on the same captions and seeds.

    python -m benchmarks.sample.steps --pairs PAIRS --out OUT [--model mini] [--count 256] \
        [--real 2048] [--minutes M] --cases dpm++2m:4,6,8,10,16 unipc:4,6 heun:3 'dpm++2m:10@3[0-0.8]'

A case is SAMPLER:STEPS[,STEPS...][@GUIDANCE][[FIRST-LAST]][~RESCALE], `own` for the model's own
sampler; FIRST-LAST is the part of the steps that is guided. Image k of every case has the caption
of row k of a fixed random order of PAIRS, and the seed SEED + k. They are compared with the first
--real rows of that order, whatever their split: short side 256, centre crop, Inception by
"bilinear" (see vesalius.models.networks.features).

Prints, and writes to steps.json and steps.png, for each case its FID and its difference from the
reference (--reference, or the case with most calls of the denoiser), both with 95 % intervals
(see paired.py). A case "loses nothing measurable" where the interval of the difference holds 0;
half of its width is what would have been seen. FID falls with N: compare figures of equal N only.
Seconds are those of drawing and decoding, without the Inception network: the median over chunks.

All cases are drawn a chunk at a time and stored, so a call that was stopped, or was over after
--minutes, goes on when it is repeated, and all cases have had the same images until then.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vesalius
from benchmarks.features import inception_features, read_features, write_features
from benchmarks.recording import record, run, table
from benchmarks.sample.cases import Case, parse_cases
from benchmarks.sample.paired import ToReal, estimate, in_groups
from benchmarks.train.learning import SIDE, content_hash
from vesalius.core.atomic import atomic_path
from vesalius.errors import VesaliusError
from vesalius.models.device import pick_device
from vesalius.models.networks.inception import Inception
from vesalius.pairs.table import Pairs, read_pairs, square
from vesalius.sample.generate import TextToImage
from vesalius.sample.settings import DrawSettings

CHUNK = 16  # images of one case drawn, measured and stored at a time
REAL_CHUNK = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, required=True, help="table of captions and images")
    parser.add_argument("--cases", nargs="+", required=True, metavar="CASE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--count", type=int, default=256, help="images a case")
    parser.add_argument("--real", type=int, default=2048, help="real images to compare with")
    parser.add_argument("--reference", help="the case that the others are compared with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="draw no longer than this")
    parser.add_argument("--batch-size", type=int, help="changes speed alone")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    cases = list(dict.fromkeys(case for text in args.cases for case in parse_cases(text)))
    reference = most_calls(cases) if args.reference is None else parse_cases(args.reference)[0]
    if reference not in cases:
        raise VesaliusError(f"the reference {reference.name} is none of the cases")
    device, network, pairs = str(pick_device(args.device)), Inception(), read_pairs(args.pairs)
    rows = np.random.default_rng(0).permutation(len(pairs)).tolist()

    def measured(images: list[np.ndarray]) -> np.ndarray:
        return inception_features(images, network=network, device=device)

    real = real_features(pairs, rows[: args.real], measured, args.out)
    model = vesalius.load(args.model, device)
    captions = [pairs.column("caption")[row] or "" for row in rows[: args.count]]
    folders = {case: case_folder(case, model, args.seed, args.out) for case in cases}
    draw_all(model, captions, folders, measured, args)
    chunks = {case: stored(folders[case], captions) for case in cases}
    count = min(len(features) for features, _ in chunks.values())
    if count < 2 * CHUNK:
        raise VesaliusError(f"only {count} images of each case are drawn: repeat the command")
    drawn = {case: (features[:count], pace) for case, (features, pace) in chunks.items()}
    figures = compare(drawn, reference, real)
    show(figures)
    plot(figures, reference, count, args.out / "steps.png")
    settings = {
        "model": args.model,
        "model_hash": model.generator.model_hash,
        "pairs": content_hash(pairs.column("sha1")),
        "N": count,
        "N real": len(real),
        "seed": args.seed,
        "own": {key: model.generator.settings.get(key) for key in ("steps", "guidance")},
        "reference": reference.name,
        "resize": "bilinear",
    }
    record(args.out, "steps", figures, settings)


def most_calls(cases: list[Case]) -> Case:
    return max(cases, key=lambda case: case.calls)


def real_features(
    pairs: Pairs, rows: list[int], measured: Callable[..., np.ndarray], out: Path
) -> np.ndarray:
    """Features of the real images of `rows`, (M, 2048), stored by their content as they come."""
    sha1, chunks = pairs.column("sha1"), []
    for start in range(0, len(rows), REAL_CHUNK):
        several = rows[start : start + REAL_CHUNK]
        path = out / "real" / f"{content_hash([sha1[row] for row in several])}.safetensors"
        if not path.exists():
            write_features(path, features=measured([pairs.image(row, SIDE) for row in several]))
            print(f"real images: {start + len(several)} of {len(rows)}", flush=True)
        chunks.append(read_features(path)["features"])
    return np.concatenate(chunks)


def case_folder(case: Case, model: TextToImage, seed: int, out: Path) -> Path:
    """Where a case's features lie: another model, setting or seed has another folder."""
    request = model.request("any", seed, DrawSettings(**case.options))
    made = [model.generator.model_hash, request.sampler, str(request.steps), str(request.guidance)]
    return out / "features" / content_hash([*made, str(request.size), str(seed)])


def chunk_path(folder: Path, captions: list[str], start: int) -> Path:
    return folder / f"{start:06}-{content_hash(captions[start : start + CHUNK])}.safetensors"


def draw_all(
    model: TextToImage,
    captions: list[str],
    folders: dict[Case, Path],
    measured: Callable[..., np.ndarray],
    args: argparse.Namespace,
) -> None:
    """Draw what is not stored yet: a chunk of every case, then the next chunk of every case."""
    began = time.perf_counter()
    for _ in model.stream(captions[:1], steps=2):
        pass  # the first call of all is slow and is nobody's
    for start in range(0, len(captions), CHUNK):
        for case, folder in folders.items():
            path = chunk_path(folder, captions, start)
            if path.exists():
                continue
            if args.minutes and time.perf_counter() - began > 60 * args.minutes:
                print(f"{args.minutes:g} minutes are over: repeat the command to go on")
                return
            wanted, chunk_began = captions[start : start + CHUNK], time.perf_counter()
            # image k is drawn from seed + k alone: chunks and restarts do not change it
            options = case.options | {"seed": args.seed + start, "batch_size": args.batch_size}
            images = [sample.image for sample in model.stream(wanted, **options)]
            seconds = (time.perf_counter() - chunk_began) / len(wanted)
            features = measured([square(image, SIDE) for image in images])
            write_features(path, features=features, seconds=np.array([seconds]))
        print(f"{min(start + CHUNK, len(captions))} of {len(captions)} images a case", flush=True)


def stored(folder: Path, captions: list[str]) -> tuple[np.ndarray, float]:
    """Features of a case's images so far, (n, 2048), and seconds an image."""
    chunks: list[np.ndarray] = []
    seconds: list[float] = []
    for start in range(0, len(captions), CHUNK):
        path = chunk_path(folder, captions, start)
        if not path.exists():
            break
        found = read_features(path)
        chunks.append(found["features"])
        seconds += found["seconds"].tolist()
    return (np.concatenate(chunks), float(np.median(seconds))) if chunks else (np.empty((0, 1)), 0)


def compare(
    drawn: dict[Case, tuple[np.ndarray, float]], reference: Case, real: np.ndarray
) -> list[dict[str, Any]]:
    """One row a case: FID and its difference from the reference, with their intervals."""
    to_real, rows = ToReal(real), []
    groups = in_groups(len(drawn[reference][0]))
    figures = {c: to_real.without_each(features, groups) for c, (features, _) in drawn.items()}
    for case, (features, seconds) in drawn.items():
        own = estimate(figures[case])
        apart = estimate(figures[case] - figures[reference])
        verdict = "worse" if apart.low > 0 else "better" if apart.high < 0 else "no difference seen"
        rows.append(
            {
                "case": case.name,
                "series": case.series,
                "calls": case.calls,
                "s/image": seconds,
                "FID": own.value,
                "FID 95 %": [own.low, own.high],
                "difference": apart.value,
                "difference 95 %": [apart.low, apart.high],
                "verdict": "reference" if case == reference else verdict,
                "N": len(features),
            }
        )
    return rows


def show(figures: list[dict[str, Any]]) -> None:
    def between(bounds: list[float]) -> str:
        return "{:.2f} to {:.2f}".format(*bounds)

    head = ["case", "calls", "s/image", "FID", "95 %", "difference", "95 %", "verdict"]
    lines: list[list[Any]] = [head]
    for row in figures:
        lines.append(
            [
                *(row[name] for name in ("case", "calls", "s/image", "FID")),
                between(row["FID 95 %"]),
                row["difference"],
                between(row["difference 95 %"]),
                row["verdict"],
            ]
        )
    print()
    table(lines)


def plot(figures: list[dict[str, Any]], reference: Case, count: int, path: Path) -> None:
    """FID against calls of the denoiser and against seconds an image, one line a series."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    ticks = {"calls": "calls of the denoiser", "s/image": "seconds an image"}
    for panel, (column, label) in zip(panels, ticks.items(), strict=True):
        for series in dict.fromkeys(row["series"] for row in figures):
            rows = sorted((r for r in figures if r["series"] == series), key=lambda r: r[column])
            y = np.array([row["FID"] for row in rows])
            bars = np.abs(np.array([row["FID 95 %"] for row in rows]).T - y)
            panel.errorbar([r[column] for r in rows], y, bars, marker="o", capsize=3, label=series)
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"FID (N = {count}), 95 % intervals")
    panels[0].legend(title=f"reference {reference.name}", fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


if __name__ == "__main__":
    run(main)
