"""A whole run on tiny models: once through, stopped after each step, refused in time."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
from tests.augment.conftest import write_pairs

from vesalius.augment import run
from vesalius.augment.run import augment, estimate
from vesalius.augment.steps import STEPS
from vesalius.core.manifest import file_sha256, read_manifest
from vesalius.errors import VesaliusError
from vesalius.pairs.table import read_pairs


def stamps(out):
    return {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}


def test_everything_is_there_and_agrees(straight):
    out, record, told = straight
    assert len(told) == 1 + len(STEPS)
    answer = json.loads((out / "utility" / "results.json").read_text())
    assert record["verdict"] == answer["verdict"]
    assert record == json.loads((out / "augment.json").read_text())
    splits = read_pairs(out / "pairs.parquet").column("split")
    assert {name: splits.count(name) for name in set(splits)} == {
        name: of["all"] for name, of in record["division"]["images"].items()
    }
    rows = read_manifest(out / "set" / "manifest.jsonl")
    assert len(rows) == 12 and record["synthetic"]["images"] <= 12
    about = json.loads((out / "set" / "about.json").read_text())
    assert about["guarded"]
    assert all(check["status"] != "unproven" for check in answer["honesty"])
    assert list(record["steps"]) == [step.name for step in STEPS]
    assert not (out / ".work").exists()


def test_what_is_finished_is_not_done_again(straight, pairs, quick):
    out, record, _ = straight
    before, told = stamps(out), []
    assert augment(pairs, out, quick(), on_step=told.append).document == record
    assert stamps(out) == before
    assert told == []


def test_what_a_kill_left_in_the_last_moment_of_a_step_goes(straight, pairs, quick):
    out, _, _ = straight
    before = stamps(out)
    (out / "run" / "work.lock").touch()
    (out / "set" / ".work-0-of-1").mkdir()
    (out / "set" / ".work-0-of-1" / "work.lock").touch()
    augment(pairs, out, quick())
    assert stamps(out) == before and not (out / "set" / ".work-0-of-1").exists()


def test_the_hash_of_the_table_is_known_though_a_kill_came_before_it(
    straight, pairs, quick, tmp_path
):
    out = tmp_path / "out"
    shutil.copytree(straight[0], out)
    document = json.loads((out / "augment.json").read_text())
    del document["pairs_sha256"]
    (out / "augment.json").write_text(json.dumps(document | {"verdict": None}))
    augment(pairs, out, quick())
    again = json.loads((out / "augment.json").read_text())
    assert again["pairs_sha256"] == file_sha256(out / "pairs.parquet")


def test_readers_go_into_a_finished_report(straight, pairs, quick, tmp_path):
    done, _, _ = straight
    out = tmp_path / "out"
    shutil.copytree(done, out)
    rows = read_manifest(out / "set" / "manifest.jsonl")
    image = out / "set" / next(row["file"] for row in rows if row["file"])
    sha1 = hashlib.sha1(image.read_bytes()).hexdigest()
    place = {"task": "turing", "phase": "reading", "arm": "all"}
    said = {
        "status": "unproven",
        "message": "Not shown at all.",
        "task": "turing",
        "phase": "reading",
    }
    study = {
        "format": 1, "study": "s", "locked": "ab" * 32, "readers": [], "figures": [],
        "what": {"title": "T", "sets": [{"arm": "synthetic", "name": "set", "sha1": [sha1]}]},
        "sentences": [place | said],
    }  # fmt: skip
    results = tmp_path / "results.json"
    results.write_text(json.dumps(study))
    told = []
    augment(pairs, out, quick(study=results), on_step=told.append)
    assert told == []
    assert "Not shown at all." in (out / "report.html").read_text()
    results.write_text(json.dumps(study).replace(sha1, "0" * 40))
    with pytest.raises(VesaliusError, match="it is of another set"):
        augment(pairs, out, quick(study=results))


def stopping(step):
    """The same step, interrupted at its end."""

    def action(job):
        done = step.action(job)

        def stopped():
            done.run()
            raise KeyboardInterrupt

        return replace(done, run=stopped)

    return replace(step, action=action)


def check_goes_on(names, straight, out, run_again, monkeypatch):
    """Stopped after each step of `names`, a run goes on and comes to what `straight` came to."""
    with monkeypatch.context() as patch:
        patch.setattr(run, "STEPS", [stopping(s) if s.name in names else s for s in STEPS])
        before = stamps(out)
        for number, step in enumerate(STEPS, start=1):
            if step.name not in names:
                continue
            said = f"step {number} of {len(STEPS)}.*repeat the command"
            with pytest.raises(KeyboardInterrupt, match=said):
                run_again()
            now = stamps(out)
            kept = {p: t for p, t in before.items() if p.name != "augment.json"}
            assert {p: now[p] for p in kept} == kept, f"{step.name} did an earlier one again"
            assert not (out / "report.html").exists()
            before = now
    record = run_again().document
    straight_out, expected, _ = straight
    assert record["verdict"] == expected["verdict"]
    for name in ("pairs.parquet", "plan.csv", "utility/predictions.parquet"):
        assert file_sha256(out / name) == file_sha256(straight_out / name)
    return {step: each["starts"] for step, each in record["steps"].items()}


def test_stopped_after_a_step_it_comes_to_the_same(straight, pairs, quick, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(straight[0], out)
    for name in ("plan.csv", "report.html"):
        (out / name).unlink()
    shutil.rmtree(out / "utility")
    starts = check_goes_on(
        ["plan"], straight, out, lambda: augment(pairs, out, quick()), monkeypatch
    )
    again = {"plan", "utility"}
    assert starts == {s.name: 2 if s.name in again else 1 for s in STEPS}


@pytest.mark.slow
def test_stopped_after_every_step_it_comes_to_the_same(
    straight, pairs, quick, tmp_path, monkeypatch
):
    out, lines = tmp_path / "out", []
    starts = check_goes_on(
        [step.name for step in STEPS],
        straight,
        out,
        lambda: augment(pairs, out, quick(), on_step=lines.append),
        monkeypatch,
    )
    assert len(lines) == 1 + len(STEPS)
    assert starts == {step.name: 1 for step in STEPS}


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"seed": 1}, "was begun with seed 0, and now it is 1"), ({"seeds": 3}, "seeds 2")],
)
def test_other_settings_are_refused(straight, pairs, quick, changes, said):
    out, _, _ = straight
    before = stamps(out)
    with pytest.raises(VesaliusError, match=said):
        augment(pairs, out, quick(**changes))
    assert stamps(out) == before


def test_another_table_or_a_changed_one_is_refused(straight, quick, tmp_path):
    out, _, _ = straight
    other = write_pairs(tmp_path / "other.parquet", 60)
    with pytest.raises(VesaliusError, match="begun with another table"):
        augment(other, out, quick())


def test_a_division_that_was_edited_is_refused(straight, pairs, quick, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(straight[0], out)
    (out / "plan.csv").unlink()
    write_pairs(out / "pairs.parquet", 60)
    with pytest.raises(VesaliusError, match="changed since the first step"):
        augment(pairs, out, quick())


def test_restart_begins_anew_and_leaves_other_folders_alone(straight, pairs, quick, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(straight[0], out)
    (out / "notes.txt").write_text("mine")
    steps = []

    def stop(message):
        steps.append(message)
        if len(steps) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        augment(pairs, out, quick(seed=1, restart=True), on_step=stop)
    assert {p.name for p in out.iterdir()} == {"augment.json", "notes.txt", ".work"}
    for option in ({}, {"restart": True}):
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        (folder / "notes.txt").write_text("mine")
        with pytest.raises(VesaliusError, match=r"augment\.json"):
            augment(pairs, folder, quick(**option))
        assert [p.name for p in folder.iterdir()] == ["notes.txt"]


@pytest.fixture
def wary(base, tmp_path):
    """Makes a base model that says it has seen these images."""

    def make(keys):
        folder = tmp_path / "seen"
        shutil.copytree(base, folder)
        rows = [{"sha1": key, "group": "", "source": ""} for key in keys]
        (folder / "training_rows.json").write_text(json.dumps(rows))
        return str(folder)

    return make


def test_a_base_model_that_has_seen_test_images_is_refused(pairs, quick, wary, tmp_path):
    model = wary(read_pairs(pairs).column("sha1"))
    out = tmp_path / "out"
    with pytest.raises(
        VesaliusError, match=r"nothing was trained with .*: 19 of 19 test images"
    ) as caught:
        augment(pairs, out, quick(model=model))
    assert "\n" not in str(caught.value)
    assert not out.exists()
    with pytest.raises(VesaliusError, match="nothing was trained"):
        estimate(pairs, out, quick(model=model))
    lines = estimate(pairs, out, quick(model=model, allow_unproven=True)).facts
    assert any("test images" in line for line in lines.values())


def test_a_base_model_that_tells_nothing_is_refused(pairs, quick, tiny_flow, tmp_path):
    with pytest.raises(VesaliusError, match="not known"):
        estimate(pairs, tmp_path / "out", quick(model=str(tiny_flow)))


def test_what_would_fail_late_is_told_at_once(pairs, quick, tmp_path):
    out = tmp_path / "out"
    few = write_pairs(tmp_path / "few.parquet", 20, ["train"] * 16 + ["val"] * 2 + ["test"] * 2)
    patients = ["one"] * 20
    shared = write_pairs(
        tmp_path / "shared.parquet", 20, ["train", "val", "test", "train"] * 5, groups=patients
    )
    for table, changes, said in (
        (few, {}, "has no (validation|test) image"),
        (shared, {}, "one group is on two sides"),
        (pairs, {"backbone": "missing"}, "missing cannot be had"),
        (pairs, {"extractors": ("missing",)}, "missing cannot be had"),
        (pairs, {"model": "nowhere/at/all"}, "no folder"),
        (pairs, {"overrides": ("lora.rnk=2",)}, "rank"),
        (pairs, {"label": "diagnosis"}, "no column 'diagnosis'"),
        (pairs, {"label": "source"}, "one class only"),
        (pairs, {"where": {"label": "mumps"}}, "no image with a label, label=mumps"),
        (pairs, {"split": "test=0.2"}, "give both val and test"),
        (tmp_path / "none.parquet", {}, "no pairs table"),
    ):
        settings = replace(quick(), images_seen=None, overrides=())
        with pytest.raises(VesaliusError, match=said) as caught:
            augment(table, out, replace(settings, **changes))
        assert "\n" not in str(caught.value)
        assert not out.exists()


def test_a_dry_run_writes_nothing_and_says_what_would_be_done(straight, pairs, quick):
    out, before = straight[0], hashlib.sha256(pairs.read_bytes()).hexdigest()
    files = stamps(out)
    lines = estimate(pairs, out, quick()).facts
    assert stamps(out) == files
    assert hashlib.sha256(pairs.read_bytes()).hexdigest() == before
    assert lines["to train"].startswith("5")
    assert lines["method"].startswith("lora: 5") and "fewer than 1,000" in lines["method"]
    assert lines["makes"].startswith("12 images")
    assert all("done already" in lines[f"step {n}"] for n in range(1, len(STEPS) + 1))


def test_a_dry_run_without_training_says_so(pairs, quick, tmp_path):
    settings = quick(method="none", images_seen=None, overrides=())
    facts = estimate(pairs, tmp_path / "out", settings).facts
    assert facts["step 2"] == "fine-tune the generator: not with method none"


def test_a_set_that_the_guard_empties_stops_with_one_line(pairs, quick, tiny_flow, tmp_path):
    # its random weights draw blank images
    untrained = {"method": "none", "images_seen": None, "overrides": ()}
    settings = quick(model=str(tiny_flow), allow_unproven=True, **untrained)
    for _ in range(2):  # the second time, the set is there already
        with pytest.raises(VesaliusError, match="guard rejected all"):
            augment(pairs, tmp_path / "out", settings)
    assert not (tmp_path / "out" / "evidence").exists()


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("method", ["full", "textual-inversion", "lora a label", "none"])
def test_every_method_comes_to_an_answer_that_is_proven(pairs, quick, tmp_path, method):
    more = {"images_seen": None, "overrides": ()} if method == "none" else {}
    if method == "textual-inversion":  # its tokens must fit the tiny text encoder's window
        more = {"overrides": ("optimisation.precision=float32", "embedding.vectors=2")}
    if method == "lora a label":
        method, more = "lora", {"overrides": ("optimisation.precision=float32", "per=label")}
    record = augment(pairs, tmp_path / "out", quick(method=method, **more)).document
    assert record["verdict"]["headline"]
    answer = json.loads((tmp_path / "out" / "utility" / "results.json").read_text())
    assert answer["unproven"] == []
    prompts = {row["prompt"] for row in read_manifest(tmp_path / "out" / "set" / "manifest.jsonl")}
    words = "<{}>" if method == "textual-inversion" else "picture of a {}"
    assert prompts == {words.format(name) for name in ("cyst", "nodule", "scar")}
    rows = read_manifest(tmp_path / "out" / "set" / "manifest.jsonl")
    if method in ("lora", "textual-inversion"):  # each by the adapter of its label, and no other
        assert {(row["label"], row["adapters"].partition(" (")[0]) for row in rows} == {
            (name, name) for name in ("cyst", "nodule", "scar")
        }
    again = augment(pairs, tmp_path / "out", quick(method=method, **more)).document
    assert again == record
