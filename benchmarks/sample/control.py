"""Does control do what it says? Interpolation, composition and inpainting, judged by a linear probe.

    python -m benchmarks.sample.control --pairs PAIRS --out OUT [--model mini] [--set brain_mri] \
        [--healthy notumor] [--finding meningioma] [--other pituitary] [--seeds 64] [--images 32]

The probe (`evaluate.alignment.fit_probe`) tells each label of the set from all others by Inception
features of real training images; its AUROC on the held-out ones says how far to trust it. Prompts
are the labels' commonest captions.

- Interpolation from HEALTHY to FINDING: the probabilities of both along the way. It is monotone
  where the mean over seeds never turns back.
- Composition "FINDING AND OTHER": the probability of each finding beside that with the other prompt
  alone, and without a prompt (both weights 0).
- Inpainting of FINDING into held-out real HEALTHY images, in an ellipse at random near the centre:
  its probability before and after, and after the same with the HEALTHY prompt, which tells the
  finding from the marks of any inpainting. To see whether it is found inside the mask, windows of a
  grid are covered one by one: where the fall of the finding's log-odds has grown most since before
  should touch the mask. Chance is the share of windows that do.

Intervals are 95 %, by bootstrap of seeds or of images. Writes control.json, control.png and
inpainted.png to OUT; features of real images are stored there and read again.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vesalius
from benchmarks.recording import record, run, table
from benchmarks.sample.ellipses import random_ellipses
from benchmarks.sample.probing import (
    Judge,
    fall,
    make_judge,
    show,
    usual_caption,
    windows,
    with_interval,
)
from benchmarks.train.learning import SIDE, content_hash
from vesalius.core.atomic import atomic_path
from vesalius.errors import VesaliusError
from vesalius.images.sheets import contact_sheet
from vesalius.models.device import pick_device
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.sample.canvas import Canvas
from vesalius.sample.generate import TextToImage
from vesalius.sample.inpaint import inpaint
from vesalius.sample.masks import Ellipse, Mask, draw_ellipse
from vesalius.sample.prompt import blend
from vesalius.sample.settings import InpaintSettings

REGION = Ellipse(0.5, 0.5, 0.3, 0.3)  # where lesions are put
RADII = (0.1, 0.16)
SHOWN = 8  # inpainted images in the picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, required=True, help="table of captions and images")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--set", default="brain_mri", help="source in the pairs table")
    parser.add_argument("--healthy", default="notumor", help="label")
    parser.add_argument("--finding", default="meningioma", help="label")
    parser.add_argument("--other", default="pituitary", help="label of another finding")
    parser.add_argument("--seeds", type=int, default=64)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--images", type=int, default=32, help="real images to paint into")
    parser.add_argument("--real", type=int, help="use so many real images at most")
    parser.add_argument("--batch-size", type=int, help="changes speed alone")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    pairs, device = read_pairs(args.pairs), str(pick_device(args.device))
    labels = {name: getattr(args, name) for name in ("healthy", "finding", "other")}
    prompts = {name: usual_caption(pairs, args.set, label) for name, label in labels.items()}
    judge, trust = make_judge(pairs, args.set, list(labels.values()), args.out, args.real, device)
    table([["label", "AUROC"], *trust.items()])
    model = vesalius.load(args.model, device)
    figures: dict[str, Any] = {"probe AUROC, real held out": trust}
    curves = interpolation(model, judge, prompts, args)
    figures["interpolation"] = told_way(curves, args)
    figures["composition"] = composition(model, judge, prompts, args)
    figures["inpainting"] = inpainting(model, judge, prompts, pairs, args)
    plot(curves, figures, args, args.out / "control.png")
    settings = {
        "model": args.model,
        "model_hash": model.generator.model_hash,
        "pairs": content_hash(pairs.column("sha1")),
        "set": args.set,
        "prompts": prompts,
        "seeds": args.seeds,
        "images": args.images,
        "real": args.real,
        "own": {key: model.generator.settings.get(key) for key in ("steps", "guidance")},
    }
    record(args.out, "control", figures, settings)


def draw(
    model: TextToImage, prompts: Sequence[str], args: argparse.Namespace
) -> Iterator[np.ndarray]:
    """Images of every prompt from seed 0, of every prompt from seed 1, ..."""
    requests = [model.request(p, seed) for seed in range(args.seeds) for p in prompts]
    for sample in model.draw(requests, args.batch_size):
        yield np.asarray(sample.image)


def interpolation(
    model: TextToImage, judge: Judge, prompts: dict[str, str], args: argparse.Namespace
) -> np.ndarray:
    """Probabilities (seeds, frames, 2) of healthy and finding along the way."""
    shares = np.linspace(0, 1, args.frames)
    texts = [blend(prompts["healthy"], prompts["finding"], share) for share in shares]
    chances = judge.chances(draw(model, texts, args), args.healthy, args.finding)
    return chances.reshape(args.seeds, args.frames, 2)


def told_way(curves: np.ndarray, args: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for column, (label, sign) in enumerate(((args.healthy, -1), (args.finding, 1))):
        steps = sign * np.diff(curves[:, :, column].mean(0))
        figures[label] = {
            "curve": [with_interval(frame) for frame in curves[:, :, column].T],
            "monotone": bool((steps >= 0).all()),
            "end minus start": with_interval(curves[:, -1, column] - curves[:, 0, column]),
        }
    head = ["share", f"P({args.healthy})", f"P({args.finding})"]
    both = [figures[label]["curve"] for label in (args.healthy, args.finding)]
    shares = np.linspace(0, 1, args.frames)
    print()
    table([head, *[[float(s), show(a), show(b)] for s, a, b in zip(shares, *both, strict=True)]])
    return figures


def composition(
    model: TextToImage, judge: Judge, prompts: dict[str, str], args: argparse.Namespace
) -> dict[str, Any]:
    """Each finding's probability with both prompts, with the other alone, and with none."""
    one, two = prompts["finding"], prompts["other"]
    weights = {"both": (1, 1), "finding alone": (1, 0), "other alone": (0, 1), "none": (0, 0)}
    texts = [f"{one}:{a} AND {two}:{b}" for a, b in weights.values()]
    chances = judge.chances(draw(model, texts, args), args.finding, args.other)
    by_case = dict(zip(weights, chances.reshape(args.seeds, 4, 2).swapaxes(0, 1), strict=True))
    figures: dict[str, Any] = {}
    for column, (label, lacking) in enumerate(
        ((args.finding, "other alone"), (args.other, "finding alone"))
    ):
        both = by_case["both"][:, column]
        figures[label] = {name: with_interval(case[:, column]) for name, case in by_case.items()}
        for name in (lacking, "none"):
            difference = with_interval(both - by_case[name][:, column])
            figures[label][f"both minus {name}"] = difference
    print()
    table(
        [
            ["prompts", *(f"P({label})" for label in figures)],
            *[[name, *(show(each[name]) for each in figures.values())] for name in weights],
        ]
    )
    return figures


