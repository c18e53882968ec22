"""The page of an evaluation, from metrics.json and the images: pictures and plots first.

The same document and images give the same page.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from vesalius.core.privacy_card import PrivacyCard
from vesalius.report.chexgenbench import HEADER, as_rows
from vesalius.report.page import Remark, render
from vesalius.report.pictures import MOST_CLASSES, ClassPictures, Source, draw_pictures, thumbnail
from vesalius.report.plots import Plot, Series, interval_plot
from vesalius.report.study import ABOUT
from vesalius.statistics.figure import POOLED, pick

Document = Mapping[str, Any]  # metrics.json
MOST_PICTURES = 400  # of the samples, whatever the classes; about 5 KB each
MOST_PAIRS = 8  # of a set
MOST_CURVES = 8
REFERENCES = {
    "held_out": "real images it never saw",
    "real": "real images",
    "train": "training images",
}

_SPACES = {
    "structure": "structure, in any rotation",
    "tiles": "pixels, 16 tiles",
}  # with closest pairs
_FIDELITY = {
    "fid": ("FID", "distance of the two sets; lower is nearer, real images are not 0"),
    "kid": ("KID", "the same by another measure, which few images do not bias; lower is nearer"),
    "precision": ("Precision", "share of synthetic images that look like real ones"),
    "recall": ("Recall", "share of real images that look like synthetic ones"),
    "density": ("Density", "how many real images lie around each synthetic one"),
    "coverage": ("Coverage", "share of real images with a synthetic one near"),
}
_DIVERSITY = {
    "ms_ssim": ("MS-SSIM within a class", "1 for equal images: lower is more diverse"),
    "lpips": ("LPIPS within a class", "0 for equal images: higher is more diverse"),
    "vendi": ("Vendi score", "how many different images there are in effect"),
}
_SCORES = {
    "clip_score": "2.5 x the cosine of image and caption, at least 0",
    "vqa_score": "probability of yes to: does this figure show the caption?",
}
_MEMORISING = (  # metric, title, about, guide
    ("fid", "FID to new images minus FID to training images",
     "an interval above 0 says that the set is nearer to what was trained on", 0.0),
    ("distance ratio", "Distance to training images over distance to new images",
     "1 is no memorising, less is more", 1.0),
    ("memorised tail", "Among the images that lean most to one training image",
     "share of the set; the line is that of held-out real images, whose share is no larger where "
     "nothing was memorised", None),
)  # fmt: skip
_RISKS = {
    "singling_out": "singling out",
    "linkability": "linkability",
    "inference": "inference",
}
_ATTACKS = (  # part, metric, what it is
    ("membership", "auroc", "by the loss"),
    ("membership", "clid", "by what the caption helps"),
    ("membership", "base_model", "check: the loss of the base alone"),
    ("membership", "blind", "check: without any model"),
)
_NOT_KNOWN = {  # whether training images are a reference
    True: "The generator is assumed to have learned from the training images of the real table. If not, "
    "nothing below about copies, memorising and images that it never saw holds.",
    False: "All real images are one reference: copies and memorising cannot be told apart from likeness.",
}


class Images(Protocol):
    """Images that pictures are shown of."""

    def __len__(self) -> int: ...

    def encoded(self, index: int) -> bytes:
        """The image file."""
        ...

    def rows(self, name: str) -> list[int]:
        """The images of one class."""
        ...


def evaluation_page(
    document: Document,
    references: Mapping[str, Images],
    fakes: Mapping[str, Images],
    *,
    answers: Mapping[str, Sequence[Any]],
    metric_names: Mapping[str, str],
    samples: int = 6,
    readers: Mapping[str, Any] | None = None,
) -> str:
    """The page. With `samples` 0 there is no picture in it, of pairs neither.

    Args:
        document: metrics.json.
        references: the real images, by the names of REFERENCES.
        fakes: the synthetic sets.
        answers: question, answer and kind (good, bad, unknown), by set.
        metric_names: what each metric is called.
        samples: pictures of each class.
        readers: what a reader study found, as `report.readers.shown` gives it.
    """
    urgent, notes = _remarks(document)
    return render(
        "evaluate",
        d=document,
        names=list(fakes),
        answers=answers,
        urgent=urgent,
        notes=notes,
        references=REFERENCES,
        metric_names=metric_names,
        samples=_samples(document, references, fakes, samples),
        pictures=bool(samples),
        pairs=_pairs(document, references, fakes) if samples else {},
        fidelity={name: _fidelity(document, name) for name in document["extractors"]},
        diversity=_diversity(document),
        labels=_labels(document),
        curves=_curves(document),
        privacy=_privacy(document),
        attacks=_attacks(document),
        cards=_cards(document),
        table=as_rows(document) if document["settings"]["chexgenbench"] else [],
        table_header=HEADER,
        readers=readers,
        reader_metrics=ABOUT,
        tables=_tables(document),
    )


def _cards(document: Document) -> dict[str, list[list[tuple[str, str]]]]:
    """The privacy cards of each set's model in words, for sets that have some."""
    known = {name: each.get("privacy") or [] for name, each in document["sets"].items()}
    return {
        name: [PrivacyCard.from_dict(card).lines() for card in cards]
        for name, cards in known.items()
        if cards
    }


