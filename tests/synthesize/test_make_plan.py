"""Plans made: that they balance, that they are what was asked for, and that they only ever grow."""

import sys
from collections import Counter
from subprocess import run

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.small import private_card

from vesalius.errors import VesaliusError
from vesalius.models.adapter_files import adapter_file
from vesalius.models.adapters import save_lora
from vesalius.models.embeddings import save_embedding
from vesalius.synthesize import make_plan
from vesalius.synthesize.classes import how_many as how_many_of
from vesalius.synthesize.make_plan import plan_prompts, shared_columns
from vesalius.synthesize.plan import read_plan, write_plan
from vesalius.synthesize.prompts import parse_attributes
from vesalius.synthesize.settings import HowMany, PlanSettings, RowSettings
from vesalius.synthesize.triggers import blended

AMOUNT = ("balance", "per_class", "ratio", "total", "share")


def how_many(real, **amount):
    return how_many_of(real, HowMany(**amount))


def test_a_plan_shows_its_classes(pairs):
    plan = make_plan.plan_from_pairs(pairs, PlanSettings(HowMany(per_class=2)))
    assert repr(plan) == "a plan of 8 images of 4 classes"
    assert "<td>eyes/dr</td><td>6</td><td>2</td><td>8</td>" in plan._repr_html_()


def plan_from_pairs(pairs, on_warning=lambda message: None, **options):
    amount = HowMany(**{name: options.pop(name) for name in AMOUNT if name in options})
    plan = make_plan.plan_from_pairs(pairs, PlanSettings(amount, **options), on_warning)
    return plan.rows, plan.counts


REAL = st.dictionaries(st.text("abc/", min_size=1), st.integers(1, 10_000), min_size=1, max_size=9)

DICTIONARY = """
eyes:
  templates: ["retina, {label}", "eye[ of a {age}-year-old {sex}], {label}", "{label}[, {age}]"]
  words:
    label: {dr: diabetic retinopathy}
    sex: {F: woman, M: man, unknown: null}
lungs:
  closed: [label]
  drop: [junk]
  templates: ["lung, {label}[. {report}]"]
  words: {label: {nodule: [nodule, NODULE], normal: normal, junk: junk}}
"""


def table(path, rows):
    """A pairs table of (source, label, caption, age, sex) and its other columns."""
    columns = {
        name: [row[k] for row in rows]
        for k, name in enumerate(("source", "label", "caption", "age", "sex"))
    }
    count = len(rows)
    columns |= {
        "image": [{"bytes": b"", "path": None}] * count,
        "group": ["g"] * count,
        "split": [row[5] if len(row) > 5 else "train" for row in rows],
        "sha1": [f"{k:040x}" for k in range(count)],
        "symmetry": ["none"] * count,
        "report": [
            f"Report {k} AND more." if row[0] == "lungs" else None for k, row in enumerate(rows)
        ],
    }
    pq.write_table(pa.table(columns), path)
    return path


EYES = [("eyes", "dr", f"retina {k}, dr", str(40 + k), "FM"[k % 2]) for k in range(6)]
EYES += [("eyes", "normal", "normal retina", None, None), ("eyes", "normal", "eye", "30", "F")]
LUNGS = [("lungs", "nodule", f"NODULE {k} AND more", None, None) for k in range(3)]
LUNGS += [("lungs", "normal", "normal lung", None, None)]
UNSEEN = [("eyes", "dr", "never in training", "99", "F", "val")] * 9


@pytest.fixture
def pairs(tmp_path):
    return table(tmp_path / "pairs.parquet", EYES + LUNGS + UNSEEN)


@pytest.fixture
def dictionary(tmp_path):
    (tmp_path / "words.yaml").write_text(DICTIONARY)
    return str(tmp_path / "words.yaml")


def content(rows):
    """All of each row but its number."""
    return [(r.prompt, r.label, r.seed, dict(r.attributes)) for r in rows]


def of_class(rows, source, label):
    return [r for r in rows if (r.attributes["source"], r.label) == (source, label)]