def inpainting(
    model: TextToImage,
    judge: Judge,
    prompts: dict[str, str],
    pairs: Pairs,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """A finding painted into healthy images: is it seen, and seen where it is?"""
    columns = zip(*(pairs.column(name) for name in ("source", "label", "split")), strict=True)
    rows = [
        k for k, (s, label, split) in enumerate(columns)
        if (s, label) == (args.set, args.healthy) and split != "train"
    ][: args.images]  # fmt: skip
    if not rows:
        raise VesaliusError(f"no held-out image of {args.set} has the label {args.healthy!r}")
    canvases = [Canvas(pairs.image(row, SIDE), pairs.column("sha1")[row]) for row in rows]
    region = draw_ellipse(REGION, (SIDE, SIDE))
    masks = [
        Mask(draw_ellipse(random_ellipses(1, k, region, RADII)[0], (SIDE, SIDE)))
        for k in range(len(rows))
    ]
    before = [canvas.pixels for canvas in canvases]
    settings = InpaintSettings(batch_size=args.batch_size)
    after, control = (
        [
            np.asarray(sample.image)
            for sample in inpaint(model, canvases, masks, prompts[name], settings)
        ]
        for name in ("finding", "healthy")
    )
    chances = [judge.chances(images, args.finding)[:, 0] for images in (before, after, control)]
    growth = fall(judge, after, args.finding) - fall(judge, before, args.finding)  # (N, windows)
    touching = np.array([[mask.pixels[window].any() for window in windows()] for mask in masks])
    hits = touching[np.arange(len(rows)), growth.argmax(1)].astype(float)
    figures = {
        "P(finding) before": with_interval(chances[0]),
        "P(finding) after": with_interval(chances[1]),
        "P(finding) after, healthy prompt": with_interval(chances[2]),
        "after minus before": with_interval(chances[1] - chances[0]),
        "after minus healthy prompt": with_interval(chances[1] - chances[2]),
        "found in the mask": with_interval(hits),
        "found in the mask, by chance": float(touching.mean()),
        "images": len(rows),
    }
    print()
    table([["inpainting", ""], *[[k, show(v)] for k, v in figures.items()]])
    kinds = {"before": before, "mask": [m.pixels for m in masks], "finding": after}
    tiles = [
        (Image.fromarray(images[k]), f"{name}{f', P {chances[c][k]:.2f}' if c < 3 else ''}")
        for k in range(min(SHOWN, len(rows)))
        for (name, images), c in zip({**kinds, "healthy": control}.items(), (0, 3, 1, 2), strict=True)
    ]  # fmt: skip
    sheet = contact_sheet(*zip(*tiles, strict=True), columns=8, tile=160)  # pyright: ignore
    with atomic_path(args.out / "inpainted.png") as temporary:
        sheet.save(temporary, format="PNG")
    return figures


def plot(curves: np.ndarray, figures: dict[str, Any], args: argparse.Namespace, path: Path) -> None:
    """The way of both probabilities, and the composition beside it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    shares = np.linspace(0, 1, args.frames)
    for column, label in enumerate((args.healthy, args.finding)):
        way = np.array(figures["interpolation"][label]["curve"])  # (frames, 3)
        [line] = left.plot(shares, way[:, 0], marker="o", label=label)
        left.fill_between(shares, way[:, 1], way[:, 2], alpha=0.25, color=line.get_color())
        left.plot(shares, curves[:8, :, column].T, alpha=0.2, lw=0.7, color=line.get_color())
    left.set_xlabel(f"share of the prompt for {args.finding}")
    left.set_ylabel("probability by the probe, 95 % intervals")
    left.legend(title=f"{args.seeds} seeds; thin: the first 8")
    cases = ("none", "finding alone", "other alone", "both")
    names = ("no prompt", args.finding, args.other, "both")
    for offset, label in ((-0.18, args.finding), (0.18, args.other)):
        bars = np.array([figures["composition"][label][case] for case in cases])
        errors = np.abs(bars[:, 1:].T - bars[:, 0])
        places = np.arange(len(cases)) + offset
        right.bar(places, bars[:, 0], 0.34, yerr=errors, capsize=3, label=f"P({label})")
    right.set_xticks(range(len(cases)), names)
    right.set_xlabel("prompts composed")
    right.legend()
    for panel in (left, right):
        panel.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


if __name__ == "__main__":
    run(main)