def _remarks(document: Document) -> tuple[list[Remark], list[Remark]]:
    """What must be known before reading on, and notes."""
    found = [Remark(f["severity"], f["message"], f["synthetic"]) for f in document["findings"]]
    urgent = [remark for remark in found if remark.status != "note"]
    notes = [remark for remark in found if remark.status == "note"]
    training = document["training"]
    if training["known"]:
        notes.insert(
            0, Remark("note", f"Taken for what the model was trained on: {training['how']}.")
        )
    else:
        rest = _NOT_KNOWN["train" in document["references"]]
        text = f"What the model was trained on is not known: {training['how']}. {rest}"
        urgent.insert(0, Remark("unknown", f"{text} Name it by --trained-on."))
    return urgent, notes


def _samples(
    document: Document, references: Mapping[str, Images], fakes: Mapping[str, Images], most: int
) -> list[ClassPictures]:
    real = next(name for name in REFERENCES if name in references)
    sets = [(REFERENCES[real], references[real], -1)]
    sets += [(name, images, k) for k, (name, images) in enumerate(fakes.items())]
    classes = _classes(document)[:MOST_CLASSES] or [POOLED]
    count = max(1, min(most, MOST_PICTURES // (len(classes) * len(sets)))) if most else 0
    sources = [
        Source(title, partial(_rows_of, images), images.encoded, series)
        for title, images, series in sets
    ]
    return draw_pictures(classes, sources, count, document["settings"]["seed"])


def _rows_of(images: Images, name: str) -> Sequence[int]:
    return range(len(images)) if name == POOLED else images.rows(name)


def _classes(document: Document) -> list[str]:
    """Classes of any set, in the order of their figures."""
    found = dict.fromkeys(
        f["of"]
        for each in document["sets"].values()
        for f in each["figures"]
        if f["of"] != POOLED and f["part"] in ("fidelity", "diversity")
    )
    if found:
        return list(found)
    return list(dict.fromkeys(n for each in document["sets"].values() for n in each["classes"]))


def _pairs(
    document: Document, references: Mapping[str, Images], fakes: Mapping[str, Images]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The closest pairs of each set in each space that is shown."""
    training = references.get("train") or next(iter(references.values()))
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, each in document["sets"].items():
        closest = each["details"].get("closest", {})
        for space in _SPACES:
            for pair in closest.get(space, [])[:MOST_PAIRS]:
                left = thumbnail(partial(fakes[name].encoded, pair["synthetic"]))
                right = thumbnail(partial(training.encoded, pair["training"]))
                shown = {**pair, "images": [("synthetic", left), ("training", right)]}
                found.setdefault(name, {}).setdefault(space, []).append(shown)
    return found


def _rows(document: Document, metric: str, **where: str) -> list[tuple[str, list[Series]]]:
    """For each class what every set has: against new images filled, against trained ones hollow."""
    rows: dict[str, list[Series]] = {of: [] for of in [POOLED, *_classes(document)]}
    for number, (name, each) in enumerate(document["sets"].items()):
        for figure in pick(each["figures"], metric=metric, **where):
            hollow = figure["reference"] == "train" and len(document["references"]) > 1
            title = f"{name} and {REFERENCES.get(figure['reference'], figure['reference'])}"
            if figure["of"] in rows:
                rows[figure["of"]].append(Series(figure, number, title, hollow))
    return [(of, series) for of, series in rows.items() if series]


def _fidelity(document: Document, extractor: str) -> list[Plot]:
    plots = (
        interval_plot(title, about, _rows(document, metric, part="fidelity", extractor=extractor))
        for metric, (title, about) in _FIDELITY.items()
    )
    return [plot for plot in plots if plot]


def _diversity(document: Document) -> list[Plot]:
    plots = []
    for metric, (title, about) in _DIVERSITY.items():
        figures = [f for each in document["sets"].values() for f in each["figures"]]
        found = pick(figures, part="diversity", metric=metric)
        for extractor in dict.fromkeys(f["extractor"] for f in found):
            named = f"{title}, {extractor}" if extractor else title
            rows = _rows(document, metric, part="diversity", extractor=extractor)
            plots.append(interval_plot(named, about, rows))
    return [plot for plot in plots if plot]


def _labels(document: Document) -> list[Plot]:
    """Label consistency, and how well images fit their captions to a CLIP and a question answerer."""
    rows = _beside_real(document, {"mean auroc": "mean", "auroc": ""})
    about = "AUROC of a classifier that was trained on real images; 0.5 is chance"
    known = [s.figure[end] for _, row in rows for s in row for end in ("value", "low")]
    span = (min([0.4, *(value for value in known if value is not None)]), 1.0)
    plots = [interval_plot("Label consistency", about, rows, span=span, guide=0.5)]
    for (metric, about), title in zip(_SCORES.items(), ("CLIPScore", "VQAScore"), strict=True):
        shuffled = f"{metric} of shuffled captions"
        rows = _beside_real(document, {metric: "", shuffled: "under captions of other images"})
        plots.append(interval_plot(title, about, rows))
    return [plot for plot in plots if plot]


def _beside_real(document: Document, metrics: Mapping[str, str]) -> list[tuple[str, list[Series]]]:
    """Figures of alignment by class, real images first; a metric's row has its name, if it has one."""
    rows: dict[str, list[Series]] = {}
    for number, (name, each) in enumerate(document["sets"].items()):
        for metric, row in metrics.items():
            for figure in pick(each["figures"], part="alignment", metric=metric):
                real = figure["reference"] in REFERENCES
                if real and number:
                    continue  # the same for every set
                series = Series(figure, -1 if real else number, "real images" if real else name)
                rows.setdefault(row or figure["of"], []).append(series)
    return [(of, sorted(row, key=lambda each: each.series)) for of, row in rows.items()]


def _curves(document: Document) -> list[dict[str, Any]]:
    """ROC of the findings, and of membership: lines of (series, points)."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for number, each in enumerate(document["sets"].values()):
        curves = each["details"].get("label_consistency", {}).get("roc", {})
        for finding, of in curves.items():
            lines = found.setdefault(finding, [])
            lines += [(-1, of["held_out"])] if "held_out" in of and not lines else []
            lines += [(number, of["synthetic"])] if "synthetic" in of else []
    shown = [{"title": name, "lines": lines} for name, lines in list(found.items())[:MOST_CURVES]]
    if membership := document["model"]["details"].get("membership"):
        shown.append({"title": "membership inference", "lines": [(0, membership["roc"])]})
    return shown


def _privacy(document: Document) -> list[Plot]:
    """Copies; the differences between the two references; the ratio of the distances to both."""
    about = "synthetic images nearer to a training image than all but 1 % of new real ones"
    copies = _by_space(document, metric="copies")
    plots = [interval_plot("Copies of training images", about, copies, shares=True)]
    for metric, title, about, guide in _MEMORISING:
        rows = _by_space(document, part="memorising", metric=metric)
        shares = metric == "memorised tail"
        plots.append(interval_plot(title, about, rows, guide=guide, shares=shares))
    about = (
        "how much more often an attack through the set is right about training patients than about "
        "held-out ones; 0 is nothing, 1 all there is to gain"
    )
    rows = {}
    for number, (name, each) in enumerate(document["sets"].items()):
        for figure in pick(each["figures"], part="anonymity"):
            row = f"{_RISKS[figure['metric']]}, {figure['extractor']}".rstrip(", ")
            rows.setdefault(row, []).append(Series(figure, number, name))
    plots.append(
        interval_plot("Singling out, linking, inferring", about, [*rows.items()], guide=0.0)
    )
    return [plot for plot in plots if plot]


def _attacks(document: Document) -> Plot | None:
    """AUROC of the attacks on the model, and of the two checks beside them."""
    figures, rows = document["model"]["figures"], []
    for part, metric, what in _ATTACKS:
        found = pick(figures, part=part, metric=metric)
        rows += [(what, [Series(figure, 0, "") for figure in found])] if found else []
    about = (
        "AUROC by patient; 0.5 is guessing. Where a check leaves 0.5 out, training and held-out "
        "patients differ without the model, and the attacks are unfair"
    )
    title = "Can it be told who was trained on?"
    return interval_plot(title, about, rows, span=(0.0, 1.0), guide=0.5)


def _by_space(document: Document, **where: str) -> list[tuple[str, list[Series]]]:
    """Figures of the sets by the space that they are measured in."""
    rows: dict[str, list[Series]] = {}
    for number, (name, each) in enumerate(document["sets"].items()):
        for figure in pick(each["figures"], **where):
            space = _SPACES.get(figure["extractor"], f"features, {figure['extractor']}")
            rows.setdefault(space, []).append(Series(figure, number, name))
    return list(rows.items())


def _tables(document: Document) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    tables = [(name, each["figures"]) for name, each in document["sets"].items()]
    model = document["model"]
    return tables + ([(f"model {model['name']}", model["figures"])] if model["name"] else [])