@given(REAL)
def test_balancing_makes_all_classes_equal_and_adds_no_more(real):
    if len(set(real.values())) == 1:
        with pytest.raises(VesaliusError, match="nothing is missing"):
            how_many(real, balance=True)
        return
    planned = how_many(real, balance=True)
    after = {real[key] + planned[key] for key in real}
    assert after == {max(real.values())}
    assert min(planned.values()) == 0


@given(REAL, st.integers(1, 100_000), st.sampled_from(["real", "even"]))
def test_a_total_adds_up_and_is_shared_fairly(real, total, share):
    planned = how_many(real, total=total, share=share)
    assert sum(planned.values()) == total
    weights = real if share == "real" else dict.fromkeys(real, 1)
    for key, count in planned.items():
        assert abs(count - total * weights[key] / sum(weights.values())) < 1


def test_a_ratio_is_of_each_class():
    assert how_many({"a": 10, "b": 3, "c": 1}, ratio=0.5) == {"a": 5, "b": 2, "c": 1}


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        ({}, "how many is not said"),
        ({"balance": True, "total": 3}, "--balance and --total exclude each other"),
        ({"per_class": 0}, "--per-class is 0"),
        ({"ratio": float("nan")}, "--ratio is nan"),
        ({"ratio": 0.01}, "rounds to 0 images in every class"),
        ({"total": 3, "share": "equal"}, "--share 'equal'"),
        ({"per_class": 10**9}, "too many for one plan"),
    ],
)
def test_an_amount_that_makes_no_sense_is_told(amount, told):
    with pytest.raises(VesaliusError, match=told):
        how_many({"a": 10, "b": 3}, **amount)


def test_only_training_images_count_and_the_plan_evens_them_out(pairs):
    rows, summary = plan_from_pairs(pairs, balance=True)
    assert {(one.name, one.real, one.planned) for one in summary} == {
        ("eyes/dr", 6, 0),
        ("eyes/normal", 2, 4),
        ("lungs/nodule", 3, 3),
        ("lungs/normal", 1, 5),  # of that name there are two, which are not added up
    }
    assert Counter((r.attributes["source"], r.label) for r in rows) == {
        ("eyes", "normal"): 4,
        ("lungs", "nodule"): 3,
        ("lungs", "normal"): 5,
    }
    assert "never in training" not in {row.prompt for row in rows}


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 99), st.booleans())
def test_more_images_leave_all_earlier_rows_as_they_are(
    tmp_path_factory, count, more, seed, by_dictionary
):
    folder = tmp_path_factory.mktemp("plan")
    pairs = table(folder / "pairs.parquet", EYES + LUNGS)
    (folder / "words.yaml").write_text(DICTIONARY)
    captions = str(folder / "words.yaml") if by_dictionary else None
    fewer, _ = plan_from_pairs(pairs, per_class=count, seed=seed, captions=captions)
    rows, _ = plan_from_pairs(pairs, per_class=count + more, seed=seed, captions=captions)
    assert rows[: len(fewer)] == fewer


def test_another_class_or_amount_changes_no_row_of_the_others(pairs):
    rows, _ = plan_from_pairs(pairs, per_class=5)
    fewer, _ = plan_from_pairs(pairs, per_class=5, exclude=["dr"])
    assert content(fewer) == [c for c in content(rows) if c[1] != "dr"]
    balanced, _ = plan_from_pairs(pairs, balance=True)
    assert content(of_class(balanced, "lungs", "normal")) == content(
        of_class(rows, "lungs", "normal")
    )


def test_another_seed_changes_all(pairs):
    first, second = (plan_from_pairs(pairs, per_class=5, seed=seed)[0] for seed in (0, 1))
    assert not {row.seed for row in first} & {row.seed for row in second}


@pytest.mark.parametrize("seeds", [3, 10**10])
def test_no_image_is_planned_twice(pairs, monkeypatch, seeds):
    monkeypatch.setattr(make_plan, "SEEDS", seeds)
    # three seeds are enough for three images of a prompt, and they are all used
    rows, _ = plan_from_pairs(pairs, per_class=3, templates=["a photo, {label} of {source}"])
    assert len({(row.prompt, row.seed) for row in rows}) == len(rows) == 12
    assert all(0 <= row.seed < seeds for row in rows)


