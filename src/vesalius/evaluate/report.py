"""The report of an evaluation: one HTML page that needs no other file, pictures and plots first.

It knows nothing that is not in the document, but for the pictures. The same document and images give
the same page.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.evaluate.answers import at_a_glance
from vesalius.evaluate.chexgenbench import HEADER, as_rows
from vesalius.evaluate.comparison import HELD_OUT, REAL, TRAIN, Side
from vesalius.evaluate.summary import NAMES
from vesalius.images.pixels import open_rgb
from vesalius.images.sheets import thumbnail
from vesalius.report.page import template
from vesalius.report.plots import Plot, Series, interval_plot, roc_points, short, spoken
from vesalius.statistics.record import POOLED, pick

THUMB_SIDE = 120  # pixels
MOST_PICTURES = 400  # of the samples, whatever the classes; about 5 KB each
MOST_CLASSES = 20  # with pictures
OPEN_CLASSES = 5  # whose pictures are there before one asks
MOST_PAIRS = 8  # of a set
MOST_CURVES = 8
SPACES = ("structure", "tiles")  # whose closest pairs are shown
REFERENCES = {HELD_OUT: "real images it never saw", TRAIN: "training images", REAL: "real images"}

_SPACES = {"structure": "structure, in any turn", "tiles": "pixels, 16 tiles"}
_FIDELITY = {
    "fid": ("FID", "distance of the two sets; lower is nearer, real images are not 0"),
    "kid": ("KID", "the same by another measure, which few images do not bias; lower is nearer"),
    "precision": ("Precision", "share of synthetic images that look like real ones"),
    "recall": ("Recall", "share of real images that look like synthetic ones"),
    "density": ("Density", "how crowded with real images the places of synthetic ones are"),
    "coverage": ("Coverage", "share of real images with a synthetic one near"),
}
_DIVERSITY = {
    "ms_ssim": ("MS-SSIM within a class", "1 for equal images: lower is more diverse"),
    "lpips": ("LPIPS within a class", "0 for equal images: higher is more diverse"),
    "vendi": ("Vendi score", "how many different images there are in effect"),
}


def render(
    document: Mapping[str, Any],
    references: Mapping[str, Side],
    fakes: Mapping[str, Side],
    *,
    samples: int = 6,
) -> str:
    """The page. With `samples` 0 there is no picture in it, of pairs neither."""
    pictures = _Pictures({**references, **{f"set {name}": side for name, side in fakes.items()}})
    training = TRAIN if TRAIN in references else next(iter(references))
    return template("evaluate", {"short": short, "spoken": spoken, "roc": roc_points}).render(
        d=document,
        names=list(fakes),
        glances={name: at_a_glance(document, name) for name in fakes},
        references=REFERENCES,
        metric_names=NAMES,
        samples=_samples(document, references, fakes, samples, pictures) if samples else [],
        open_classes=OPEN_CLASSES,
        pictures=bool(samples),
        pairs=_pairs(document, training, pictures) if samples else {},
        fidelity={name: _fidelity(document, name) for name in document["extractors"]},
        diversity=_by_class(document, "diversity", _DIVERSITY),
        labels=_labels(document),
        scores=_scores(document),
        curves=_curves(document),
        copies=_copies(document),
        memorising=_memorising(document),
        table=as_rows(document) if document["settings"]["chexgenbench"] else [],
        table_header=HEADER,
        tables=_tables(document),
    )


class _Pictures:
    """Thumbnails as data URIs, each made once."""

    def __init__(self, sides: Mapping[str, Side]) -> None:
        self.sides = sides
        self.made: dict[tuple[str, int], str] = {}

    def __call__(self, side: str, row: int) -> str:
        """The picture of a row; empty where it cannot be shown."""
        if (side, row) not in self.made:
            self.made[side, row] = self._make(self.sides[side], row)
        return self.made[side, row]

    def _make(self, side: Side, row: int) -> str:
        try:
            small = thumbnail(open_rgb(side.encoded(row)), THUMB_SIDE)
        except (VesaliusError, OSError):
            return ""
        small.info.clear()  # a JPEG comment may name the patient, and Pillow would keep it
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=80)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _samples(
    document: Mapping[str, Any],
    references: Mapping[str, Side],
    fakes: Mapping[str, Side],
    most: int,
    pictures: _Pictures,
) -> list[dict[str, Any]]:
    """Pictures of each class, drawn by the seed: nobody has chosen them."""
    rng = np.random.default_rng(document["settings"]["seed"])
    real = next(name for name in (HELD_OUT, REAL, TRAIN) if name in references)
    classes = _classes(document)[:MOST_CLASSES] or [POOLED]
    each = max(1, min(most, MOST_PICTURES // (len(classes) * (1 + len(fakes)))))
    shown = []
    for of in classes:
        rows = []
        sides = [(REFERENCES[real], real, references[real], -1)]
        sides += [(name, f"set {name}", side, k) for k, (name, side) in enumerate(fakes.items())]
        for title, key, side, series in sides:
            own = list(range(len(side))) if of == POOLED else side.rows(of)
            chosen = rng.permutation(own)[:each].tolist() if own else []
            uris = [pictures(key, row) for row in chosen]
            rows.append({"title": title, "series": series, "images": uris, "n": len(own)})
        shown.append({"name": of, "rows": rows})
    return shown


def _classes(document: Mapping[str, Any]) -> list[str]:
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
    document: Mapping[str, Any], training: str, pictures: _Pictures
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The closest pairs of each set in each space that is shown."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, each in document["sets"].items():
        closest = each["details"].get("closest", {})
        found[name] = {
            space: [
                {
                    **pair,
                    "left": pictures(f"set {name}", pair["synthetic"]),
                    "right": pictures(training, pair["training"]),
                }
                for pair in closest[space][:MOST_PAIRS]
            ]
            for space in SPACES
            if space in closest
        }
    return {name: spaces for name, spaces in found.items() if spaces}


def _rows(document: Mapping[str, Any], metric: str, **where: str) -> list[tuple[str, list[Series]]]:
    """For each class what every set has: against new images filled, against trained ones hollow."""
    order = [POOLED, *_classes(document)]
    rows: dict[str, list[Series]] = {of: [] for of in order}
    for number, (name, each) in enumerate(document["sets"].items()):
        for figure in pick(each["figures"], metric=metric, **where):
            hollow = figure["reference"] == TRAIN and len(document["references"]) > 1
            title = f"{name} and {REFERENCES.get(figure['reference'], figure['reference'])}"
            if figure["of"] in rows:
                rows[figure["of"]].append(Series(figure, number, title, hollow, not hollow))
    return [(of, series) for of, series in rows.items() if series]


def _fidelity(document: Mapping[str, Any], extractor: str) -> list[Plot]:
    plots = [
        interval_plot(title, about, _rows(document, metric, part="fidelity", extractor=extractor))
        for metric, (title, about) in _FIDELITY.items()
    ]
    return [plot for plot in plots if plot]


def _by_class(
    document: Mapping[str, Any], part: str, metrics: Mapping[str, tuple[str, str]]
) -> list[Plot]:
    plots = []
    for metric, (title, about) in metrics.items():
        found = [
            f["extractor"]
            for each in document["sets"].values()
            for f in pick(each["figures"], part=part, metric=metric)
        ]
        for extractor in dict.fromkeys(found):
            named = f"{title}, {extractor}" if extractor else title
            rows = _rows(document, metric, part=part, extractor=extractor)
            plots.append(interval_plot(named, about, rows))
    return [plot for plot in plots if plot]


def _labels(document: Mapping[str, Any]) -> Plot | None:
    rows = _beside_real(document, {"mean auroc": "mean", "auroc": ""})
    about = "AUROC of a classifier that was trained on real images; 0.5 is chance"
    known = [s.figure[end] for _, row in rows for s in row for end in ("value", "low")]
    span = (min([0.4, *(value for value in known if value is not None)]), 1.0)
    return interval_plot("Label consistency", about, rows, span=span, guide=0.5)


def _scores(document: Mapping[str, Any]) -> list[Plot]:
    """How well images fit their captions to a CLIP and to a model that answers questions."""
    plots = []
    for metric, about in (
        ("clip_score", "2.5 x the cosine of image and caption, at least 0"),
        ("vqa_score", "probability of yes to: does this figure show the caption?"),
    ):
        rows = _beside_real(
            document,
            {metric: "", f"{metric} of shuffled captions": "under captions of other images"},
        )
        plots.append(interval_plot(NAMES[metric], about, rows))
    return [plot for plot in plots if plot]


def _beside_real(
    document: Mapping[str, Any], metrics: Mapping[str, str]
) -> list[tuple[str, list[Series]]]:
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


def _curves(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """ROC of the findings, and of membership: lines of (series, points)."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for number, each in enumerate(document["sets"].values()):
        curves = each["details"].get("label_consistency", {}).get("roc", {})
        for finding, of in curves.items():
            lines = found.setdefault(finding, [])
            lines += [(-1, of[HELD_OUT])] if HELD_OUT in of and not lines else []
            lines += [(number, of["synthetic"])] if "synthetic" in of else []
    shown = [{"title": name, "lines": lines} for name, lines in list(found.items())[:MOST_CURVES]]
    if membership := document["model"]["details"].get("membership"):
        shown.append({"title": "membership inference", "lines": [(0, membership["roc"])]})
    return shown


