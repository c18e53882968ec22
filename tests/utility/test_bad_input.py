"""Input that cannot be judged honestly: the command says in one line what to do, and exits with 2."""

import shutil

import pytest
from tests.utility.conftest import labels_of, write_set, write_table

SPLITS = ["train"] * 50 + ["val"] * 20 + ["test"] * 20


@pytest.fixture
def asked(run_cli, tmp_path, tiny_extractor):
    """Runs the real command; it must leave nothing behind."""

    def run(real, synthetic, *more):
        code, out, err = run_cli("utility", "--real", real, "--synthetic", synthetic, "--out",
                                 tmp_path / "out", "--allow-unproven", "--device", "cpu", *more)  # fmt: skip
        assert code == 2 and not out
        assert not list(tmp_path.glob("out/results.json"))
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and "Traceback" not in err
        return errors[0]

    return run


@pytest.fixture
def made(tmp_path):
    return write_set(tmp_path / "set", labels_of(20))


def test_a_class_without_a_validation_or_test_image(asked, made, tmp_path):
    sides = labels_of(50), labels_of(20), ["cyst"] * 10 + ["nodule"] * 10
    table = write_table(tmp_path / "a.parquet", [*sides[0], *sides[1], *sides[2]], SPLITS)
    assert "the class 'scar' has no test image: divide the table again" in asked(table, made)
    table = write_table(tmp_path / "b.parquet", [*sides[0], *sides[2], *sides[1]], SPLITS)
    assert "the class 'scar' has no validation image" in asked(table, made)


def test_a_group_on_two_sides(asked, made, tmp_path):
    groups = [f"p{k}" for k in range(89)] + ["p0"]
    table = write_table(tmp_path / "t.parquet", labels_of(90), SPLITS, groups=groups)
    assert "one group is on two sides, the group p0" in asked(table, made)


def test_a_set_without_a_manifest_or_with_a_strange_label(asked, made, table, tmp_path):
    strange = shutil.copytree(made, tmp_path / "strange") / "manifest.jsonl"
    strange.write_text(strange.read_text().replace('"label": "cyst"', '"label": "polyp"'))
    assert "the label 'polyp', which no real image has" in asked(table, strange.parent)
    (made / "manifest.jsonl").unlink()
    assert "no synthetic set with a manifest.jsonl" in asked(table, made)


def test_about_json_that_is_damaged(asked, made, table):
    (made / "about.json").write_text("{")
    assert "about.json" in asked(table, made)


def test_fewer_images_than_folds(asked, made, table):
    assert "90 real images for 91 folds: take fewer folds" in asked(table, made, "--folds", 91)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--backbone", "scratch:resnet999", "--tune", "full"), "timm has no network"),
        (("--backbone", "clip:no/where", "--tune", "full"), "not in the hub's cache"),
        (("--tune", "half"), "'half' is not one of"),
        (("--shots", "1.5"), "whole number"),
        (("--ratios", "nan"), "not above 0"),
        (("--lr", "-1"), "lr is -1"),
        (("--side", "0"), "side is 0"),
        (("--hidden", "-3"), "hidden is -3"),
        (("--samples", "-1"), "samples is -1"),
        (("--trained-on", "nothing"), "no run with a training_rows.json"),
    ],
)
def test_settings_that_cannot_be(more, said, asked, made, table):
    assert said in asked(table, made, *more)
