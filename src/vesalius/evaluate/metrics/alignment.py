"""Does a generated image show what its prompt asked for? A classifier of real images judges.

It is asked about held-out real images, for the ceiling, and about generated ones. A generator that
ignores its prompts scores chance, one as good as the data scores the ceiling. The figure of
Chest-Diffusion (arXiv:2407.00752) is the AUROC of each finding, by any classifier: `finding_auroc`.
The classifier here is a probe, a logistic regression on frozen features: `fit_probe`.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vesalius.core.labels import findings_of, listed
from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics import image_text
from vesalius.evaluate.metrics.base import Case, Figures, Metric, Question, Result, Sentence, span
from vesalius.evaluate.references import HELD_OUT, TRAIN
from vesalius.evaluate.sets import ComparedSet
from vesalius.statistics.figure import POOLED, Figure, select
from vesalius.statistics.grouped import in_parts
from vesalius.statistics.intervals import halves
from vesalius.statistics.roc import REPLICATES, detection, group_codes, interval, resampled, roc

FEW = 2  # images with a finding, or without: an AUROC of fewer is one image's luck
ENOUGH = 10  # images with a finding, to say that it is missing
CLOSE = 0.05  # of an AUROC: as good as that of real images


def measure(case: Case) -> Result:
    """Label consistency by a probe of real features, CLIPScore and VQAScore where models are given."""
    result = Result()
    try:
        result.join(_consistency(case))
    except VesaliusError as error:
        result.leave_out("alignment", "mean auroc", str(error))
    result.join(image_text.measure(case))
    return result


def _consistency(case: Case) -> Result:
    result = Result()
    train, held_out = _teachers(case, result)
    # a network for photographs with a classifier's features, before the one made for FID
    order = sorted(case.comparable, key=lambda name: name.startswith("inception"))
    if not order:
        raise VesaliusError("no extractor to learn from")
    extractor = order[0]
    # of images of several kinds each finding is compared with the others of its kind
    by_source = _share_sources(train)
    known, *sources = (
        one.columns["source"] if by_source else None for one in (train, held_out, case.fake)
    )
    probe = fit_probe(train.features[extractor], train.labels, sources=known)
    judged = [
        Judged(probe(one.features[extractor]), one.labels, one.groups, each)
        for one, each in zip((held_out, case.fake), sources, strict=True)
    ]
    found = finding_auroc(probe.findings, *judged, seed=case.seed)
    where = {"extractor": extractor}
    for reference, mean in ((HELD_OUT, found.real_mean), ("synthetic", found.generated_mean)):
        result.add("alignment", [mean], reference=reference, **where)
    curves: dict[str, Any] = {}
    for column, each in enumerate(found.findings):
        for reference, figure, of_set in (
            (HELD_OUT, each.real, judged[0]),
            ("synthetic", each.generated, judged[1]),
        ):
            result.add("alignment", [figure], of=each.finding, reference=reference, **where)
            if figure.value is not None:
                curve = roc(*of_set.of(each.finding, column)[1:])
                curves.setdefault(each.finding, {})[reference] = curve.points()
    result.details["label_consistency"] = {
        "extractor": extractor,
        "findings_in_the_mean": found.averaged,
        "left_out": found.left_out | probe.left_out,
        "roc": curves,
    }
    return result


def _teachers(case: Case, result: Result) -> tuple[ComparedSet, ComparedSet]:
    """The real images that teach the classifier, and those that are its ceiling."""
    if case.divided:
        return case.references[TRAIN], case.references[HELD_OUT]
    # one set of real images: half of its patients teach
    _, real = case.new
    draw = np.random.default_rng(case.seed)
    rows = halves(len(real), len(real) // 2, draw, real.groups)
    result.notes.append(
        "label consistency: half of the real images taught the classifier, and the others, which "
        "the model may have seen, are its ceiling"
    )
    teachers, ceiling = (real.take(part.tolist()) for part in rows)
    return teachers, ceiling


def _share_sources(one: ComparedSet) -> bool:
    """Whether two findings are of one source: else the findings are the sources."""
    homes = {
        (name, source)
        for name, source in zip(one.labels, one.columns["source"], strict=True)
        if name and source
    }
    return len({source for _, source in homes}) < len({name for name, _ in homes})


@dataclass(frozen=True)
class Judged:
    """What a classifier says of a set of images, and what they were said to show."""

    scores: np.ndarray  # (N, K): larger for more certain; one column a finding
    labels: Sequence[str | None]  # findings, with `|` between them; without one, not judged
    groups: Sequence[Hashable] | None = None  # patients
    sources: Sequence[str] | None = None  # see `finding_auroc`

    def of(self, finding: str, column: int) -> tuple[list[int], np.ndarray, np.ndarray]:
        """The rows that a finding is judged among, their scores, and which of them show it."""
        rows = home(finding, self.labels, self.sources)
        shown = np.array([finding in findings_of(self.labels[row]) for row in rows], bool)
        return rows, np.asarray(self.scores, float)[rows, column], shown

    def group(self, rows: Sequence[int]) -> list[Hashable] | None:
        """The patients of some rows."""
        return [self.groups[row] for row in rows] if self.groups else None


@dataclass(frozen=True)
class FindingAuroc:
    """How well one finding is recognised; chance is 0.5. A figure without a value says why."""

    finding: str
    real: Figure  # on held-out real images
    generated: Figure


@dataclass(frozen=True)
class Alignment:
    """AUROC of every finding, and their means over those that both sets can bear."""

    findings: list[FindingAuroc]
    real_mean: Figure
    generated_mean: Figure
    averaged: list[str]  # the findings in the means
    left_out: dict[str, str]  # the others, with the reason
    chance: float = 0.5


def finding_auroc(
    findings: Sequence[str], real: Judged, generated: Judged, *, seed: int = 0
) -> Alignment:
    """AUROC of each of `findings`, one against the rest, on held-out real and on generated images.

    The columns of both sets' scores are `findings`, in their order. Intervals are by bootstrap of
    groups. A finding with fewer than two images that show it, or that do not, has no value in that
    set and is in neither mean, so that the two means are of the same findings.
    Where a set names `sources`, a finding is compared with the others of its sources only: a glioma with
    other brain MRI, not with photographs of skin, which any classifier can tell apart.
    Raises VesaliusError where scores and labels do not fit.
    """
    found: list[FindingAuroc] = []
    reasons: dict[str, str] = {}
    for column, finding in enumerate(findings):
        both = [_auroc(finding, column, len(findings), each, seed) for each in (real, generated)]
        found.append(FindingAuroc(finding, *both))
        sets = ("real", "generated")
        if notes := [f"{s}: {f.note}" for s, f in zip(sets, both, strict=True) if f.value is None]:
            reasons[finding] = "; ".join(notes)
    kept = [column for column, finding in enumerate(findings) if finding not in reasons]
    means = [_mean(findings, kept, each, seed) for each in (real, generated)]
    return Alignment(found, *means, averaged=[findings[k] for k in kept], left_out=reasons)


def _auroc(finding: str, column: int, count: int, judged: Judged, seed: int) -> Figure:
    shape, images = np.shape(judged.scores), len(judged.labels)
    if shape != (images, count):
        raise VesaliusError(f"scores {shape} do not fit {images} labels and {count} findings")
    rows, scores, shown = judged.of(finding, column)
    have, lack = int(shown.sum()), int((~shown).sum())
    if min(have, lack) < FEW:
        note = f"{have} images with it and {lack} without: an AUROC needs {FEW} of each"
        details = {"positives": float(have), "negatives": float(lack)}
        return Figure("auroc", None, n=len(rows), note=note, details=details)
    found = detection(scores, shown, judged.group(rows), seed=seed).auroc
    return found if found.note or have >= 10 else replace(found, note="few images: a wide interval")


def home(finding: str, labels: Sequence[str | None], sources: Sequence[str] | None) -> list[int]:
    """Rows with a label, of the sources that have the finding if sources are given."""
    found = [findings_of(label) for label in labels]
    known = {sources[k] for k, each in enumerate(found) if finding in each} if sources else set()
    return [k for k, each in enumerate(found) if each and (not sources or sources[k] in known)]


def _mean(findings: Sequence[str], kept: list[int], judged: Judged, seed: int) -> Figure:
    """The mean AUROC of the findings `kept`; each replicate draws the groups once for all of them."""
    rows = [row for row, label in enumerate(judged.labels) if findings_of(label)]
    if not kept:
        return Figure("mean auroc", None, n=len(rows), note="no finding has images enough")
    codes = group_codes(judged.group(rows), len(rows))
    rng, every = np.random.default_rng(seed), np.ones(len(rows), bool)
    each = [judged.of(findings[column], column) for column in kept]
    value = float(np.mean([float(roc(scores, shown).area) for _, scores, shown in each]))
    replicates = []
    for part in in_parts(REPLICATES, len(rows)):
        weights = resampled(codes, every, part, rng)
        # NaN where none of a kind was drawn
        of_part = [roc(s, shown, weights[:, np.isin(rows, own)]).area for own, s, shown in each]
        replicates.append(np.array(of_part))
    areas = np.concatenate(replicates, axis=1)
    areas = areas[:, ~np.isnan(areas).all(0)]  # a replicate may lack every finding
    low, high = interval(value, np.nanmean(areas, 0), codes.max() + 1)
    return Figure("mean auroc", value, low, high, n=len(rows))


@dataclass(frozen=True)
class Probe:
    """A logistic regression for each finding, on features standardised by the training images."""

    findings: list[str]
    scaler: Any
    regressions: list[Any]
    left_out: dict[str, str]  # findings of the training images that could not be learnt

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Log-odds (N, K) of each finding for features (N, D)."""
        x = self.scaler.transform(features)
        return np.stack([each.decision_function(x) for each in self.regressions], 1)


