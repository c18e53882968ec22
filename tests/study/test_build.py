"""From a table and sets to the folder of a study, and what is refused."""

import hashlib
import json
import os
import stat
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.study.phantoms import LABELS, jpeg, phantom, png, write_pairs, write_set

from vesalius.core.trained_on import digest_of
from vesalius.errors import VesaliusError
from vesalius.study.build import build
from vesalius.study.database import Reader, create
from vesalius.study.key import read_items, read_trials
from vesalius.study.layout import Layout
from vesalius.study.protocol import read_protocol, write_protocol
from vesalius.study.settings import BuildSettings, DesignSettings, ImageSettings

ALL = ("turing", "pair", "quality", "alignment", "diagnosis")


def settings(tasks=("turing",), trials=20, images=None, **design):
    values = {"fakes": 2, "training": 2, "readers": "3"} | design
    return BuildSettings(
        DesignSettings(tasks=tasks, trials=trials, **values), ImageSettings(**(images or {}))
    )


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("real") / "pairs.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("made") / "set")


@pytest.fixture(scope="module")
def built(pairs, made, tmp_path_factory):
    """A study of all tasks."""
    out = tmp_path_factory.mktemp("studies") / "study"
    return build(pairs, {"mine": made}, out, settings(ALL))


def test_the_folder(built):
    layout = Layout(built.folder)
    items, trials = read_items(layout.key), read_trials(layout.key_trials)
    assert {path.stem for path in layout.images.iterdir()} == {item.item for item in items}
    assert all(len(item.item) == 32 for item in items)
    for path in (layout.key, layout.key_trials):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len({path.stat().st_size for path in layout.images.iterdir()}) == 1
    assert Counter(item.arm for item in items) == built.images
    shown = {name for trial in trials for name in trial.items.split(",")}
    assert shown <= {item.item for item in items}
    assert len(trials) == built.trials
    assert "3 readers; next: vesalius study check" in repr(built)
    document = json.loads(layout.build.read_text())
    assert document["excluded"] == {"real": {"another image of the patient takes part": 6}}
    assert not any(item.item in layout.build.read_text() for item in items)


def test_images_are_matched_one_a_patient_and_apart(built):
    layout = Layout(built.folder)
    items = {item.item: item for item in read_items(layout.key)}
    trials = read_trials(layout.key_trials)
    groups = [item.group for item in items.values() if item.arm == "real"]
    assert len(groups) == len(set(groups))
    training = {n for t in trials if t.kind == "training" for n in t.items.split(",")}
    others = {n for t in trials if t.kind != "training" for n in t.items.split(",")}
    assert training and not training & others
    for task in ALL:
        mine = [t for t in trials if t.task == task and t.reader == "R1" and t.kind == "scored"]
        assert len({t.items for t in mine}) == len(mine) == 20
        if task == "pair":
            for trial in mine:
                left, right = (items[name] for name in trial.items.split(","))
                real, other = (left, right) if trial.truth == "left" else (right, left)
                assert (real.arm, other.arm, real.matched) == ("real", "synthetic", other.item)
                assert (real.label, real.prompt) == (other.label, other.prompt)
        else:
            shown = [items[t.items] for t in mine]
            assert Counter(one.arm for one in shown) == {"real": 10, "synthetic": 10}
            assert Counter(one.label for one in shown) == {label: 10 for label in LABELS}
            truths = {"turing": lambda i: i.arm, "diagnosis": lambda i: i.label}
            truth = truths.get(task, lambda i: "")
            assert all(t.truth == truth(items[t.items]) for t in mine)
    fakes = [t for t in trials if t.kind == "fake"]
    assert {t.task for t in fakes} == {"turing", "pair", "quality"}
    assert all(items[n].arm in ("fake", "real") for t in fakes for n in t.items.split(","))


def test_the_same_seed_draws_the_same_images_in_the_same_order(built, pairs, made, tmp_path):
    again = build(pairs, {"mine": made}, tmp_path / "again", settings(ALL))

    def orders(folder):
        layout = Layout(folder)
        source = {item.item: (item.arm, item.source) for item in read_items(layout.key)}
        return [
            (t.reader, t.position, t.kind, [source[n] for n in t.items.split(",")], t.truth)
            for t in read_trials(layout.key_trials)
        ]

    assert orders(again.folder) == orders(built.folder)
    names = [
        {path.name for path in Layout(f).images.iterdir()} for f in (again.folder, built.folder)
    ]
    assert not names[0] & names[1]
    other = build(pairs, {"mine": made}, tmp_path / "other", settings(ALL, seed=1))
    assert orders(other.folder) != orders(built.folder)


