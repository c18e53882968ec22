"""What the figures say, in plain sentences: what is good, what is not, what could not be measured.

A figure is held beside the same figure of real images at the same number. It is good when it comes
as near as `NEAR` says, or when its interval reaches that far; every sentence names its numbers, so
that a reader can disagree.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from vesalius.evaluate.comparison import HELD_OUT, REAL, TRAIN
from vesalius.evaluate.metrics.diversity import COLLAPSED
from vesalius.statistics.record import POOLED, pick

NEAR = 1.25  # times the figure of real images
CLOSE = 0.05  # of an AUROC
ALARM = 0.01  # of honest images that are called copies
P = 0.05
ENOUGH = 10  # images with a finding, to say that it is missing

Sentence = tuple[str, str]  # good, bad or unknown; the sentence
Figures = Sequence[Mapping[str, Any]]


def summarise(document: Mapping[str, Any]) -> dict[str, Any]:
    """Sentences by set, {"good": [...], "bad": [...], "unknown": [...]}, from a metrics document."""
    sets = {}
    for name in document["sets"]:
        said = [each for part in sentences(document, name).values() for each in part]
        kinds = ("good", "bad", "unknown")
        sets[name] = {kind: [text for found, text in said if found == kind] for kind in kinds}
    return sets


def sentences(document: Mapping[str, Any], name: str) -> dict[str, list[Sentence]]:
    """What there is to say of a set, by part."""
    figures, of_model = document["sets"][name]["figures"], document["model"]["figures"]
    return {
        "fidelity": [*_about_fidelity(figures, reference_of(document))],
        "diversity": [*_about_diversity(figures)],
        "labels": [*_about_labels(figures)],
        "copies": [*_about_copies(figures)],
        "memorising": [*_about_memorising(figures)],
        "membership": [*_about_membership(of_model)],
        "not measured": [*_not_measured(of_model), *_not_measured(figures)],
    }


def reference_of(document: Mapping[str, Any]) -> str:
    """What a set is held beside: images that the generator never saw, where there are any."""
    known = document["references"]
    return next(name for name in (HELD_OUT, REAL, TRAIN) if name in known)


def _about_fidelity(figures: Figures, reference: str) -> Iterator[Sentence]:
    for figure in pick(figures, metric="fid", of=POOLED, reference=reference):
        yield _distance(figure, reference)
    for metric, question in (
        ("precision", "look like real ones"),
        ("coverage", "the variety of real ones is reached"),
    ):
        for figure in pick(figures, metric=metric, of=POOLED, reference=reference)[:1]:
            here, floor = figure["at_floor_n"], figure["floor"]
            if here is None or not floor:
                continue
            text = (
                f"How far synthetic images {question} ({metric}, {figure['extractor']}): {here:.0%};"
                f" of as many real images {floor:.0%}."
            ) if metric == "precision" else (
                f"How much of {question} ({metric}, {figure['extractor']}): {here:.0%}; "
                f"by as many real images {floor:.0%}."
            )  # fmt: skip
            yield ("good" if here * NEAR >= floor else "bad"), text


def _distance(figure: Mapping[str, Any], reference: str) -> Sentence:
    here, floor, who = figure["at_floor_n"], figure["floor"], figure["extractor"]
    if figure["value"] is None or here is None or not floor:
        return "unknown", f"The distance to real images (FID, {who}): {figure['note']}."
    new = "images that the model never saw" if reference == HELD_OUT else "real images"
    text = (
        f"The synthetic images are {here:.1f} away from {new} (FID, {who}), where other real images "
        f"in the same number are {floor:.1f} away: {here / floor:.1f} times as far."
    )
    return ("good" if here <= NEAR * floor else "bad"), text


def _about_diversity(figures: Figures) -> Iterator[Sentence]:
    tests = max(1, sum("difference" in f["details"] for f in pick(figures, part="diversity")))
    for metric, what in (("ms_ssim", "MS-SSIM"), ("lpips", "LPIPS"), ("vendi", "Vendi score")):
        found = [
            f for f in pick(figures, part="diversity", metric=metric) if f["floor"] is not None
        ]
        pooled = pick(found, of=POOLED)
        if not pooled or pooled[0]["value"] is None:
            continue
        one = pooled[0]
        value = one["at_floor_n"] if one["at_floor_n"] is not None else one["value"]
        beside = f"({what} {value:.2f}, of real images {one['floor']:.2f})"
        if one["low"] is None or one["details"].get("difference_low") is None:
            why = one["note"] or "the difference has no interval"
            yield "unknown", f"Whether images of a class differ {beside}: {why}."
        elif _alike(one, tests):
            yield "bad", f"The images are less different from each other than real ones {beside}."
        else:
            yield (
                "good",
                f"The images differ from each other about as much as real ones do {beside}.",
            )
        if alike := [f["of"] for f in found if _alike(f, tests) and f["of"] != POOLED]:
            yield "bad", f"Too much alike by {what}: {_listed(alike)}."


def _alike(figure: Mapping[str, Any], tests: int) -> bool:
    """Less diverse than real images, by an interval as wide as so many tests need (Bonferroni)."""
    if figure["note"] != COLLAPSED:
        return False
    difference, low, high = (figure["details"][f"difference{end}"] for end in ("", "_low", "_high"))
    normal = NormalDist()
    wider = normal.inv_cdf(1 - P / (2 * tests)) / normal.inv_cdf(1 - P / 2)
    return (
        difference + (high - difference) * wider < 0 or difference - (difference - low) * wider > 0
    )


def _about_labels(figures: Figures) -> Iterator[Sentence]:
    real, made = (
        pick(figures, metric="mean auroc", of=POOLED, reference=name)
        for name in (HELD_OUT, "synthetic")
    )
    if not real or not made or real[0]["value"] is None or made[0]["value"] is None:
        return
    ceiling, value = real[0], made[0]
    text = (
        f"A classifier of real images recognises what was asked for with an AUROC of "
        f"{value['value']:.2f} ({_span(value)}) in synthetic images and {ceiling['value']:.2f} "
        f"({_span(ceiling)}) in real ones; 0.5 is chance."
    )
    if ceiling["value"] < 0.6:
        yield "unknown", f"{text} It hardly recognises real images: nothing follows."
        return
    low, high = (
        value[end] if value[end] is not None else value["value"] for end in ("low", "high")
    )
    least = ceiling["low"] if ceiling["low"] is not None else ceiling["value"]
    if value["value"] >= ceiling["value"] - CLOSE:
        yield "good", text
    elif high < least or low <= 0.5:
        yield "bad", text
    else:
        yield "unknown", f"{text} It is lower, but the intervals meet: more images would tell."
    clear = {
        f["of"]
        for f in pick(figures, metric="auroc", part="alignment", reference=HELD_OUT)
        if f["low"] is not None and f["low"] > 0.5
    }
    weak = [
        f["of"]
        for f in pick(figures, metric="auroc", part="alignment", reference="synthetic")
        if f["low"] is not None
        and f["low"] <= 0.5
        and f["of"] in clear
        # of fewer images no interval would leave chance out
        and f["details"].get("positives", ENOUGH) >= ENOUGH
    ]
    if weak:
        yield "bad", f"Not told from chance in synthetic images: {_listed(weak)}."


def _about_copies(figures: Figures) -> Iterator[Sentence]:
    for figure in pick(figures, metric="copies"):
        if figure["value"] is None or figure["extractor"] not in ("structure", "tiles"):
            continue
        count = round(figure["value"] * figure["n"])
        beside = (
            f"; of held-out real images {figure['floor']:.1%}"
            if figure["floor"] is not None
            else ""
        )
        text = (
            f"{count} of {figure['n']} synthetic images ({_span(figure, '.1%')}) are as near to a "
            f"training image, by {figure['extractor']}, as only {ALARM:.0%} of new real images "
            f"are{beside}."
        )
        alarm = max(ALARM, figure["floor"] or 0.0)
        yield ("bad" if figure["low"] > alarm else "good"), text
    for figure in pick(figures, metric="duplicates within"):
        if figure["value"]:
            count = round(figure["value"] * figure["n"])
            yield "bad", f"{count} of {figure['n']} synthetic images repeat another one of the set."


def _about_memorising(figures: Figures) -> Iterator[Sentence]:
    every = [
        f
        for metric in ("distance ratio", "memorised tail")
        for f in pick(figures, metric=metric)
        if f["value"] is not None
    ]
    level = P / max(1, len(every))
    found = [f for f in every if f["details"].get("p", 1) <= level]
    if nearer := [f for f in found if f["metric"] == "distance ratio"]:
        told = ", ".join(f"{f['extractor']} {f['value']:.2f}" for f in nearer)
        yield "bad", f"The images are nearer to what was trained on than to new images ({told})."
    if some := [f for f in found if f["metric"] == "memorised tail"]:
        told = ", ".join(f"{f['extractor']} {f['value']:.0%} and {f['floor']:.0%}" for f in some)
        yield (
            "bad",
            "Some images are far nearer to one training image than to any new one: more of them than "
            f"of real new images (share among the most lopsided, of both: {told}).",
        )
    if every and not found:
        yield "good", "Neither as a whole nor in a few of them are the images nearer to what was trained on than to new images."  # fmt: skip


def _about_membership(figures: Figures) -> Iterator[Sentence]:
    for figure in pick(figures, part="membership", metric="auroc"):
        if figure["value"] is None or figure["low"] is None:
            continue
        text = (
            f"Whether an image was trained on can be told from the model with an AUROC of "
            f"{figure['value']:.2f} ({_span(figure)}); 0.5 is guessing."
        )
        for found in pick(figures, part="membership", metric="found"):
            if found["value"] is not None:
                text += (
                    f" At 1 % false alarms {found['value']:.1%} ({_span(found, '.1%')}) of the "
                    "training images are found."
                )
        yield ("bad" if figure["low"] > 0.5 else "good"), text


def _not_measured(figures: Figures) -> Iterator[Sentence]:
    said = set()
    for figure in figures:
        if figure["value"] is None and figure["of"] == POOLED:
            if (figure["part"], figure["why"]) in said:
                continue
            said.add((figure["part"], figure["why"]))
            name = _PARTS.get(figure["part"]) or NAMES.get(figure["metric"], figure["metric"])
            yield "unknown", f"{name}: {figure['why']}."
    few = {f["of"] for f in figures if f["value"] is None and f["part"] == "fidelity"} - {POOLED}
    if few:
        yield "unknown", f"Too few images for figures of their own: {_listed(sorted(few))}."


NAMES = {
    "fid": "FID",
    "kid": "KID",
    "frd": "Radiomic distance (FRD)",
    "precision": "Precision",
    "recall": "Recall",
    "density": "Density",
    "coverage": "Coverage",
    "ms_ssim": "MS-SSIM within a class",
    "lpips": "LPIPS within a class",
    "vendi": "Vendi score",
    "auroc": "AUROC",
    "mean auroc": "Label consistency (mean AUROC)",
    "clip_score": "CLIPScore",
    "clip_score of shuffled captions": "CLIPScore under captions of other images",
    "vqa_score": "VQAScore",
    "vqa_score of shuffled captions": "VQAScore under captions of other images",
    "vqa_yes_of_both": "VQAScore, yes of yes and no",
    "copies": "Copies of training images",
    "duplicates within": "Duplicates within the set",
    "distance ratio": "Distance to trained / to held-out images",
    "memorised tail": "Among the images most lopsided to training ones",
    "found": "Members found at 1 % false alarms",
    "seconds_per_image": "Cost (seconds an image)",
    "joules_per_image": "Cost (joules an image)",
}


_PARTS = {"membership": "Membership inference"}


def _span(figure: Mapping[str, Any], how: str = ".2f") -> str:
    if figure["low"] is None:
        return "no interval"
    return f"{figure['low']:{how}} to {figure['high']:{how}}"


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
