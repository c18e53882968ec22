"""The parts of an evaluation, one function each: a synthetic set and its references to figures.

A part that cannot be done leaves a figure without a value that says why, and the others go on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from vesalius.core.labels import findings_of
from vesalius.core.progress import Progress, no_progress
from vesalius.errors import VesaliusError
from vesalius.evaluate.comparison import HELD_OUT, REAL, TRAIN, Side, together
from vesalius.evaluate.metrics import diversity, radiomics
from vesalius.evaluate.metrics.alignment import Judged, finding_auroc, fit_probe, home
from vesalius.evaluate.metrics.fidelity_figures import fidelity, memorising
from vesalius.images.pixels import open_rgb
from vesalius.statistics.figure import Figure
from vesalius.statistics.intervals import halves
from vesalius.statistics.record import POOLED, Result, missing
from vesalius.statistics.roc import roc

COPY_DETECTORS = ("sscd",)  # trained to tell images apart, not to say how alike their kinds are
LEAST_CLASS = 2  # synthetic images: of fewer a class has no figures
POINTS = 100  # of a curve that is kept


@dataclass(frozen=True)
class Case:
    """One synthetic set, what it is compared with, and how."""

    fake: Side
    references: Mapping[str, Side]  # train and held_out, or real: all there are
    compared: Mapping[str, Side]  # the same, or as many of each class as are synthetic
    classes: Sequence[str]
    extractors: Sequence[str]
    replicates: int = 200
    seed: int = 0
    device: str = "cpu"
    clip: Any = None  # vesalius.evaluate.metrics.clip.Clip
    vqa: Any = None  # vesalius.evaluate.metrics.vqa.Answerer
    progress: Progress = field(default=no_progress, repr=False)

    @property
    def comparable(self) -> list[str]:
        """Extractors whose features say what an image shows."""
        return [name for name in self.extractors if not name.startswith(COPY_DETECTORS)]

    @property
    def new(self) -> tuple[str, Side]:
        """The reference that the generator has not seen, where there is one."""
        name = next(name for name in (HELD_OUT, REAL, TRAIN) if name in self.references)
        return name, self.references[name]


def fidelity_step(case: Case) -> Result:
    """FID, KID, precision, recall, density and coverage; FRD; and whether memorising shows."""
    result = Result()
    jobs = [
        (extractor, reference, of)
        for extractor in case.comparable
        for reference in case.compared
        for of in (POOLED, *case.classes)
    ]
    with case.progress("fidelity") as count:
        total = len(jobs) * len(case.fake)  # at most: a class is a part of the set
        for done, (extractor, reference, of) in enumerate(jobs):
            count(done * len(case.fake), total)
            found = _compared(case, extractor, reference, of)
            result.add("fidelity", found, of=of, extractor=extractor, reference=reference)
    if {TRAIN, HELD_OUT} <= {*case.references}:
        with case.progress("memorising") as count:
            for done, extractor in enumerate(case.comparable):
                count(done * len(case.fake), len(case.comparable) * len(case.fake))
                train, held_out = (
                    case.compared[name].features[extractor] for name in (TRAIN, HELD_OUT)
                )
                fake = case.fake.features[extractor]
                options = {"times": case.replicates, "seed": case.seed}
                gap = memorising(train, held_out, fake, **options)
                where = {"extractor": extractor, "reference": f"{HELD_OUT} - {TRAIN}"}
                result.add("memorising", gap.values(), **where)
    result.figures.append(_radiomics(case))
    return result


def _compared(case: Case, extractor: str, reference: str, of: str) -> list[Figure]:
    sides = [case.compared[reference], case.fake]
    other = next((s for name, s in case.compared.items() if name != reference), None)
    if of != POOLED:
        sides = [side.take(side.rows(of)) for side in sides]
        other = other and other.take(other.rows(of))
    real, fake = sides
    found = fidelity(
        real.features[extractor],
        fake.features[extractor],
        times=case.replicates,
        seed=case.seed,
        real_groups=real.groups,
        other_real=other.features[extractor] if other else None,
    )
    return list(found.values())


def _radiomics(case: Case) -> dict[str, Any]:
    name, real = case.new
    if why := radiomics.available():
        return missing("fidelity", "frd", why, extractor="radiomics", reference=name)
    result = Result()
    try:
        figure = radiomics.frd(real.images, case.fake.images)
    except VesaliusError as error:
        return missing("fidelity", "frd", str(error), extractor="radiomics", reference=name)
    result.add("fidelity", [figure], extractor="radiomics", reference=name)
    return result.figures[0]


def diversity_step(case: Case, memo: dict[Any, Any] | None = None) -> Result:
    """MS-SSIM and LPIPS within a class, Vendi scores: synthetic images beside all real ones.

    `memo` keeps what was measured of the real images for the next set.
    """
    result, memo = Result(), {} if memo is None else memo
    real = list(case.references.values())
    known = {*case.fake.labels} & {label for side in real for label in side.labels} or {""}
    distances: dict[str, tuple[Callable[[], diversity.Distance], bool]] = {
        "ms_ssim": (lambda: diversity.ms_ssim, True),
        "lpips": (lambda: diversity.lpips_distance(case.device), False),
    }
    sides = [_of_labels(case.fake, known), _of_labels(together(real, "all real"), known)]
    with case.progress("diversity") as count:
        for done, (name, (make, alike)) in enumerate(distances.items()):
            count(done * len(case.fake), len(distances) * len(case.fake))
            try:
                distance = make()
            except VesaliusError as error:
                result.figures.append(missing("diversity", name, str(error)))
                continue
            options = {"colour": name == "lpips", "seed": case.seed, "device": case.device}
            options["most"] = diversity.MOST_PAIRS if name == "ms_ssim" else 100  # a network: slow
            made, own = (partial(diversity.compare_pairs, s, s.labels, distance) for s in sides)
            key = (name, frozenset(known))
            if key not in memo:
                memo[key] = own(**options)
            found = diversity.pair_figures(
                name,
                made(**options),
                memo[key],
                more_is_alike=alike,
                times=case.replicates,
                seed=case.seed,
            )
            _add_by_class(result, found, known)
    for extractor in case.comparable:
        x, y = (side.features[extractor] for side in sides)
        labels = [side.labels for side in sides]
        found = diversity.vendi_figures(x, y, *labels, times=case.replicates, seed=case.seed)
        _add_by_class(result, found, known, extractor)
    return result


def _add_by_class(
    result: Result, found: Mapping[str, Figure], known: set[str], extractor: str = ""
) -> None:
    for of, figure in found.items():
        if of == POOLED or (of in known and of):
            result.add("diversity", [figure], of=of, extractor=extractor, reference="all real")


def _of_labels(side: Side, known: set[str]) -> Side:
    """The images of classes that both sides have: a mean over other classes says nothing."""
    return side.take([k for k, label in enumerate(side.labels) if label in known])


def alignment_step(case: Case, memo: dict[str, Any] | None = None) -> Result:
    """Label consistency by a probe of real features, CLIPScore and VQAScore where models are given.

    `memo` keeps the scores of real images for the next set.
    """
    result, memo = Result(), {} if memo is None else memo
    try:
        _consistency(case, result)
    except VesaliusError as error:
        result.figures.append(missing("alignment", "mean auroc", str(error)))
    name, real = case.new
    for metric, model in (("clip_score", case.clip), ("vqa_score", case.vqa)):
        if model is None:
            why = f"no model was named: give --{metric.partition('_')[0]}"
            result.figures.append(missing("alignment", metric, why))
            continue
        try:
            if metric not in memo:
                memo[metric] = _scored(case, metric, model, real, name)
            result.figures += [*_scored(case, metric, model, case.fake, "synthetic"), *memo[metric]]
        except VesaliusError as error:
            result.figures.append(missing("alignment", metric, str(error)))
    return result


def _consistency(case: Case, result: Result) -> None:
    if len(case.references) == 2:
        train, held_out = case.references[TRAIN], case.references[HELD_OUT]
    else:  # one set of real images: half of its patients teach, the others are the ceiling
        _, real = case.new
        draw = np.random.default_rng(case.seed)
        rows = halves(len(real), len(real) // 2, draw, real.groups)
        train, held_out = (real.take(part.tolist()) for part in rows)
        result.notes.append(
            "label consistency: half of the real images taught the classifier, and the others, which "
            "the model may have seen, are its ceiling"
        )
    # a network for photographs with a classifier's features, before the one made for FID
    order = sorted(case.comparable, key=lambda name: name.startswith("inception"))
    if not order:
        raise VesaliusError("no extractor to learn from")
    extractor = order[0]
    # of images of several kinds each finding is told from the others of its kind
    sources = (side.columns["source"] for side in (train, held_out, case.fake))
    known, *told = sources if _share_sources(train) else (None, None, None)
    probe = fit_probe(train.features[extractor], train.labels, sources=known)
    judged = [
        Judged(probe(side.features[extractor]), side.labels, side.groups, each)
        for side, each in zip((held_out, case.fake), told, strict=True)
    ]
    found = finding_auroc(probe.findings, *judged, seed=case.seed)
    where = {"extractor": extractor}
    for reference, mean in ((HELD_OUT, found.real_mean), ("synthetic", found.generated_mean)):
        result.add("alignment", [mean], reference=reference, **where)
    curves: dict[str, Any] = {}
    for column, each in enumerate(found.findings):
        for reference, figure, side in (
            (HELD_OUT, each.real, judged[0]),
            ("synthetic", each.generated, judged[1]),
        ):
            result.add("alignment", [figure], of=each.finding, reference=reference, **where)
            if figure.value is not None:
                rows = home(each.finding, side.labels, side.sources)
                shown = [each.finding in findings_of(side.labels[k]) for k in rows]
                curve = roc(side.scores[rows, column], np.array(shown))
                points = thinned(curve.false_positives, curve.true_positives)
                curves.setdefault(each.finding, {})[reference] = points
    result.details["label_consistency"] = {
        "extractor": extractor,
        "findings_in_the_mean": found.averaged,
        "left_out": found.left_out | probe.left_out,
        "roc": curves,
    }


def _share_sources(side: Side) -> bool:
    """Whether two findings are of one source: else the findings are the sources."""
    homes = {(name, source) for name, source in zip(side.labels, side.columns["source"], strict=True)
             if name and source}  # fmt: skip
    return len({source for _, source in homes}) < len({name for name, _ in homes})


def _scored(
    case: Case, metric: str, model: Any, side: Side, reference: str
) -> list[dict[str, Any]]:
    from vesalius.evaluate.metrics.clip import clip_score
    from vesalius.evaluate.metrics.vqa import vqa_score

    rows = [k for k, caption in enumerate(side.columns["caption"]) if caption]
    part = side.take(rows)
    images = (np.asarray(open_rgb(part.images.encoded(k))) for k in range(len(part)))
    common: dict[str, Any] = {"labels": part.labels, "groups": part.groups}
    with case.progress(f"{metric}, {reference}") as count:
        if metric == "clip_score":
            found: Any = clip_score(
                model, images, part.columns["caption"], on_image=count, **common
            )
        else:
            found = vqa_score(
                model, images, part.columns["caption"], on_image=count, seed=case.seed, **common
            )
    where = {"extractor": model.name, "reference": reference}
    shuffled = Figure(f"{metric} of shuffled captions", found.shuffled_score, n=len(part))
    if shuffled.value is None:
        shuffled = Figure(shuffled.name, None, n=len(part), note="all captions are equal")
    result = Result()
    result.add("alignment", [found.score, shuffled], **where)
    if metric == "vqa_score":
        result.add("alignment", [found.yes_of_both], **where)
    for of, figure in found.classes.items():
        result.add("alignment", [figure], of=of, **where)
    return result.figures


def thinned(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    """At most POINTS points of a curve, the ends among them."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).round().astype(int))
    return [[round(float(x[k]), 4), round(float(y[k]), 4)] for k in chosen]
