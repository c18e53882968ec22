"""The whole evaluation on small sets, with a network that needs no weights."""

import hashlib
import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.small import private_card
from torch import nn

from vesalius.core.manifest import read_manifest, write_manifest
from vesalius.errors import VesaliusError
from vesalius.evaluate import inputs
from vesalius.evaluate.metrics import fidelity
from vesalius.evaluate.run import evaluate
from vesalius.evaluate.settings import EvaluateSettings
from vesalius.models.networks.extractors import Extractor
from vesalius.models.networks.resize import View
from vesalius.pairs.table import Pairs
from vesalius.statistics.figure import pick

QUICK = EvaluateSettings(extractors=("tiny",), only=("fidelity",), replicates=20, device="cpu")


class Pool(nn.Module):
    def forward(self, x):
        return nn.functional.avg_pool2d(x, 4).flatten(1)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """An extractor of 12 features; the images that went through it are counted."""
    seen = []

    class Counted(Pool):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    def find(name):
        if name == "tiny":
            return Extractor(name, View("squash", 8), (0.0,) * 3, (255.0,) * 3, 12, "w", Counted)
        raise VesaliusError(f"{name} is not to be had")

    monkeypatch.setattr(inputs, "find_extractor", find)
    monkeypatch.setattr(inputs, "NAMES", ("tiny", "rad-dino"))
    return seen


