"""The page: complete in itself, honest about what is missing, safe with whatever a label holds."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from vesalius.evaluate.sets import ComparedSet
from vesalius.evaluate.summary import (
    Compared,
    first_answers,
    load_metrics,
    metric_names,
    summarise,
)
from vesalius.images.image_set import ImageSet, survey
from vesalius.report.evaluate import MOST_PICTURES, evaluation_page
from vesalius.statistics.figure import Figure, measured, missing

METRICS = load_metrics()
EVIL = '<script>alert("x")</script>'


def side(name, count, label="cell"):
    rng = np.random.default_rng(len(name))

    def load(k):
        stream = io.BytesIO()
        pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()

    images = ImageSet([lambda data=load(k): data for k in range(count)], {})
    columns = {key: [""] * count for key in ("label", "caption", "group", "source")}
    return ComparedSet(name, images, survey(images), {}, columns, [frozenset({label})] * count)


def figures(value=12.0, *, of="all", reference="held_out"):
    figure = Figure(
        "fid", value, value - 2, value + 2, n=8, n_real=9, floor=10.0, floor_n=4,
        at_floor_n=value + 1,
    )  # fmt: skip
    return measured("fidelity", figure, of=of, extractor="inception", reference=reference)


def document(sets, *, known=True, **more):
    identity = {"extractor": "inception", "weights": "0a", "resize": "bilinear 299"}
    about = {"images": 8, "classes": {"cell": 8}, "sha256": "0" * 64}
    made = {
        "format": 1,
        "vesalius": "0",
        "command": "vesalius evaluate --real R",
        "settings": {"seed": 0, "chexgenbench": False, "only": ["fidelity"]},
        "versions": {"python": "3"},
        "training": {"known": known, "how": "run.json says so"},
        "real": {"path": "R", **about},
        "references": {"train": about, "held_out": about},
        "extractors": {"inception": identity},
        "unavailable": {"rad-dino": "not in the hub's cache"},
        "cut_to_px": None,
        "unfair": False,
        "findings": [],
        "sets": {
            name: {"path": name, **about, "figures": [f.as_dict() for f in each], "details": {}}
            for name, each in sets.items()
        },
        "model": {"name": None, "figures": [], "details": {}},
        "seconds": 1.0,
        **more,
    }
    to = Compared("held_out", known)
    made["summary"] = {n: summarise(METRICS, each, [], to) for n, each in sets.items()}
    return made


def answers(figures, by="label", known=True):
    return first_answers(METRICS, figures, [], Compared("held_out", known), by)


def page(made, samples=2, label="cell", lines=()):
    references = {name: side(name, 6, label) for name in ("train", "held_out")}
    fakes = {n: side(n, 5, label) for n in made["sets"]}
    return rendered(made, references, fakes, samples, lines)


def rendered(made, references, fakes, samples, lines=()):
    said = {name: lines for name in fakes}
    names = metric_names(METRICS)
    return evaluation_page(
        made, references, fakes, answers=said, metric_names=names, samples=samples
    )


def test_the_page_needs_no_other_file_and_no_script():
    html = page(document({"a": [figures()], "b": [figures(20.0)]}))
    assert not re.search(r"<script|<link|@import|url\(|\son\w+=", html)
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "prefers-color-scheme: dark" in html
    assert html.count('src="data:image/jpeg') == 2 * 3  # two of the reference and of each set


def test_without_pictures_no_image_of_anybody_is_in_it():
    html = page(document({"a": [figures()]}), samples=0)
    assert "data:image" not in html
    assert "made without pictures" in html


def test_what_somebody_wrote_into_a_label_stays_text():
    made = document({EVIL: [figures(), figures(of=EVIL)]}, command=EVIL)
    assert EVIL not in page(made, label=EVIL)


def test_the_first_lines_say_what_is_not_known_and_what_is_unfair():
    finding = {"severity": "unfair", "synthetic": "a", "message": "JPEG against PNG"}
    html = page(document({"a": [figures()]}, known=False, findings=[finding], unfair=True))
    first = [html.index(text) for text in ("is not known", "JPEG against PNG", "In short")]
    assert first == sorted(first)


@pytest.mark.parametrize("known", [True, False])
def test_nothing_good_is_said_of_training_images_that_are_not_known(known):
    figure = Figure("distance ratio", 1.0, n=8, n_real=9, floor=1.0, details={"p": 0.7})
    where = {"extractor": "structure", "reference": "train / held_out"}
    figures = [measured("memorising", figure, **where)]
    said = document({"a": figures}, known=known)["summary"]["a"]
    kind = "good" if known else "unknown"
    (text,) = said[kind]
    assert "Nothing shows that the images, as a whole or a few" in text
    assert ("is not known (--trained-on)" in text) != known
    (answer,) = answers(figures, known=known)
    assert answer.kind == kind
    assert ("is not known" in answer.answer) != known


def test_what_could_not_be_measured_says_why():
    lost = missing("fidelity", "kid", "needs 2 images", extractor="inception", reference="held_out")
    html = page(document({"a": [figures(), lost]}))
    assert "could not be measured" in html
    assert "KID: needs 2 images." in html
    assert "not in the hub&#39;s cache" in html


@pytest.mark.parametrize(("value", "kind"), [(10.0, "good"), (30.0, "bad")])
def test_a_distance_is_judged_beside_real_images_at_the_same_number(value, kind):
    said = document({"a": [figures(value)]})["summary"]["a"]
    assert len(said[kind]) == 1
    assert f"{value + 1:.1f} away" in said[kind][0]
    assert "10.0 away" in said[kind][0]


def test_pictures_are_few_enough_for_a_page_to_be_sent():
    many = {f"set{k}": [figures(of=f"c{c}") for c in range(20)] for k in range(5)}
    made = document(many)
    sides = {name: side(name, 30, "c1") for name in many}
    html = rendered(made, {"held_out": side("held_out", 30, "c1")}, sides, 12)
    assert html.count("data:image") <= MOST_PICTURES
    assert len(html) < 5_000_000


def test_the_same_document_gives_the_same_page():
    made = document({"a": [figures()]})
    assert page(made) == page(made)


def test_the_first_screen_answers_before_it_notes():
    note = {"severity": "note", "synthetic": "", "message": "real images: mixed sizes"}
    made = [figures(30.0)]
    html = page(document({"a": made}, findings=[note]), lines=answers(made))
    first = [html.index(t) for t in ("Do they look like real images?", "mixed sizes", "In short")]
    assert first == sorted(first)
    assert "<b>not good</b> 3.1 times as far from images the model never saw" in html


def test_what_was_not_measured_is_not_answered():
    questions = [line.question for line in answers([figures()])]
    assert questions == ["Do they look like real images?"]


def test_a_few_lopsided_images_are_said_though_the_set_as_a_whole_is_not():
    common = {"n": 100, "n_real": 90, "floor": 0.02}
    whole = Figure("distance ratio", 1.0, **common, details={"p": 0.6})
    tail = Figure("memorised tail", 0.09, 0.05, 0.16, **common, details={"p": 0.001})
    where = {"extractor": "tiles", "reference": "train"}
    found = [measured("memorising", f, **where) for f in (whole, tail)]
    made = document({"a": found})
    (said,) = made["summary"]["a"]["bad"]
    assert "far nearer to one training image" in said and "tiles 9% and 2%" in said
    (line,) = answers(found)
    assert (line.kind, line.answer) == ("bad", "yes: the lowest p of 2 tests is 0.001")


def test_by_source_nobody_reads_that_the_labels_are_right():
    figures = [
        measured("alignment", Figure("mean auroc", 0.99, 0.98, 1.0, n=9), reference=reference)
        for reference in ("synthetic", "held_out")
    ]
    for by, question in (("label", "Do they show what was asked for?"),
                         ("source", "Do they show the source that was asked for?")):  # fmt: skip
        assert [line.question for line in answers(figures, by)] == [question]


@pytest.mark.parametrize(
    ("shown", "real_low", "told"), [(20, 0.8, True), (9, 0.8, False), (20, 0.4, False)]
)
def test_a_finding_is_missing_where_enough_images_should_have_shown_it(shown, real_low, told):
    def auroc(value, low, reference, of="nodule"):
        metric = "mean auroc" if of == "all" else "auroc"
        figure = Figure(metric, value, low, 0.95, n=60, details={"positives": float(shown)})
        return measured("alignment", figure, of=of, reference=reference)

    figures = [auroc(0.9, 0.85, reference, "all") for reference in ("held_out", "synthetic")]
    figures += [auroc(0.9, real_low, "held_out"), auroc(0.55, 0.4, "synthetic")]
    said = document({"a": figures})["summary"]["a"]["bad"]
    weak = "Not shown to be better than chance in synthetic images: nodule."
    assert said == ([weak] if told else [])