def test_a_set_each_is_an_arm(pairs, made, tmp_path):
    second = write_set(tmp_path / "second", seed=9)
    found = build(pairs, {"a": made, "b": second}, tmp_path / "study", settings(("turing", "pair")))
    assert found.images.keys() == {"real", "synthetic:a", "synthetic:b", "fake"}
    trials = read_trials(Layout(found.folder).key_trials)
    arm = {item.item: item.arm for item in read_items(Layout(found.folder).key)}
    mine = [t for t in trials if (t.reader, t.task, t.kind) == ("R2", "turing", "scored")]
    counts = Counter(arm[t.items] for t in mine)
    assert counts == {"real": 10, "synthetic:a": 5, "synthetic:b": 5}


def test_real_images_through_an_autoencoder_are_an_arm(pairs, made, tiny_flow, tmp_path):
    asked = settings(images={"reconstruct": str(tiny_flow), "device": "cpu"})
    found = build(pairs, {"mine": made}, tmp_path / "study", asked)
    layout = Layout(found.folder)
    items = read_items(layout.key)
    rebuilt = [item for item in items if item.arm == "reconstructed"]
    real = {item.group for item in items if item.arm == "real"}
    assert len(rebuilt) >= 5
    assert not {item.group for item in rebuilt} & real  # of other patients than those shown
    truth = {t.items: t.truth for t in read_trials(layout.key_trials) if t.task == "turing"}
    assert {truth[item.item] for item in rebuilt if item.item in truth} == {"synthetic"}


def test_views_agree_where_all_arms_know_them(tmp_path):
    def view(k):
        return "lateral" if k % 4 < 2 else "frontal"

    real = write_pairs(tmp_path / "pairs.parquet", view=view)
    synthetic = write_set(tmp_path / "set", view=view)
    found = build(real, {"mine": synthetic}, tmp_path / "study", settings())
    items = {item.item: item for item in read_items(Layout(found.folder).key)}
    seen = [item for item in items.values() if item.arm == "real" and item.matched]
    assert all(item.view == items[item.matched].view for item in seen)
    assert {json.loads(item.view)["view"] for item in seen} == {"lateral", "frontal"}


def test_grey_stays_grey_on_both_arms_and_a_jpeg_is_for_all(tmp_path):
    real = write_pairs(tmp_path / "pairs.parquet", encode=jpeg)
    coloured = write_set(tmp_path / "set", change=lambda p: ImageOps.colorize(p, "black", "pink"))
    found = build(real, {"mine": coloured}, tmp_path / "study", settings())
    pixels = found.protocol.pixels
    assert (pixels.grey, pixels.lossy, pixels.quality) == (True, True, 60)
    for path in Layout(found.folder).images.iterdir():
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (pixels.width, pixels.height))


def test_an_edited_protocol_decides_the_design(built, pairs, made, tmp_path):
    edited = tmp_path / "edited.yaml"
    text = Layout(built.folder).protocol.read_text().replace("trials: 20", "trials: 12")
    edited.write_text(text.replace("name: R3", "name: Ann"))
    found = build(pairs, {"mine": made}, tmp_path / "study", BuildSettings(protocol=edited))
    assert [reader.name for reader in found.protocol.readers] == ["R1", "R2", "Ann"]
    assert {task.trials for task in read_protocol(Layout(found.folder).protocol).tasks} == {12}
    assert found.protocol.seed == built.protocol.seed
    write_protocol(edited, found.protocol)
    edited.write_text(edited.read_text().replace("- effusion\n", "- other\n"))
    with pytest.raises(VesaliusError, match="offers no diagnosis 'effusion'"):
        build(pairs, {"mine": made}, tmp_path / "no", BuildSettings(protocol=edited))