def synthetic_set(folder, count=16, *, level=180, name=lambda k: {}):
    """Images as `vesalius generate` writes them: a prompt, and no label unless `name` gives one."""
    folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(count), []
    for k in range(count):
        low = level if k % 2 else 40
        pixels = rng.integers(low, low + 40, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
        prompt = f"chest x-ray, {'effusion' if low == 40 else 'nodule'}"
        rows.append({"file": f"{k}.png", "prompt": prompt, **name(k)})
    write_manifest(folder / "manifest.jsonl", rows)
    return folder


@pytest.fixture
def made(tmp_path):
    return synthetic_set(tmp_path / "made")


def evaluated(real, synthetic, out, settings=QUICK, **more):
    """What metrics.json holds."""
    return evaluate(real, synthetic, out, settings, **more).document


def read(out):
    return json.loads((out / "metrics.json").read_text())


def test_every_figure_says_all_that_is_needed_to_judge_it(tiny_pairs, made, tmp_path):
    document = evaluated(tiny_pairs, {"made": made}, tmp_path / "out", QUICK)
    assert read(tmp_path / "out") == document
    assert (tmp_path / "out" / "report.html").is_file()
    figures = document["sets"]["made"]["figures"]
    needed = {"value", "low", "high", "n", "floor", "reference", "extractor", "note"}
    assert all(needed <= set(figure) for figure in figures)
    assert all(figure["why"] for figure in figures if figure["value"] is None)
    both = pick(figures, part="fidelity", metric="fid", of="all")
    assert {figure["reference"] for figure in both} == {"train", "held_out"}
    assert document["sets"]["made"]["images"] == both[0]["n"] == 16
    assert document["extractors"]["tiny"]["resize"] == "squash bicubic 8"
    assert document["versions"]["torch"]


def test_classes_come_from_the_captions_and_are_kept_apart_by_source(tiny_pairs, made, tmp_path):
    # "nodule" is a class of lungs and of retinas: pooled it would be no class at all
    document = evaluated(tiny_pairs, {"made": made}, tmp_path / "out", QUICK)
    assert document["sets"]["made"]["classes"] == {"effusion (lungs)": 8, "nodule (lungs)": 8}
    told = " ".join(finding["message"] for finding in document["findings"])
    assert "no synthetic image is of effusion (retinas), nodule (retinas)" in told


def test_progress_names_the_metric_that_is_computed(tiny_pairs, made, tmp_path):
    said = {}

    @contextmanager
    def progress(what):
        yield lambda done, total: said.setdefault(what, []).append((done, total))

    settings = replace(QUICK, only=("fidelity", "diversity"))
    evaluate(tiny_pairs, {"made": made}, tmp_path / "out", settings, progress=progress)
    for what in ("MS-SSIM, synthetic", "MS-SSIM, real", "Vendi score, tiny"):
        assert said[what][0][0] == 0
    assert "FID, KID and others, tiny" in said
    counted = said["MS-SSIM, synthetic"]
    assert counted == sorted(counted) and {total for _, total in counted} == {16}


def test_by_source_the_classes_are_the_sources(tiny_pairs, made, tmp_path):
    settings = replace(QUICK, by="source")
    document = evaluated(tiny_pairs, {"made": made}, tmp_path / "out", settings)
    assert document["sets"]["made"]["classes"] == {"lungs": 16}
    with pytest.raises(VesaliusError, match="no real image has a scanner"):
        evaluate(tiny_pairs, {"made": made}, tmp_path / "b", replace(QUICK, by="scanner"))


def test_an_unknown_training_set_is_told_first_and_a_known_one_divides(tiny_pairs, made, tmp_path):
    document = evaluated(tiny_pairs, {"made": made}, tmp_path / "a", QUICK)
    assert not document["training"]["known"]
    page = (tmp_path / "a" / "report.html").read_text()
    assert page.index("Not known") < page.index("In short")

    pairs = Pairs(tiny_pairs)
    keys, groups = pairs.column("sha1"), pairs.column("group")
    rows = [{"sha1": keys[k], "group": groups[k]} for k in range(9)] + [{"sha1": "0" * 40}]
    (tmp_path / "training_rows.json").write_text(json.dumps(rows))
    known = evaluated(
        tiny_pairs,
        {"made": made},
        tmp_path / "b",
        replace(QUICK, learned_from=tmp_path / "training_rows.json"),
    )
    assert known["training"]["known"]
    # what shares a patient with a training image is in neither reference
    others = sum(group not in groups[:9] for group in groups)
    sizes = {name: each["images"] for name, each in known["references"].items()}
    assert sizes == {"train": 9, "held_out": others}
    assert "1 of 10 training images are not in" in str(known["findings"])


def test_a_table_of_training_images_leaves_the_others_as_held_out(tiny_pairs, made, tmp_path):
    table = pq.read_table(tiny_pairs)
    pq.write_table(table.slice(0, 12), tmp_path / "learned.parquet")
    train = tmp_path / "learned.parquet"
    document = evaluated(
        tiny_pairs, {"made": made}, tmp_path / "out", replace(QUICK, learned_from=train)
    )
    learned = [s for s in table["split"][:12].to_pylist() if s == "train"]
    assert document["references"]["train"]["images"] == len(learned)
    assert document["training"]["known"]


def test_features_are_computed_once_and_kept_after_a_stop(
    tiny_pairs, made, tmp_path, tiny, monkeypatch
):
    def stop(case):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fidelity, "METRIC", replace(fidelity.METRIC, measure=stop))
        with pytest.raises(KeyboardInterrupt, match="features are kept in"):
            evaluate(tiny_pairs, {"made": made}, tmp_path / "out", QUICK)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["features"]
    assert sum(tiny) == 50 + 16  # every image, once
    evaluate(tiny_pairs, {"made": made}, tmp_path / "out", QUICK)
    assert sum(tiny) == 50 + 16


def test_what_cannot_be_had_is_named_and_not_silently_left_out(tiny_pairs, made, tmp_path):
    told = []
    settings = replace(QUICK, extractors=("tiny", "rad-dino"))
    document = evaluated(
        tiny_pairs, {"made": made}, tmp_path / "a", settings, on_warning=told.append
    )
    assert document["unavailable"] == {"rad-dino": "rad-dino is not to be had"}
    assert told[0] == "rad-dino is left out: rad-dino is not to be had"
    assert "rad-dino is not to be had" in (tmp_path / "a" / "report.html").read_text()
    with pytest.raises(VesaliusError, match="no extractor can be had"):
        evaluate(
            tiny_pairs, {"made": made}, tmp_path / "b", replace(QUICK, extractors=("rad-dino",))
        )
    with pytest.raises(VesaliusError, match="incepton"):  # misspelt: no figure is lost by accident
        evaluate(
            tiny_pairs, {"made": made}, tmp_path / "b", replace(QUICK, extractors=("incepton",))
        )


