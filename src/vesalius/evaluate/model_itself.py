"""What only the model itself can tell: whether it gives away its training images, and what it costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.evaluate.comparison import HELD_OUT, TRAIN, Side
from vesalius.evaluate.metrics.cost import cost_report, measure
from vesalius.evaluate.metrics.membership import denoising_errors, membership
from vesalius.evaluate.steps import Case, thinned
from vesalius.images.pixels import open_rgb, square
from vesalius.models.generator import Generator
from vesalius.statistics.figure import Figure
from vesalius.statistics.record import Result, missing

MOST = 200  # images on each side of the attack
COST_IMAGES = 2


@dataclass(frozen=True)
class Subject:
    """The generator that made a set, ready to be asked."""

    name: str
    generator: Generator  # float32: the differences looked for are small
    make: Callable[[int], object]  # makes so many images
    base: Generator | None = None  # without the adapter
    folder: Path | None = None  # where training_rows.json may lie


def membership_step(case: Case, subject: Subject | None) -> Result:
    """Can members of the training set be told by their denoising loss?"""
    if subject is None:
        return _left_out("membership", "auroc", "no model was named: give --model")
    if not {TRAIN, HELD_OUT} <= {*case.references}:
        why = "needs images that the model learned from and others that it did not"
        return _left_out("membership", "auroc", why)
    train, held_out = (case.references[name] for name in (TRAIN, HELD_OUT))
    rows = _alike(train, held_out, MOST, case.seed)
    sides = [side.take(part) for side, part in zip((train, held_out), rows, strict=True)]
    result = Result()
    try:
        errors = [_errors(case, subject.generator, side) for side in sides]
        base = None
        if subject.base is not None:
            base = (_errors(case, subject.base, sides[0]), _errors(case, subject.base, sides[1]))
        found = membership(errors[0], errors[1], base, (sides[0].groups, sides[1].groups))
    except VesaliusError as error:
        return _left_out("membership", "auroc", str(error))
    result.add("membership", [found.detection.auroc, found.detection.found], extractor=subject.name)
    result.details["membership"] = {
        "roc": thinned(found.curve.false_positives, found.curve.true_positives),
        "calibrated_by_base_model": found.calibrated,
        "members": len(sides[0]),
        "non_members": len(sides[1]),
        "false_positive_rate": found.detection.false_positive_rate,
    }
    result.notes += [found.warning] if found.warning else []
    return result


def _alike(train: Side, held_out: Side, most: int, seed: int) -> tuple[list[int], list[int]]:
    """As many rows of both, class by class: else the attack tells classes, not members."""
    rng = np.random.default_rng(seed)
    chosen: tuple[list[int], list[int]] = ([], [])
    for label in sorted({*train.labels} & {*held_out.labels}):
        rows = [np.flatnonzero(np.array(s.labels) == label) for s in (train, held_out)]
        size = min(map(len, rows))
        for kept, own in zip(chosen, rows, strict=True):
            kept += rng.permutation(own)[:size].tolist()
    for kept in chosen:
        kept[:] = sorted(rng.permutation(kept)[:most].tolist()) if kept else []
    return chosen


def _errors(case: Case, generator: Generator, side: Side) -> np.ndarray:
    size = min(generator.native_size)
    images = (square(open_rgb(side.encoded(row)), size) for row in range(len(side)))
    with case.progress("denoising loss") as count:
        captions = side.columns["caption"]
        return denoising_errors(generator, images, captions, seed=case.seed, on_image=count)


def cost_step(case: Case, subject: Subject | None) -> Result:
    """Parameters, MACs by both countings, measured seconds and joules."""
    if subject is None:
        return _left_out("cost", "seconds_per_image", "no model was named: give --model")
    with case.progress("cost") as count:
        count(0, COST_IMAGES)
        report = cost_report(
            subject.generator, measure(subject.make, COST_IMAGES, device=case.device)
        )
    result = Result(details={"cost": report})
    measured: dict[str, Any] = report["measured"]
    for part, number in report["parameters"].items():
        result.add("cost", [Figure("parameters", float(number))], of=part, extractor=subject.name)
    for part, macs in report["macs"].items():
        for counting, number in macs.items():
            figure = Figure(f"macs {counting}", float(number))
            result.add("cost", [figure], of=part, extractor=subject.name)
    runs: Sequence[float] = measured["runs"]
    seconds = Figure(
        "seconds_per_image", measured["seconds_per_image"], min(runs), max(runs), n=COST_IMAGES,
        note=f"median, least and most of {len(runs)} runs on {measured['device']}",
    )  # fmt: skip
    joules = Figure("joules_per_image", measured["joules_per_image"], note=measured["note"])
    result.add("cost", [seconds, joules], extractor=subject.name)
    return result


def _left_out(part: str, metric: str, why: str) -> Result:
    return Result([missing(part, metric, why)])