def fit_probe(
    features: np.ndarray,
    labels: Sequence[str | None],
    *,
    strength: float = 0.01,
    sources: Sequence[str] | None = None,
) -> Probe:
    """Learn every finding in `labels` (N), one against the rest, from real training images.

    `features` are (N, D); findings stand in a label with `|` between them, and images without a
    label are left out. `strength` is scikit-learn's C: with more features than images the default
    of 1 fits noise. With `sources` (N) a finding is learnt against the others of its sources alone,
    as `finding_auroc` judges it. Findings with fewer than two images, or in all, cannot be
    learnt and are listed.
    Raises VesaliusError where none can, or scikit-learn is missing.
    """
    regression, standard = _sklearn()
    rows = home("", labels, None)
    names = sorted(frozenset().union(*(findings_of(labels[row]) for row in rows)))
    homes = {name: home(name, labels, sources) for name in names}
    shown = {
        name: np.array([name in findings_of(labels[row]) for row in own])
        for name, own in homes.items()
    }
    left_out = {
        name: f"{each.sum()} of {len(each)} training images show it"
        for name, each in shown.items()
        if min(each.sum(), (~each).sum()) < FEW
    }
    kept = [name for name in names if name not in left_out]
    if not kept:
        raise VesaliusError("no finding stands in two training images and lacks in two others")
    scaler = standard().fit(features[rows])
    fitted = [
        regression(C=strength, max_iter=1000).fit(scaler.transform(features[homes[n]]), shown[n])
        for n in kept
    ]
    return Probe(kept, scaler, fitted, left_out)