def test_a_part_without_its_model_says_what_to_give(tiny_pairs, made, tmp_path):
    settings = replace(QUICK, only=("membership", "audit", "cost", "alignment"))
    document = evaluated(tiny_pairs, {"made": made}, tmp_path / "out", settings)
    assert {f["why"] for f in document["model"]["figures"]} == {"no model was named: give --model"}
    missing = pick(document["sets"]["made"]["figures"], value=None)
    assert {"no model was named: give --clip", "no model was named: give --vqa"} <= {
        figure["why"] for figure in missing
    }


def test_too_few_images_give_no_silent_number(tiny_pairs, tmp_path):
    few = synthetic_set(tmp_path / "few", 3)
    document = evaluated(tiny_pairs, {"few": few}, tmp_path / "out", QUICK)
    figures = document["sets"]["few"]["figures"]
    recall = pick(figures, metric="recall", of="all", reference="train")[0]
    assert recall["value"] is None
    assert "needs 7 images" in recall["why"]
    assert pick(figures, metric="fid", of="all")[0]["note"].startswith("unreliable: 3 images")


def test_labels_that_are_followed_score_and_shuffled_ones_do_not(tiny_pairs, tmp_path):
    settings = replace(QUICK, only=("alignment",))
    names = ("nodule", "effusion")
    honest = synthetic_set(tmp_path / "honest")
    wrong = synthetic_set(tmp_path / "wrong")
    rows = read_manifest(wrong / "manifest.jsonl")
    for k, row in enumerate(rows):
        row["prompt"] = f"chest x-ray, {names[k // 2 % 2]}"
    write_manifest(wrong / "manifest.jsonl", rows)
    document = evaluated(tiny_pairs, {"honest": honest, "wrong": wrong}, tmp_path / "out", settings)
    found = [
        pick(document["sets"][name]["figures"], metric="mean auroc", reference="synthetic")[0]
        for name in ("honest", "wrong")
    ]
    assert found[0]["value"] > 0.95
    assert found[1]["value"] < 0.8
    assert any("recognises" in text for text in document["summary"]["honest"]["good"])
    assert any("recognises" in text for text in document["summary"]["wrong"]["bad"])


def test_copies_of_training_images_are_found_and_told(tiny_pairs, tmp_path):
    pairs = Pairs(tiny_pairs)
    folder, rows = tmp_path / "copied", []
    folder.mkdir()
    captions = pairs.column("caption")
    for k in pairs.rows("train")[:12]:
        (folder / f"{k}.png").write_bytes(pairs.encoded(k))
        rows.append({"file": f"{k}.png", "prompt": captions[k]})
    write_manifest(folder / "manifest.jsonl", rows)
    settings = replace(QUICK, only=("privacy",))
    document = evaluated(tiny_pairs, {"copied": folder}, tmp_path / "out", settings)
    each = document["sets"]["copied"]
    assert pick(each["figures"], metric="copies", extractor="structure")[0]["value"] == 1
    assert each["details"]["closest"]["structure"][0]["flagged"]
    assert document["unfair"]
    told = " ".join(finding["message"] for finding in document["findings"])
    assert "12 of 12 synthetic files are among the real ones, byte for byte" in told
    assert "near-duplicates of train images" in told
    assert "12 of 12 synthetic images" in " ".join(document["summary"]["copied"]["bad"])


def test_images_of_another_size_are_cut_as_the_generator_saw_them(tiny_pairs, made, tmp_path):
    # real images are 48 x 40, synthetic ones 40 x 40
    document = evaluated(tiny_pairs, {"made": made}, tmp_path / "out", QUICK)
    assert document["cut_to_px"] == 40
    assert not [f for f in document["findings"] if "px" in f["message"] and f["severity"] != "note"]


def test_matched_references_have_the_numbers_of_the_set(tiny_pairs, tmp_path):
    made = synthetic_set(tmp_path / "made", 6)
    settings = replace(QUICK, match=True)
    document = evaluated(tiny_pairs, {"made": made}, tmp_path / "out", settings)
    figure = pick(document["sets"]["made"]["figures"], metric="fid", of="all", reference="train")[0]
    assert figure["n_real"] == figure["n"] == 6
    assert document["references"]["train"]["images"] > 6  # copies are looked for in all of them