def test_copies_and_rejected_images_are_left_out_and_counted(pairs, tmp_path):
    folder = write_set(tmp_path / "set")
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    rng = np.random.default_rng(1)  # the first images of the table
    originals = [phantom(LABELS[k % 2], rng) for k in range(60)]
    for k in range(10):  # mirrored and resized copies of what may be drawn as real
        copy = ImageOps.mirror(originals[10 + k]).resize((64, 64))
        (folder / rows[k]["file"]).write_bytes(png(copy))
    rows[5]["rejected"] = [{"seed": 1, "reason": "near-copy"}]
    rows.append({"file": None, "row": 99, "label": "normal", "rejected": [{"reason": "near-copy"}]})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = build(pairs, {"mine": folder}, tmp_path / "study", settings(trials=50))
    assert found.excluded["synthetic"]["rejected by the guard: near-copy"] == 2
    nearly = found.excluded["synthetic"].get("nearly repeats another real image of the study", 0)
    sources = [i.source for i in read_items(Layout(found.folder).key) if i.arm == "synthetic"]
    copied = {f"mine:{rows[k]['file']}" for k in range(10)}
    assert nearly >= 1
    assert len(copied & set(sources)) + nearly <= 10


def test_patients_that_a_generator_has_seen_are_left_out(pairs, tmp_path):
    folder = write_set(tmp_path / "set")
    (folder / "about.json").write_text(json.dumps({"training_rows": {"model": digest_of(["x"])}}))
    listed = tmp_path / "training_rows.json"
    rows = [{"sha1": "x", "group": None, "source": "chest"}]
    listed.write_text(json.dumps(rows))
    asked = settings(images={"learned_from": (str(listed),)})
    found = build(pairs, {"mine": folder}, tmp_path / "a", asked)
    assert "its patient was trained on" not in found.excluded["real"]
    assert not any("nobody says" in warning for warning in found.warnings)
    rows.append({"sha1": "y", "group": "chest/p7", "source": "chest"})
    listed.write_text(json.dumps(rows))
    about = {"training_rows": {"model": digest_of(["x", "y"])}}
    (folder / "about.json").write_text(json.dumps(about))
    found = build(pairs, {"mine": folder}, tmp_path / "b", asked)
    assert found.excluded["real"]["its patient was trained on"] == 1
    assert "chest/p7" not in {i.group for i in read_items(Layout(found.folder).key)}


def test_an_unknown_generator_is_warned_of(built):
    assert any("nobody says what the model behind mine learned" in w for w in built.warnings)


def test_training_rows_only_where_they_are_asked_for(made, tmp_path):
    real = write_pairs(tmp_path / "p.parquet", split=lambda k: "test" if k < 6 else "train")
    with pytest.raises(VesaliusError, match=r"needs 10 real images .* is possible"):
        build(real, {"mine": made}, tmp_path / "study", settings())
    asked = settings(images={"splits": ("test", "train")})
    found = build(real, {"mine": made}, tmp_path / "study", asked)
    assert "training images take part as real ones, as --splits says" in found.warnings


def other_labels(folder):
    write_set(folder)
    manifest = folder / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"normal"', '"fracture"').replace('"effusion"', '"mass"'))  # fmt: skip
    return folder


def two_sides(path):
    return write_pairs(path, split=lambda k: "test", group=lambda k: f"p{k // 2}")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (settings(trials=200), "needs 100 real .* 39 can be matched .*--trials 78 is possible"),
        (settings(ALL, trials=60, images={"reuse": False}), "and more with --reuse"),
        (settings(images={"sources": ("eyes",)}), "no image of .* is of the source 'eyes'"),
        (settings(images={"where": {"sex": "f"}}), "has no column 'sex'"),
        (settings(images={"splits": ("fold9",)}), r"splits fold9 \(test 40, val 20\)"),
        (settings(images={"size": "3"}), "--size '3': give pixels"),
    ],
)
def test_what_is_not_possible_is_one_line(pairs, made, tmp_path, asked, message):
    with pytest.raises(VesaliusError, match=message) as refused:
        build(pairs, {"mine": made}, tmp_path / "study", asked)
    assert "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == []


def test_sets_that_do_not_go_together_are_one_line(pairs, made, tmp_path):
    with pytest.raises(
        VesaliusError, match="no label is common to all arms: real effusion, normal"
    ):
        build(pairs, {"mine": other_labels(tmp_path / "other")}, tmp_path / "a", settings())
    real = write_pairs(
        tmp_path / "p.parquet", split=lambda k: "test" if k % 4 else "train", group=lambda k: f"p{k // 2}"
    )  # fmt: skip
    with pytest.raises(VesaliusError, match="one group is on two sides, 'p"):
        build(real, {"mine": made}, tmp_path / "b", settings())
    with pytest.raises(VesaliusError, match="--synthetic"):
        build(pairs, {}, tmp_path / "c", settings())

    def said(image):
        from vesalius.images.encode import encode_image

        return encode_image(np.asarray(image), {"synthetic": True, "prompt": "x"})

    lying = write_pairs(tmp_path / "q.parquet", encode=said)
    with pytest.raises(VesaliusError, match="say inside that they are synthetic"):
        build(lying, {"mine": made}, tmp_path / "d", settings())


def test_damaged_images_are_left_out(pairs, tmp_path):
    folder = write_set(tmp_path / "set")
    for k in range(3):
        (folder / f"images/{k:03d}.png").write_bytes(b"no image")
    found = build(pairs, {"mine": folder}, tmp_path / "study", settings(trials=72))
    assert found.excluded["synthetic"]["cannot be read"] >= 1
    sources = {item.source for item in read_items(Layout(found.folder).key)}
    assert not sources & {f"mine:images/{k:03d}.png" for k in range(3)}


def test_gross_fakes_are_made_of_images_that_can_be_read(made, tmp_path):
    """Those of a split that nothing is drawn from are taken first."""

    def split(k):
        return "val" if k < 8 else "test"

    calls = iter(range(60))
    pairs = write_pairs(
        tmp_path / "pairs.parquet", split=split,
        encode=lambda picture: png(picture) if next(calls) >= 6 else b"no image",
    )  # fmt: skip
    asked = settings(fakes=2, images={"splits": ("test",)})
    found = build(pairs, {"mine": made}, tmp_path / "study", asked)
    assert found.images["fake"] == 2


def test_a_study_whose_readers_have_read_is_not_replaced_without_its_lock(pairs, made, tmp_path):
    out = tmp_path / "study"
    build(pairs, {"mine": made}, out, settings())
    create(Layout(out).database, [], [], [Reader("R1", token_hash="0")], {"study": "s"})
    with pytest.raises(VesaliusError, match=r"links .* protocol\.lock\.json is missing"):
        build(pairs, {"mine": made}, out, replace(settings(), overwrite=True))
    assert Layout(out).database.exists()


def test_an_unaware_study_has_no_title_that_tells(pairs, made, tmp_path):
    asked = settings(("quality",), unaware_first=True)
    found = build(pairs, {"mine": made}, tmp_path / "real-or-synthetic", asked)
    assert found.protocol.title == "Medical images"
    assert "title" not in found.protocol.design()


def test_a_study_is_not_replaced_unasked(built, pairs, made):
    with pytest.raises(VesaliusError, match="exists already"):
        build(pairs, {"mine": made}, built.folder, settings())


def test_the_command_says_what_is_next(run_cli, pairs, made, tmp_path):
    code, out, err = run_cli(
        "study", "build", "--real", pairs, "--synthetic", f"mine={made}", "--out", tmp_path / "s",
        "--trials", 20, "--readers", "Ann:chest,Bob", "--fakes", 2,
    )  # fmt: skip
    assert code == 0
    assert "trials of 2 readers; next: vesalius study check" in out
    assert err.startswith("warning: nobody says")
    refused = ["--tasks", "reading"], ["--trials", 3], ["--readers", "0"], ["--repeats", "2"]
    for wrong in refused:
        code, out, err = run_cli(
            "study", "build", "--real", pairs, "--synthetic", made, "--out", tmp_path / "t", *wrong
        )
        assert (code, out, err.count("\n")) == (2, "", 1)


def test_hashes_are_those_of_the_sources(built, made):
    known = {hashlib.sha1(path.read_bytes()).hexdigest() for path in (made / "images").iterdir()}
    items = read_items(Layout(built.folder).key)
    assert {i.sha1 for i in items if i.arm == "synthetic"} <= known