def _sklearn() -> tuple[Any, Any]:
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise VesaliusError('scikit-learn is missing: pip install "vesalius[eval]"') from error
    return LogisticRegression, StandardScaler


def _sentences(figures: Figures, _reference: str) -> Iterator[Sentence]:
    real, made = (
        select(figures, metric="mean auroc", of=POOLED, reference=name)
        for name in (HELD_OUT, "synthetic")
    )
    if not real or not made or real[0].value is None or made[0].value is None:
        return
    ceiling, value = real[0], made[0]
    text = (
        f"A classifier of real images recognises what was asked for with an AUROC of "
        f"{value.value:.2f} ({span(value)}) in synthetic images and {ceiling.value:.2f} "
        f"({span(ceiling)}) in real ones; 0.5 is chance."
    )
    if real[0].value < 0.6:
        yield "unknown", f"{text} It hardly recognises real images: nothing follows."
        return
    low = made[0].value if value.low is None else value.low
    high = made[0].value if value.high is None else value.high
    least = real[0].value if ceiling.low is None else ceiling.low
    if made[0].value >= real[0].value - CLOSE:
        yield "good", text
    elif high < least or low <= 0.5:
        yield "bad", text
    else:
        yield "unknown", f"{text} It is lower, but the intervals overlap: more images would show."
    if weak := _not_shown(figures):
        yield "bad", f"Not shown to be better than chance in synthetic images: {listed(weak)}."


def _not_shown(figures: Figures) -> list[str]:
    """Findings that are recognised in real images, and in enough synthetic ones are not."""
    by_finding = select(figures, metric="auroc", part="alignment")
    real = select(by_finding, reference=HELD_OUT)
    clear = {f.of for f in real if f.low is not None and f.low > 0.5}
    return [
        f.of
        for f in select(by_finding, reference="synthetic")
        if f.low is not None
        and f.low <= 0.5
        and f.of in clear
        # of fewer images no interval would leave chance out
        and (f.details.get("positives") or ENOUGH) >= ENOUGH
    ]


def _answer(figures: Figures, _reference: str) -> str:
    both = [select(figures, metric="mean auroc", reference=r) for r in ("synthetic", HELD_OUT)]
    made, real = (found[0].value if found else None for found in both)
    if made is None or real is None:
        return ""
    return f"AUROC {made:.2f}, in real images {real:.2f}; 0.5 is chance"


METRIC = Metric(
    measure,
    {
        "auroc": "AUROC",
        "mean auroc": "Label consistency (mean AUROC)",
        "clip_score": "CLIPScore",
        "clip_score of shuffled captions": "CLIPScore under captions of other images",
        "vqa_score": "VQAScore",
        "vqa_score of shuffled captions": "VQAScore under captions of other images",
        "vqa_yes_of_both": "VQAScore, yes of yes and no",
    },
    (
        Question(
            "Do they show what was asked for?",
            _sentences,
            _answer,
            "Do they show the {by} that was asked for?",
        ),
    ),
)