def test_a_folder_of_real_images_is_one_reference(made, tmp_path):
    real = synthetic_set(tmp_path / "real", 30, name=lambda k: {"label": "effusion|nodule"[:8]})
    document = evaluated(real, {"made": made}, tmp_path / "out", QUICK)
    assert set(document["references"]) == {"real"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"only": ("fidelty",)}, "no part is called 'fidelty'"),
        ({"replicates": 2}, "give 20 or more"),
        ({"side": 2}, "--side is 2"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(tiny_pairs, made, tmp_path, change, told):
    with pytest.raises(VesaliusError, match=told):
        evaluate(tiny_pairs, {"made": made}, tmp_path / "out", replace(QUICK, **change))
    assert not (tmp_path / "out").exists()


def test_an_earlier_report_is_not_replaced_unasked(tiny_pairs, made, tmp_path):
    evaluate(tiny_pairs, {"made": made}, tmp_path / "out", QUICK)
    with pytest.raises(VesaliusError, match="--overwrite"):
        evaluate(tiny_pairs, {"made": made}, tmp_path / "out", QUICK)
    evaluate(tiny_pairs, {"made": made}, tmp_path / "out", replace(QUICK, overwrite=True))


def test_a_set_of_which_nothing_can_be_read_is_an_error(tiny_pairs, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no image")
    write_manifest(folder / "manifest.jsonl", [{"file": "a.png", "prompt": "x"}])
    with pytest.raises(VesaliusError, match="broken: no image can be read"):
        evaluate(tiny_pairs, {"broken": folder}, tmp_path / "out", QUICK)


def test_a_table_in_the_shape_of_chexgenbench(tiny_pairs, made, tmp_path):
    settings = replace(QUICK, chexgenbench=True)
    evaluate(tiny_pairs, {"made": made}, tmp_path / "out", settings)
    lines = (tmp_path / "out" / "chexgenbench.csv").read_text().splitlines()
    assert lines[0].startswith("set,class,extractor,reference,n,fid,kid,precision")
    assert lines[1].startswith("made,all,tiny,train,16,")
    assert "In the shape of CheXGenBench" in (tmp_path / "out" / "report.html").read_text()


def test_new_images_of_the_same_kind_pass_everything(tiny_pairs, tmp_path):
    settings = replace(QUICK, only=("fidelity", "alignment", "privacy"))
    same = synthetic_set(tmp_path / "same", 20)
    # the retinas are left out: a set of other classes is no set of the same kind
    table = pq.read_table(tiny_pairs)
    lungs = table.filter(pc.equal(table["source"], "lungs"))
    pq.write_table(lungs, tmp_path / "lungs.parquet")
    rows = [{"sha1": row["sha1"], "group": row["group"]} for row in lungs.to_pylist()[:12]]
    (tmp_path / "training_rows.json").write_text(json.dumps(rows))
    document = evaluated(
        tmp_path / "lungs.parquet",
        {"same": same},
        tmp_path / "out",
        replace(settings, learned_from=tmp_path),
    )
    assert document["summary"]["same"]["bad"] == []
    assert any("never saw" in text for text in document["summary"]["same"]["good"])


SHARPNESS = """
from vesalius.evaluate.metrics.base import Metric, Question, Result
from vesalius.statistics.figure import Figure, select


def measure(case):
    result = Result()
    result.add("sharpness", [Figure("contrast", 0.5, n=len(case.fake))])
    return result


def sentences(figures, reference):
    for figure in select(figures, metric="contrast"):
        yield "good", f"The contrast is {figure.value}."


METRIC = Metric(
    measure,
    {"contrast": "Contrast"},
    (Question("Are they sharp?", sentences, lambda figures, reference: "as they should be"),),
)
"""


def test_another_package_adds_a_metric_by_an_entry_point(tiny_pairs, made, tmp_path, monkeypatch):
    (tmp_path / "lab_sharpness.py").write_text(SHARPNESS)
    about = tmp_path / "lab-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1\n")
    lines = "[vesalius.metrics]\nsharpness = lab_sharpness:METRIC\n"
    (about / "entry_points.txt").write_text(lines)
    monkeypatch.syspath_prepend(tmp_path)
    settings = replace(QUICK, only=("sharpness",))
    found = evaluate(tiny_pairs, {"made": made}, tmp_path / "out", settings)
    assert [figure.metric for figure in found.figures["made"]] == ["contrast"]
    assert "good: The contrast is 0.5." in repr(found)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Are they sharp?" in page and "as they should be" in page


def test_an_evaluation_says_what_it_found(tiny_pairs, made, tmp_path):
    found = evaluate(tiny_pairs, {"made": made}, tmp_path / "out", QUICK)
    assert found.unfair == found.document["unfair"]
    assert repr(found).splitlines()[0] == f"Evaluation in {tmp_path / 'out'}"
    assert found.lines and all(line in repr(found) for line in found.lines)
    assert "<br>" in found._repr_html_() and "<b>" not in found._repr_html_()


def study_of(folder, images):
    """The results of a reader study that showed these files."""
    sha1 = [hashlib.sha1(path.read_bytes()).hexdigest() for path in images]
    place = {"task": "turing", "phase": "reading", "reader": "all", "arm": "all", "label": "all",
             "specialty": "all", "years": "all", "half": "all"}  # fmt: skip
    row = {"metric": "accuracy", "value": 0.52, "low": 0.45, "high": 0.59, "readers": 5, "cases": 60,
           "scope": "readers and cases", "n": 300, "why": "", "note": ""}  # fmt: skip
    sentence = {
        "status": "holds",
        "message": "Shown: <readers>.",
        "task": "turing",
        "phase": "reading",
    }
    document = {
        "format": 1, "study": "s", "locked": "ab" * 32, "readers": [{"answered": 60}] * 5,
        "what": {"title": "T", "sets": [{"arm": "synthetic", "name": "made", "sha1": sha1}]},
        "figures": [place | row, place | row | {"reader": "R1", "value": 0.77}],
        "sentences": [sentence],
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(document))
    return folder


def test_readers_of_the_set_are_in_the_report(tiny_pairs, made, tmp_path):
    study = study_of(tmp_path / "study", sorted(made.glob("*.png"))[:4])
    settings = replace(QUICK, study=study)
    readers = evaluated(tiny_pairs, {"made": made}, tmp_path / "out", settings)["readers"]
    assert readers["note"] == "4 of the 4 images of made that readers saw are in made."
    assert [f["value"] for f in readers["figures"]] == [0.52]  # over all readers
    page = (tmp_path / "out/report.html").read_text()
    assert "Shown: &lt;readers&gt;." in page
    assert "../study/report.html" in page


def test_readers_of_another_set_are_refused(tiny_pairs, made, tmp_path):
    other = synthetic_set(tmp_path / "other", level=90)
    settings = replace(QUICK, study=study_of(tmp_path / "study", sorted(other.glob("*.png"))[1::2]))
    with pytest.raises(VesaliusError, match=r"none of the 8 synthetic images .* is in made"):
        evaluate(tiny_pairs, {"made": made}, tmp_path / "out", settings)
    assert not (tmp_path / "out/metrics.json").exists()


def test_what_is_no_study_is_refused_before_any_image_is_read(tiny_pairs, made, tmp_path, tiny):
    (tmp_path / "study").mkdir()
    for study in (tmp_path / "study", tmp_path / "none.json"):
        with pytest.raises(VesaliusError, match=r"results\.json|cannot be read"):
            evaluate(tiny_pairs, {"made": made}, tmp_path / "out", replace(QUICK, study=study))
    assert not tiny


def test_the_card_of_a_private_model_is_shown(tiny_pairs, made, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    card = private_card(folder)
    cards = {"model": None, "adapters": [card.as_dict()]}
    rows = {"model": None, "adapters": [None]}
    (made / "about.json").write_text(json.dumps({"privacy": cards, "training_rows": rows}))
    document = evaluated(tiny_pairs, {"made": made}, tmp_path / "out")
    assert document["training"] == {"known": False, "how": "private model: no rows named"}
    assert read(tmp_path / "out")["sets"]["made"]["privacy"] == [
        json.loads(json.dumps(card.as_dict()))
    ]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "epsilon 7.9 at delta 0.0001 for each patient" in page
    assert "no rows named" in page
