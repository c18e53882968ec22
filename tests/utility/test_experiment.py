"""The experiment whole: what a user gets, what repeats, and what stops it with one line."""

import json
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.utility.conftest import (
    CLASSES,
    about_of,
    labels_of,
    real_table,
    tiny_extractors,
    write_set,
    write_table,
)

from vesalius.core.atomic import atomic_path
from vesalius.errors import VesaliusError
from vesalius.utility import outputs
from vesalius.utility.arms import KINDS
from vesalius.utility.folds import divide
from vesalius.utility.layout import Budget
from vesalius.utility.pool import read_pool
from vesalius.utility.run import utility
from vesalius.utility.scores import by_seed, truth_of
from vesalius.utility.settings import UtilitySettings

QUICK = {"seeds": 2, "steps": 30, "batch": 16, "views": 2, "replicates": 50, "backbone": "tiny",
         "ratios": (0.5, 1.0, 2.0), "samples": 1, "device": "cpu"}  # fmt: skip


def run(real, synthetic, out, **settings):
    return utility(real, synthetic, out, UtilitySettings(**(QUICK | settings))).document


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Results of every arm, and their folder with the inputs beside it."""
    folder = tmp_path_factory.mktemp("done")
    table = real_table(folder)
    synthetic = write_set(folder / "set", labels_of(40), about=about_of(table))
    with tiny_extractors():
        return run(table, synthetic, folder / "out"), folder / "out"


def test_every_arm_is_judged_on_the_real_test_images(done):
    document, out = done
    arms = {arm["name"]: arm for arm in document["budgets"][0]["arms"]}
    assert {arm["kind"] for arm in arms.values()} == set(KINDS)
    assert arms["real"]["real_images"] == 50 and arms["real"]["synthetic_images"] == 0
    assert arms["synthetic only"]["real_images"] == 0
    # x2 would be the same 40 images as x1: it is not trained twice
    assert arms["real+synthetic x1"]["synthetic_images"] == 40
    assert "the set has 40" in arms["real+synthetic x1"]["note"]
    assert "real+synthetic x2" not in arms
    (twin,) = [
        one for one in document["budgets"][0]["left_out"] if one["arm"] == "real+synthetic x2"
    ]
    assert twin["same_as"] == "real+synthetic x1" and "the set has 40" in twin["why"]
    assert document["task"]["images"]["test"]["all"] == 20
    assert arms["real"]["figures"]["auroc"]["n"] == 20
    assert {c["family"] for c in document["comparisons"]} >= {"help", "baselines"}
    assert json.loads((out / "results.json").read_text()) == document


def test_scores_can_be_computed_again_from_the_predictions(done):
    document, out = done
    rows = pq.read_table(out / "predictions.parquet").to_pylist()
    own = [row for row in rows if row["arm"] == "real"]
    seeds = sorted({row["seed"] for row in own})
    p = np.array(
        [[[row[f"p_{c}"] for c in CLASSES] for row in own if row["seed"] == s] for s in seeds]
    )
    labels = np.array([CLASSES.index(row["label"]) for row in own if row["seed"] == 0])
    truth, p = truth_of(labels, CLASSES), p / p.sum(-1, keepdims=True)
    told = document["budgets"][0]["arms"][0]["figures"]
    for name in ("auroc", "macro_f1"):
        again = by_seed(name, truth, p).mean()
        assert told[name]["value"] == pytest.approx(again, abs=1e-6)


def test_the_same_call_gives_the_same_figures(done, tiny_extractor, tmp_path):
    document, out = done
    again = run(
        out.parent / "real.parquet", out.parent / "set", tmp_path / "again", store=out / "features"
    )

    def timeless(told):
        return [
            {k: v for k, v in arm.items() if k != "seconds"} for arm in told["budgets"][0]["arms"]
        ]

    assert timeless(again) == timeless(document)
    assert again["comparisons"] == document["comparisons"]


def test_fewer_real_images_make_learning_curves(table, synthetic, tiny_extractor, tmp_path):
    document = run(table, synthetic, tmp_path / "out", fractions=(0.2, 1.0), shots=(3,), sizes=(20,),
                   arms=("mixed", "synthetic"), ratios=(1.0,))  # fmt: skip
    counts = {b["name"]: b["arms"][0]["real_images"] for b in document["budgets"]}
    assert counts == {"3 shots a class": 9, "20 images": 20, "20 %": 10, "100 %": 50}
    alone = {a["figures"]["auroc"]["value"] for b in document["budgets"] for a in b["arms"]
             if a["kind"] == "synthetic"}  # fmt: skip
    assert len(alone) == 1  # no real image is in it
    assert document["verdict"]["budget"] == "100 %"
    assert "With fewer real images" in (tmp_path / "out" / "report.html").read_text()


def test_each_seed_draws_its_own_few_images():
    train, labels = np.arange(60), labels_of(60)
    drawn = [Budget("fraction", 0.2).rows(train, [""] * 60, labels, seed) for seed in range(2)]
    assert set(drawn[0].tolist()) != set(drawn[1].tolist())


def test_folds_test_every_image_once(table, tmp_path, tiny_extractor):
    outside = write_table(tmp_path / "other.parquet", ["cyst"], ["train"], groups=["x"], seed=9)
    sets = write_set(tmp_path / "unrelated", labels_of(30))
    document = run(table, sets, tmp_path / "out", folds=3, arms=("mixed",), ratios=(1.0,),
                   learned_from=(str(outside),))  # fmt: skip
    assert document["budgets"][0]["arms"][0]["figures"]["auroc"]["n"] == 90
    assert {c["test"] for c in document["comparisons"]} == {"corrected resampled t"}
    rows = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    assert len({row["sha1"] for row in rows}) == 90


@pytest.mark.parametrize("asked", [3, 4])
def test_the_table_s_own_folds_are_kept_where_they_are_as_many(asked, tmp_path):
    """They are whole numbers from 0: generators were trained fold by fold on them."""
    labels = labels_of(90)
    own = [(k // 10) % 3 for k in range(90)]
    table = write_table(tmp_path / "own.parquet", labels, ["train"] * 90, fold=own)
    sets = write_set(tmp_path / "set", labels_of(10))
    pool = read_pool(table, sets, UtilitySettings(folds=asked))
    folds, notes = divide(pool, test_split="test", folds=asked, seed=0)
    kept = [np.flatnonzero(np.array(own) == k).tolist() for k in range(3)]
    assert ([fold.test.tolist() for fold in folds] == kept) == (asked == 3)
    assert [("others were drawn" in note) for note in notes] == ([] if asked == 3 else [True])


def test_sets_of_one_class_each_are_taken_together(table, proven, tmp_path, tiny_extractor):
    labels = ("cyst", "nodule", "scar")
    sets = [write_set(tmp_path / label, [label] * 6, about=proven) for label in labels]
    document = run(table, sets, tmp_path / "out", arms=("mixed", "synthetic"), ratios=(1.0,))
    assert document["task"]["images"]["synthetic"] == {"all": 18, **dict.fromkeys(labels, 6)}
    assert len(document["synthetic"]) == 3


def test_findings_are_told_apart_too(tmp_path, tiny_extractor):
    rng = np.random.default_rng(3)
    labels = ["|".join(sorted(rng.choice(CLASSES, rng.integers(1, 3), replace=False)))
              for _ in range(90)]  # fmt: skip
    splits = ["train"] * 50 + ["val"] * 20 + ["test"] * 20
    table = write_table(tmp_path / "real.parquet", labels, splits)
    made = write_set(tmp_path / "set", labels[:30])
    document = run(table, made, tmp_path / "out", allow_unproven=True)
    assert document["task"]["kind"] == "multi-label"
    assert document["budgets"][0]["arms"][0]["figures"]["auroc"]["value"] > 0.5


def test_subgroups_are_told_where_the_table_has_them(done):
    document, _ = done
    assert {e["attribute"] for e in document["equality"]} == {"sex"}
    assert {e["arm"] for e in document["equality"]} == {"real", document["verdict"]["arm"]}


def test_validation_is_cut_from_training_where_the_table_has_none(tmp_path, tiny_extractor):
    table = write_table(tmp_path / "real.parquet", labels_of(80), ["train"] * 60 + ["val"] * 20)
    made = write_set(tmp_path / "set", labels_of(20))
    document = run(table, made, tmp_path / "out", test_split="val", allow_unproven=True,
                   arms=("mixed",))  # fmt: skip
    images = document["task"]["images"]
    assert images["test"]["all"] == 20
    assert images["train"]["all"] + images["validation"]["all"] == 60
    assert images["validation"]["all"] > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"arms": ("cutmix",)}, "no arm is called 'cutmix'"),
        ({"arms": ("real",)}, "no arm uses synthetic images"),
        ({"fractions": (0.0,)}, "fraction of 0"),
        ({"fractions": (), "shots": ()}, "give a fraction"),
        ({"sizes": (500,)}, "500 real images are asked for"),
        ({"folds": 1}, "1 folds"),
        ({"folds": 91}, "90 real images for 91 folds"),
        ({"where": {"eye": "left"}}, "no column 'eye'"),
        ({"test_split": "external"}, "no real image is of the split 'external'"),
    ],
)
def test_bad_settings_are_one_line(settings, said, table, synthetic, tiny_extractor, tmp_path):
    with pytest.raises(VesaliusError, match=said):
        run(table, synthetic, tmp_path / "out", **settings)
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_class_without_a_test_image_is_named(tmp_path, synthetic, tiny_extractor):
    labels = labels_of(70) + ["cyst"] * 10 + ["nodule"] * 10
    table = write_table(
        tmp_path / "t.parquet", labels, ["train"] * 50 + ["val"] * 20 + ["test"] * 20
    )
    with pytest.raises(VesaliusError, match="the class 'scar' has no test image"):
        run(table, synthetic, tmp_path / "out")


def test_a_top_up_of_even_classes_is_no_arm(tmp_path, tiny_extractor):
    table = write_table(tmp_path / "t.parquet", [*CLASSES] * 30,
                        ["train"] * 45 + ["val"] * 21 + ["test"] * 24)  # fmt: skip
    made = write_set(tmp_path / "set", labels_of(20))
    options = {"allow_unproven": True}
    with pytest.raises(VesaliusError, match="no arm has a synthetic image"):
        run(table, made, tmp_path / "out", arms=("minority",), **options)
    document = run(table, made, tmp_path / "out", arms=("minority", "synthetic"), **options)
    (left_out,) = document["budgets"][0]["left_out"]
    assert left_out == {"arm": "real+synthetic, minority", "same_as": "real",
                        "why": "every class has as many images"}  # fmt: skip


def test_results_are_not_overwritten_unasked(done, table, synthetic):
    _, out = done
    with pytest.raises(VesaliusError, match="holds results already"):
        run(table, synthetic, out)


def test_a_backbone_that_cannot_be_had_is_one_line(table, synthetic, tmp_path):
    with pytest.raises(VesaliusError, match="timm has no network"):
        run(table, synthetic, tmp_path / "out", backbone="resnet999")
    with pytest.raises(VesaliusError, match="for --tune full"):
        run(table, synthetic, tmp_path / "out", backbone="scratch:resnet18")


def test_a_folder_with_results_is_whole(tmp_path, monkeypatch):
    """They come into place last: killed before, the same command writes all of them again."""
    order = []

    @contextmanager
    def watched(path):
        with atomic_path(path) as temporary:
            yield temporary
        order.append(path.name)

    monkeypatch.setattr(outputs, "atomic_path", watched)
    monkeypatch.setattr(outputs, "utility_page", lambda *args, **options: "")
    monkeypatch.setattr(outputs, "_samples", lambda *args: [])
    monkeypatch.setattr(outputs, "predictions", lambda *args: pa.table({"seed": [0]}))
    outputs.write_outputs({}, None, [], {}, tmp_path, samples=0)
    assert order == ["predictions.parquet", "report.html", "results.json"]