def test_real_captions_are_all_used_before_one_is_used_again(pairs):
    rows, _ = plan_from_pairs(pairs, per_class=12, include=["eyes/dr"])
    real = {caption for _, label, caption, *_ in EYES if label == "dr"}
    assert {row.prompt for row in rows[:6]} == {row.prompt for row in rows[6:]} == real
    assert [row.prompt for row in rows[:6]] != [row.prompt for row in rows[6:]]


def test_a_report_in_capitals_does_not_compose_prompts(pairs):
    rows, _ = plan_from_pairs(pairs, per_class=3, include=["nodule"])
    assert {row.prompt for row in rows} == {f"NODULE {k} and more" for k in range(3)}


def test_attributes_go_together_as_in_reality_and_only_what_is_said_is_recorded(pairs, dictionary):
    rows, _ = plan_from_pairs(pairs, per_class=60, include=["dr"], captions=dictionary)
    real = {(age, sex) for _, label, _, age, sex in EYES if label == "dr"}
    both = {(r.attributes["age"], r.attributes["sex"]) for r in rows if "sex" in r.attributes}
    assert both == real
    for row in rows:
        told = dict(row.attributes)
        assert told.pop("source") == "eyes"
        assert ("year-old" in row.prompt) == ("sex" in told)
        assert row.prompt.startswith("retina") == (not told)
        assert "diabetic retinopathy" in row.prompt


def test_values_that_are_asked_for_take_turns_and_are_all_said(pairs, dictionary):
    asked = ("age=60,70", "sex=F", "sex=M")
    rows, _ = plan_from_pairs(
        pairs, per_class=8, include=["eyes/dr"], captions=dictionary, attributes=asked
    )
    said = Counter((r.attributes["age"], r.attributes["sex"]) for r in rows)
    assert said == dict.fromkeys([("60", "F"), ("60", "M"), ("70", "F"), ("70", "M")], 2)
    for row in rows:
        person = {"F": "woman", "M": "man"}[row.attributes["sex"]]
        assert f"{row.attributes['age']}-year-old {person}" in row.prompt


def test_an_attribute_that_stands_beside_a_missing_one_takes_an_image_that_can_say_it(
    pairs, dictionary
):
    # one of the two normal eyes has neither age nor sex, and `sex` is only said beside an age
    rows, _ = plan_from_pairs(
        pairs, per_class=4, include=["eyes/normal"], captions=dictionary, attributes=("sex=M",)
    )
    assert {row.prompt for row in rows} == {"eye of a 30-year-old man, normal"}


def test_templates_name_columns_and_may_compose_on_purpose(pairs):
    template = "a photo of <tb>:0.5 AND {label}[ at {age}]:0.5"
    rows, _ = plan_from_pairs(pairs, per_class=2, sources=["eyes"], templates=[template])
    assert "a photo of <tb>:0.5 AND normal:0.5" in {row.prompt for row in rows}
    assert all(row.prompt.startswith("a photo of <tb>:0.5 AND ") for row in rows)