def _copies(document: Mapping[str, Any]) -> Plot | None:
    rows: dict[str, list[Series]] = {}
    for number, (name, each) in enumerate(document["sets"].items()):
        for figure in pick(each["figures"], metric="copies"):
            space = _SPACES.get(figure["extractor"], f"features, {figure['extractor']}")
            rows.setdefault(space, []).append(Series(figure, number, name))
    about = "synthetic images nearer to a training image than all but 1 % of new real ones"
    return interval_plot("Copies of training images", about, list(rows.items()), shares=True)


def _memorising(document: Mapping[str, Any]) -> list[Plot]:
    """Differences between the two references, and the ratio of the distances to both."""
    plots = []
    for metric, title, about, guide in (
        ("fid", "FID to new less FID to trained images",
         "an interval above 0 says that the set is nearer to what was trained on", 0.0),
        ("distance ratio", "Distance to trained over distance to new images",
         "1 is no memorising, less is more", 1.0),
        ("memorised tail", "Among the images most lopsided towards one training image",
         "share of the set; the line is that of held-out real images, whose share is no larger where "
         "nothing was memorised", None),
    ):  # fmt: skip
        rows: dict[str, list[Series]] = {}
        for number, (name, each) in enumerate(document["sets"].items()):
            for figure in pick(each["figures"], part="memorising", metric=metric):
                space = _SPACES.get(figure["extractor"], f"features, {figure['extractor']}")
                rows.setdefault(space, []).append(Series(figure, number, name))
        shares = metric == "memorised tail"
        plots.append(interval_plot(title, about, list(rows.items()), guide=guide, shares=shares))
    return [plot for plot in plots if plot]


def _tables(document: Mapping[str, Any]) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    tables = [(name, each["figures"]) for name, each in document["sets"].items()]
    model = document["model"]
    return tables + ([(f"model {model['name']}", model["figures"])] if model["name"] else [])
