"""What would make the answer a lie stops the experiment, or stands at the top of its report."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps
from tests.utility.conftest import (
    digest,
    drawn,
    labels_of,
    png,
    write_set,
    write_table,
)

from vesalius.errors import VesaliusError
from vesalius.images.crossing import crossing
from vesalius.images.encode import encode_image
from vesalius.pairs.trained_on import read_trained_on
from vesalius.utility.folds import divide
from vesalius.utility.leakage import check_all
from vesalius.utility.pool import make_pool, read_real, read_synthetic

SPLITS = ["train"] * 50 + ["val"] * 20 + ["test"] * 20


def checked(table, made, *, seen=(), allow_unproven=False):
    real = read_real(table, {}, "label")
    pool = make_pool(real, [read_synthetic(made, real, "label")])
    folds, _ = divide(pool, test_split="test", folds=0, seed=0)
    given = [one for path in seen for one in read_trained_on(path)]
    return check_all(pool, folds, given, allow_unproven=allow_unproven)


def statuses(checks):
    return [(check.what, check.status) for check in checks]


def keys_of(table, *splits):
    rows = pq.read_table(table, columns=["sha1", "split", "group"]).to_pylist()
    return [row for row in rows if row["split"] in splits]


def test_a_set_that_names_its_training_rows_is_proven(table, synthetic):
    _, checks = checked(table, synthetic)
    assert ("generator", "holds") in statuses(checks)
    assert all(status == "holds" for _, status in statuses(checks))


def test_an_unknown_generator_is_refused_and_flagged_on_demand(table, tmp_path):
    made = write_set(tmp_path / "made", labels_of(20), about={"training_rows": {"model": None}})
    with pytest.raises(VesaliusError, match="--trained-on") as stopped:
        checked(table, made)
    assert "--allow-unproven" in str(stopped.value)
    _, checks = checked(table, made, allow_unproven=True)
    assert ("generator", "unproven") in statuses(checks)


def test_what_the_user_states_is_told_apart_from_what_is_proven(table, tmp_path):
    made = write_set(tmp_path / "made", labels_of(20))  # `vesalius generate` writes no about.json
    _, checks = checked(table, made, seen=[table])
    assert ("generator", "stated") in statuses(checks)


def test_a_list_that_is_not_what_the_set_names_proves_nothing(table, tmp_path):
    other = tmp_path / "training_rows.json"
    other.write_text(json.dumps([{"sha1": "00", "group": "x", "source": ""}]))
    about = {"training_rows": {"model": digest(["11"]), "adapters": []}}
    made = write_set(tmp_path / "made", labels_of(20), about=about)
    with pytest.raises(VesaliusError, match="is not known"):
        checked(table, made, seen=[other])


def test_every_adapter_must_be_known_too(table, tmp_path, proven):
    proven["training_rows"]["adapters"] = [digest(["11"])]
    proven["adapters"] = ["few-shot (0123) * 1"]
    made = write_set(tmp_path / "made", labels_of(20), about=proven)
    with pytest.raises(VesaliusError, match=r"the adapter few-shot \(0123\)"):
        checked(table, made)
    run = tmp_path / "run"
    run.mkdir()
    (run / "training_rows.json").write_text(json.dumps([{"sha1": "11", "group": "q"}]))
    _, checks = checked(table, made, seen=[run])
    assert statuses(checks).count(("generator", "holds")) == 2
    assert any("near-copies were not looked for" in check.message for check in checks)


@pytest.mark.parametrize("by", ["sha1", "group"])
def test_a_test_image_or_patient_that_the_generator_saw_is_refused(by, table, tmp_path):
    train, test = keys_of(table, "train"), keys_of(table, "test")
    extra = {"sha1": "ff", "group": ""} | {by: test[0][by]}
    rows = tmp_path / "training_rows.json"
    rows.write_text(json.dumps([*train, extra]))
    about = {"training_rows": {"model": digest([r["sha1"] for r in [*train, extra]])}}
    made = write_set(tmp_path / "made", labels_of(20), about=about)
    with pytest.raises(VesaliusError, match="1 of 20 test images, or others of their groups"):
        checked(table, made, seen=[rows])


def test_validation_images_that_the_generator_saw_are_told(table, tmp_path):
    seen = keys_of(table, "train", "val")
    rows = tmp_path / "training_rows.json"
    rows.write_text(json.dumps(seen))
    about = {"training_rows": {"model": digest([r["sha1"] for r in seen])}}
    _, checks = checked(table, write_set(tmp_path / "m", labels_of(20), about=about), seen=[rows])
    assert any("20 of the 20 validation images" in c.message for c in checks)


def test_a_group_on_two_sides_is_refused(tmp_path, synthetic):
    groups = [f"p{k}" for k in range(90)]
    groups[-1] = groups[0]
    table = write_table(tmp_path / "cut.parquet", labels_of(90), SPLITS, groups=groups)
    with pytest.raises(VesaliusError, match="one group is on two sides, the group p0"):
        checked(table, synthetic)


def test_a_synthetic_image_among_the_test_images_is_refused(tmp_path, synthetic):
    labels, rng = labels_of(90), np.random.default_rng(0)
    images = [png(drawn(rng, label)) for label in labels]
    images[-1] = encode_image(drawn(rng, "cyst"), {"synthetic": True})
    table = write_table(tmp_path / "mixed.parquet", labels, SPLITS, images=images)
    with pytest.raises(VesaliusError, match="judged on real images only"):
        checked(table, synthetic)


def test_training_images_that_repeat_test_images_are_left_out(tmp_path):
    labels, rng = labels_of(90), np.random.default_rng(0)
    pixels = [drawn(rng, label) for label in labels]
    pixels[0] = np.asarray(ImageOps.mirror(Image.fromarray(pixels[80])))  # train, of a test image
    table = write_table(tmp_path / "t.parquet", labels, SPLITS, images=[png(p) for p in pixels])
    stream = io.BytesIO()
    Image.fromarray(pixels[85]).save(stream, "JPEG", quality=60)
    copied = np.asarray(Image.open(stream).convert("RGB"))
    images = [copied, *(drawn(rng, label) for label in labels_of(20)[1:])]
    made = write_set(tmp_path / "made", labels_of(20), images=images)
    folds, checks = checked(table, made, allow_unproven=True)
    assert 0 not in folds[0].train and len(folds[0].train) == 49
    assert 90 not in folds[0].synthetic and len(folds[0].synthetic) == 19
    assert len(folds[0].test) == 20  # never the test images
    assert any("1 real and 1 synthetic training images" in check.message for check in checks)


def test_a_copy_of_a_test_image_that_the_generator_saw_is_refused(tmp_path):
    labels, rng = labels_of(90), np.random.default_rng(0)
    pixels = [drawn(rng, label) for label in labels]
    pixels[3] = np.asarray(ImageOps.flip(Image.fromarray(pixels[88])))
    table = write_table(tmp_path / "t.parquet", labels, SPLITS, images=[png(p) for p in pixels])
    made = write_set(tmp_path / "made", labels_of(20))
    with pytest.raises(VesaliusError, match="1 of 20 test images nearly repeat"):
        checked(table, made, seen=[table])


def test_crossing_pairs_do_not_chain():
    rng = np.random.default_rng(5)
    first, other = drawn(rng, "cyst"), drawn(rng, "scar")
    files = [png(first), png(np.rot90(first)), png(other), png(other)]
    assert crossing(files.__getitem__, [0, 2], [1, 3], {}) == [(0, 1), (2, 3)]
    assert crossing(files.__getitem__, [0], [2, 3], {}) == []


def test_a_set_without_a_manifest_is_refused(table, tmp_path):
    (tmp_path / "bare").mkdir()
    with pytest.raises(VesaliusError, match=r"with a manifest\.jsonl"):
        checked(table, tmp_path / "bare")


def test_a_label_that_no_real_image_has_is_refused(table, tmp_path):
    made = write_set(tmp_path / "made", ["cyst"] * 3)
    rows = (made / "manifest.jsonl").read_text().replace('"label": "cyst"', '"label": "polyp"')
    (made / "manifest.jsonl").write_text(rows)
    with pytest.raises(VesaliusError, match="label 'polyp', which no real image has"):
        checked(table, made)


def test_a_set_without_labels_takes_those_of_its_prompts(table, tmp_path):
    made = write_set(tmp_path / "made", ["cyst", "scar"])
    rows = [json.loads(line) for line in (made / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        del row["label"]
    (made / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    real = read_real(table, {}, "label")
    assert read_synthetic(made, real, "label").labels == ["cyst", "scar"]


def test_rows_of_another_source_are_left_out_of_both(table, tmp_path):
    made = write_set(tmp_path / "made", ["cyst", "scar"])
    rows = [json.loads(line) for line in (made / "manifest.jsonl").read_text().splitlines()]
    rows[0]["source"], rows[1]["source"] = "drawn", "elsewhere"
    (made / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    real = read_real(table, {"source": "drawn"}, "label")
    assert read_synthetic(made, real, "label", {"source": "drawn"}).labels == ["cyst"]


def test_an_image_that_was_trained_on_twice_counts_twice(tmp_path):
    rows = tmp_path / "training_rows.json"
    rows.write_text(json.dumps([{"sha1": "11", "group": "a"}, {"sha1": "11", "group": None}]))
    assert read_trained_on(rows)[0].digest == digest(["11", "11"]) != digest(["11"])


def test_where_no_patient_is_known_no_patient_is_counted(table, synthetic, tmp_path):
    whole = pq.read_table(table)
    own = [f"{row['source']}/{row['sha1']}" for row in whole.to_pylist()]
    unknown = whole.set_column(whole.column_names.index("group"), "group", [own])
    pq.write_table(unknown, tmp_path / "unknown.parquet")
    _, checks = checked(tmp_path / "unknown.parquet", synthetic, allow_unproven=True)
    (check,) = [check for check in checks if check.what == "sides"]
    assert check.status == "note"
    assert "40 images of an unknown number of patients" in check.message
    _, checks = checked(table, synthetic)
    assert "of their" in next(check.message for check in checks if check.what == "sides")