def test_a_free_attribute_is_said_by_a_template_that_names_it(pairs, dictionary):
    warnings = []
    rows, _ = plan_from_pairs(
        pairs,
        per_class=2,
        include=["dr"],
        captions=dictionary,
        templates=["{severity} {label}"],
        attributes=("severity=mild,severe",),
        on_warning=warnings.append,
    )
    assert [row.prompt for row in rows] == [f"{s} diabetic retinopathy" for s in ("mild", "severe")]
    assert [row.attributes["severity"] for row in rows] == ["mild", "severe"]
    assert not warnings


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sources": ["eye"]}, "no source 'eye': nearest: eyes"),
        ({"include": ["norml"]}, "label 'norml': nearest: normal"),
        ({"exclude": ["lungs/dr"]}, "label 'lungs/dr': nearest: .*eyes/dr"),
        ({"include": ["dr"], "exclude": ["eyes/dr"]}, "no class is left"),
        ({"attributes": ("age=60",)}, "--attribute needs --captions or --template"),
        ({"captions": "W", "attributes": ("agee=6",), "sources": ["eyes"]}, "nearest: age"),
        ({"captions": "W", "attributes": ("age=6",)}, "of lungs name no 'age'"),
        ({"captions": "W", "attributes": ("sex=unknown",), "sources": ["eyes"]},
         "no template for eyes/dr can say sex=unknown"),
        ({"captions": "nothing"}, "no prompt dictionary"),
        ({"templates": ["{labell}"]}, "need 'labell', .* nearest: label"),
        ({"templates": ["a[ {site}]"]}, "need 'site', .*known: age, caption, label"),
        ({"templates": ["a {label"]}, "--template: 'a {label' has a bracket or brace too many"),
        ({"seed": -1}, "seed is -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_told(pairs, dictionary, options, told):
    if options.get("captions") == "W":
        options = options | {"captions": dictionary}
    with pytest.raises(VesaliusError, match=told):
        plan_from_pairs(pairs, per_class=2, **options)


def test_a_label_that_the_dictionary_does_not_know_is_told(tmp_path, dictionary):
    for label, told in (
        ("nodul", "lungs/nodul: label 'nodul' is not in"),
        ("junk", "drops the label"),
    ):
        pairs = table(tmp_path / f"{label}.parquet", [("lungs", label, "a", None, None)])
        with pytest.raises(VesaliusError, match=told):
            plan_from_pairs(pairs, per_class=2, captions=dictionary)


def test_a_table_without_training_images_or_captions_is_told(tmp_path):
    with pytest.raises(VesaliusError, match="no training images"):
        plan_from_pairs(table(tmp_path / "a.parquet", UNSEEN), per_class=2)
    with pytest.raises(VesaliusError, match="no training image of eyes/dr has a caption"):
        plan_from_pairs(
            table(tmp_path / "b.parquet", [("eyes", "dr", "", None, None)]), per_class=2
        )


def test_what_would_make_bad_data_is_warned_of(pairs, dictionary):
    def warnings(**options):
        told = []
        plan_from_pairs(pairs, on_warning=told.append, **options)
        return " ".join(told)

    assert "stand under several labels" in warnings(per_class=2, templates=["an image"])
    assert "planned at over 20 times" in warnings(per_class=50)
    assert "have no age: put what stands around it in brackets" in warnings(
        per_class=2, sources=["eyes"], templates=["{label} at {age}"]
    )
    femal = ("sex=femal", "age=62.5")
    told = warnings(per_class=2, sources=["eyes"], captions=dictionary, attributes=femal)
    assert "sex 'femal'" in told and "62.5" not in told
    assert warnings(per_class=2, captions=dictionary) == ""


def test_a_plan_by_hand_goes_around_its_prompts(tmp_path):
    rows = plan_prompts(["a AND b:0.5", "c"], 2, labels=["x", "y"])
    assert [(r.row, r.prompt, r.label) for r in rows] == [
        (0, "a AND b:0.5", "x"),
        (1, "c", "y"),
        (2, "a AND b:0.5", "x"),
        (3, "c", "y"),
    ]
    assert content(plan_prompts(["c"], 1, labels=["y"])) == content(rows[1:2])
    write_plan(rows, tmp_path / "plan.csv")
    assert read_plan(tmp_path / "plan.csv") == rows
    for arguments, told in [
        ((["a", "a"], 1), "stands twice"),
        ((["a"], 0), "at least 1"),
        (([" "], 1), "empty"),
        ((["a AND b:99"], 1), "beyond 10"),
    ]:
        with pytest.raises(VesaliusError, match=told):
            plan_prompts(*arguments)
    with pytest.raises(VesaliusError, match="3 labels for 2 prompts"):
        plan_prompts(["a", "b"], 1, labels=["x", "y", "z"])


def test_a_plan_can_be_bound_to_a_model(tiny_sd):
    from vesalius.models.generator import load_generator

    bound = shared_columns(RowSettings(model=str(tiny_sd), size="64x32", steps=3))
    assert bound["model_hash"] == load_generator(str(tiny_sd), "cpu").model_hash
    assert (bound["width"], bound["height"], bound["steps"]) == (64, 32, 3)
    with pytest.raises(VesaliusError, match="no folder"):
        shared_columns(RowSettings(model="./nowhere"))


def test_planning_needs_no_torch():
    code = "import sys, vesalius.synthesize.make_plan as m; m.shared_columns(m.RowSettings(model='mini'))"
    done = run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("text", ["age", "=60", "age=", "age=60,,70"])
def test_an_attribute_that_cannot_be_read_is_told(text):
    with pytest.raises(VesaliusError, match="write it like age=60"):
        parse_attributes([text])


def test_a_value_with_a_comma_stands_in_quotes():
    assert parse_attributes(['finding="COVID-19, ARDS",none']) == {
        "finding": ["COVID-19, ARDS", "none"]
    }


def test_prompts_for_an_adapter_have_its_own_word(pairs, tmp_path):
    """Of a run with an adapter for each label, that of the label."""
    for name in ("one", "several/dr", "several/healthy"):
        folder = tmp_path / name / "adapter"
        folder.mkdir(parents=True)
        save_embedding(folder, f"<{folder.parent.name}-word>", torch.ones(2, 8))
    rows, _ = plan_from_pairs(pairs, per_class=1, adapter=tmp_path / "one")
    assert all(row.prompt.startswith("<one-word>, ") for row in rows)
    asked = {"per_class": 1, "adapter": tmp_path / "several", "include": ("dr",)}
    rows, _ = plan_from_pairs(pairs, **asked, templates=("a photo of <x>",))
    assert {row.prompt for row in rows} == {"a photo of <dr-word>"}
    with pytest.raises(VesaliusError, match=r"several has no adapter for the label .*--adapter "):
        plan_from_pairs(pairs, per_class=1, adapter=tmp_path / "several")
    with pytest.raises(
        VesaliusError, match=r"several of .*/several/dr/adapter, .*draws each row with"
    ):
        adapter_file(tmp_path / "several")


def test_the_adapters_of_several_labels_blended_are_warned_of(tmp_path):
    """LoRAs are; words change only what names them."""
    layers = {f"unet.a.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
    for kind in ("loras", "words"):
        for name in ("dr", "normal"):
            folder = tmp_path / kind / name / "adapter"
            folder.mkdir(parents=True)
            if kind == "loras":
                save_lora(folder, layers, {"alpha": 2.0})
            else:
                save_embedding(folder, f"<{name}>", torch.ones(2, 8))
        (tmp_path / kind / "recipe.yaml").write_text("")
    words = [str(tmp_path / "words" / name / "adapter") for name in ("dr", "normal")]
    assert blended(words) == []
    own = [str(tmp_path / "loras" / name / "adapter") for name in ("dr", "normal")]
    assert blended(own[:1]) == []
    (line,) = blended([own[0], f"{own[1]}:1"])
    assert line.startswith(
        "2 adapters of loras, each trained for one label (dr, normal), are blended into every "
        f"image: --adapter {tmp_path}/loras draws each row"
    )


@pytest.mark.parametrize(
    ("amount", "told"),
    [({"balance": True}, "--balance"), ({"ratio": 1}, "--ratio"), ({"total": 8}, "--share real")],
)
def test_the_plan_of_a_private_adapter_publishes_no_counts(pairs, tmp_path, amount, told):
    run = tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    save_embedding(run / "adapter", "<tb>", torch.zeros(1, 8), {})
    private_card(run / "adapter")
    for adapter in (run / "adapter", run / "adapter" / "learned_embeds.safetensors"):
        with pytest.raises(VesaliusError, match=f"is private.*{told} publishes"):
            plan_from_pairs(pairs, adapter=adapter, **amount)
        said = []
        plan_from_pairs(pairs, said.append, adapter=adapter, per_class=2)
        plan_from_pairs(pairs, said.append, adapter=adapter, total=8, share="even")
        assert sum("guarantee does not cover this plan's prompts" in line for line in said) == 2
