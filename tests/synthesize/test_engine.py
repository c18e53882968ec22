"""No image of a plan is lost, made twice or torn, whoever makes it and whatever happens to them."""

import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.small import private_card

from vesalius.core.manifest import file_sha256, read_manifest
from vesalius.core.privacy_card import cards_of_set
from vesalius.core.trained_on import parts_of
from vesalius.errors import VesaliusError
from vesalius.images.pixels import open_rgb
from vesalius.images.provenance import read_provenance
from vesalius.images.stored_images import loads
from vesalius.models import device
from vesalius.models.adapters import add_lora, lora_tensors, save_lora
from vesalius.models.generator import load_generator
from vesalius.pairs.build import PairsSettings, build_pairs
from vesalius.pairs.table import read_pairs
from vesalius.sample.generate import TextToImage, load
from vesalius.synthesize import claim, engine, stores, worker
from vesalius.synthesize.claim import claimed
from vesalius.synthesize.finish import Counts
from vesalius.synthesize.guard import Verdict, derived_seed
from vesalius.synthesize.plan import PlanRow, write_plan
from vesalius.synthesize.settings import SynthesizeSettings
from vesalius.synthesize.shards import Shard

LABELS = ("nodule", "effusion")
EVENTS = ("on_progress", "on_warning")


def synthesize(rows, out, **options):
    """With a loaded model or judge, or one by name among the settings."""
    loaded = {
        name: options.pop(name)
        for name in ("model", "guard")
        if not isinstance(options.get(name, ""), str | Path)
    }
    events = {name: options.pop(name) for name in EVENTS if name in options}
    return engine.synthesize(rows, out, SynthesizeSettings(**options), **loaded, **events)


def plan(rows: int = 20, **settings) -> list[PlanRow]:
    return [
        PlanRow(
            row=k,
            prompt=f"a chest x-ray with {LABELS[k % 2]}",
            label=LABELS[k % 2],
            seed=100 + k,
            attributes={"sex": "F" if k % 3 else "M", "report": "no word of this is a caption"},
            **settings,
        )
        for k in range(rows)
    ]


@pytest.fixture(scope="module")
def model(tiny_flow) -> TextToImage:
    return TextToImage(load_generator(tiny_flow, "cpu", "float32"))


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory) -> Path:
    """The set of `plan()`, made at once."""
    out = tmp_path_factory.mktemp("sets") / "whole"
    synthesize(plan(), out, model=model, chunk=4, batch_size=4)
    return out


def files(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def pixels(out: Path) -> np.ndarray:
    images = [open_rgb(load()) for load in loads(out, read_manifest(out / "manifest.jsonl"))]
    return np.stack([np.asarray(image, dtype=int) for image in images])


def test_the_set_holds_the_plan_in_its_order(whole, model):
    rows = read_manifest(whole / "manifest.jsonl")
    assert [row["row"] for row in rows] == list(range(20))
    assert [row["label"] for row in rows] == [row.label for row in plan()]
    for row in rows:
        assert file_sha256(whole / row["file"]) == row["sha256"]
        inside = read_provenance(whole / row["file"])
        assert inside["synthetic"] == "true"
        assert inside["seed"] == str(row["seed"]) == str(100 + row["row"])
        assert inside["model_hash"] == row["model_hash"] == model.generator.model_hash
        assert (row["attempts"], row["rejected"]) == (1, [])
    about = json.loads((whole / "about.json").read_text())
    assert about["counts"] == {"rows": 20, "images": 20, "rejected_images": 0, "rejected_rows": 0}
    assert (about["synthetic"], about["dtype"]) == (True, "float32")
    assert read_provenance(whole / "contact-sheet.png")["synthetic"] == "true"
    assert not list(whole.glob(".*"))


def test_the_same_call_gives_the_same_bytes_and_a_second_one_makes_nothing(
    whole, model, tmp_path, monkeypatch
):
    out = tmp_path / "set"
    synthesize(plan(), out, model=model, chunk=4, batch_size=4)
    assert files(out) == files(whole)
    monkeypatch.setattr(worker, "start", None)  # no model would be loaded
    done = synthesize(plan(), out, model=model, chunk=4, batch_size=4)
    assert (done.made, done.counts.images) == (20, 20)
    assert repr(done) == f"20 synthetic images in {out}"
    assert 'src="data:image/jpeg' in done._repr_html_()
    assert files(out) == files(whole)


@pytest.mark.parametrize(
    ("batch_size", "chunk", "shards"), [(1, 4, ["0/1"]), (7, 3, ["0/1"]), (8, 5, ["1/2", "0/2"])]
)
def test_an_image_follows_from_its_row_alone(whole, model, tmp_path, batch_size, chunk, shards):
    for shard in shards:
        done = synthesize(
            plan(), tmp_path / "set", model=model, batch_size=batch_size, chunk=chunk, shard=shard
        )
    assert done.made == 20
    assert np.ptp(pixels(whole)) > 20
    assert np.abs(pixels(tmp_path / "set") - pixels(whole)).max() <= 2


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_shards_made_without_a_common_disk_are_one_set_once_they_are_copied_together(
    model, tmp_path, kind
):
    options = {"model": model, "chunk": 4, "store": kind}
    alone = synthesize(plan(), tmp_path / "alone", **options)
    for k in range(2):
        own = synthesize(plan(), tmp_path / f"{k}" / "set", shard=f"{k}/2", **options)
        assert own.counts is None
        shutil.copytree(tmp_path / f"{k}" / "set", tmp_path / "together", dirs_exist_ok=True)
    warned = []
    done = synthesize(plan(), tmp_path / "together", on_warning=warned.append, **options)
    assert (done.counts, warned) == (alone.counts, [])
    assert files(tmp_path / "together") == files(tmp_path / "alone")


def test_rows_that_differ_in_anything_share_a_chunk(model, tmp_path):
    rows = [
        PlanRow(5, "lung", "", 1),
        PlanRow(3, "lung AND effusion:0.5", "", 2, steps=2),
        PlanRow(9, "lung", "", 3, width=48, height=32),
        PlanRow(1, "lung", "", 4, guidance=1.0, sampler="euler", negative="retina"),
        PlanRow(0, "lung", "", 5),
    ]
    synthesize(rows, tmp_path / "set", model=model, steps=3)
    made = read_manifest(tmp_path / "set" / "manifest.jsonl")
    assert [row["row"] for row in made] == [5, 3, 9, 1, 0]
    assert [row["steps"] for row in made] == [3, 2, 3, 3, 3]
    assert (made[2]["width"], made[2]["height"]) == (48, 32)
    assert (made[3]["guidance"], made[3]["sampler"]) == (1.0, "euler")
    alone = model.generate("lung", seed=5, steps=3)[0]
    image = open_rgb((tmp_path / "set" / made[4]["file"]).read_bytes())
    assert np.abs(np.asarray(image, int) - np.asarray(alone.image, int)).max() <= 2


def test_a_fixed_shape_of_batch_changes_nothing(whole, model, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(model.generator.unet, "compile", lambda **options: seen.append(options))
    real = worker.draw

    def draw(generator, requests, **rest):
        seen.append(len(requests))
        return real(generator, requests, **rest)

    monkeypatch.setattr(worker, "draw", draw)
    synthesize(plan(), tmp_path / "set", model=model, compiled=True, batch_size=8, chunk=8)
    assert seen == [{"dynamic": False}, 8, 8, 8]  # 20 rows: the last batch is filled up
    assert np.abs(pixels(tmp_path / "set") - pixels(whole)).max() <= 2


def test_after_an_interruption_the_same_call_goes_on(whole, model, tmp_path):
    out = tmp_path / "set"

    def stop(done, rows):
        assert rows == 20
        if done > 9:
            raise KeyboardInterrupt

    options = {"model": model, "chunk": 4, "batch_size": 4}
    with pytest.raises(
        KeyboardInterrupt, match="8 of 20 rows are done; repeat the command to resume"
    ):
        synthesize(plan(), out, on_progress=stop, **options)
    assert not (out / "manifest.jsonl").exists()
    before = {name: (out / name).stat().st_mtime_ns for name in files(out)}
    told = []
    synthesize(plan(), out, on_progress=lambda *done: told.append(done), **options)
    assert told[0][0] > 8  # the bar begins where it was
    kept = [name for name in before if name.startswith(("images/", "chunks/"))]
    assert len(kept) == 10
    assert all(before[name] == (out / name).stat().st_mtime_ns for name in kept)
    assert files(out) == files(whole)


@pytest.mark.parametrize("at", range(0, 29, 4))
def test_a_death_between_any_two_moves_loses_nothing(whole, model, tmp_path, monkeypatch, at):
    class Death(BaseException):
        pass

    real, moves = os.replace, []

    def replace(source, target):
        moves.append(target)
        if len(moves) == at + 2:  # the first one is of about.json
            raise Death
        real(source, target)

    options = {"model": model, "chunk": 4, "batch_size": 4}
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(Death):
            synthesize(plan(), tmp_path / "set", **options)
    synthesize(plan(), tmp_path / "set", **options)
    assert files(tmp_path / "set") == files(whole)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("kind", ["folder", "webdataset", "parquet"])
def test_what_is_torn_is_made_again_with_a_warning(model, tmp_path, kind):
    out, told = tmp_path / "set", []
    options = {"model": model, "chunk": 4, "batch_size": 4, "store": kind}
    synthesize(plan(), out, **options)
    good = files(out)
    images = sorted(name for name in good if name.endswith((".png", ".tar", ".parquet")))
    torn = [name for name in images if "000001" in name or "000005" in name][:1]
    _cut(out / torn[0])
    gone = next(name for name in images if "000010.png" in name or "000002-of" in name)
    (out / gone).unlink()
    _cut(out / "chunks" / "000003.json")
    synthesize(plan(), out, on_warning=told.append, **options)
    assert files(out) == good
    assert len(told) == 3
    assert all("is made again" in line for line in told)
    assert any(f"{gone} is missing" in line for line in told)


def test_a_manifest_is_there_only_while_the_set_is_whole(model, tmp_path):
    out = tmp_path / "set"
    options = {"model": model, "chunk": 4, "batch_size": 4}
    synthesize(plan(), out, **options)
    (out / "images" / LABELS[1] / "000005.png").unlink()

    def stop(done, rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="16 of 20"):
        synthesize(plan(), out, on_progress=stop, **options)
    assert not (out / "manifest.jsonl").exists()


class RejectOdd:
    """Rejects by the image alone, as a judge must."""

    @property
    def about(self):
        return {"kind": "odd", "sides": (8, 8)}

    def __call__(self, images):
        odd = [int(image.astype(int).sum()) % 2 for image in images]
        return [Verdict(not o, "near-copy" if o else "", 0.1, "abc") for o in odd]


def test_rejected_rows_are_drawn_again_from_derived_seeds(model, tmp_path):
    for name, size in (("one", 3), ("two", 3)):
        done = synthesize(
            plan(), tmp_path / name, model=model, guard=RejectOdd(), attempts=2, batch_size=size
        )
    rows = read_manifest(tmp_path / "one" / "manifest.jsonl")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    failed = [row for row in rows if row["file"] is None]
    again = [row for row in rows if row["file"] and row["rejected"]]
    assert failed
    assert again
    for row in again:
        assert row["attempts"] == 2
        assert row["rejected"] == [
            {"seed": 100 + row["row"], "reason": "near-copy", "distance": 0.1, "nearest": "abc"}
        ]
        assert row["seed"] == derived_seed(100 + row["row"], 1)
        image = model.generate(row["prompt"], seed=row["seed"])[0].image
        kept = open_rgb((tmp_path / "one" / row["file"]).read_bytes())
        assert np.abs(np.asarray(kept, int) - np.asarray(image, int)).max() <= 2
    for row in failed:
        assert (row["attempts"], len(row["rejected"]), row["sha256"]) == (2, 2, None)
    rejected = sum(len(row["rejected"]) for row in rows)
    assert done.counts == Counts(20, 20 - len(failed), rejected, len(failed))
    assert json.loads((tmp_path / "one" / "about.json").read_text())["guard"] == {
        "kind": "odd",
        "sides": [8, 8],
    }


def test_a_pairs_table_is_a_guard(model, tiny_pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # what it has read of the table is kept below
    options = {"model": model, "guard": tiny_pairs, "attempts": 2}
    done = synthesize(plan(4), tmp_path / "set", **options)
    assert done.counts.rows == 4
    assert synthesize(plan(4), tmp_path / "set", **options) == done
    about = json.loads((tmp_path / "set" / "about.json").read_text())
    assert about["guard"]["training_images"] == len(read_pairs(tiny_pairs).rows("train"))
    with pytest.raises(VesaliusError, match="another guard"):
        synthesize(plan(4), tmp_path / "set", **options | {"guard": None})


class RejectAll(RejectOdd):
    def __call__(self, images):
        return [Verdict(False, "blank")] * len(images)


@pytest.mark.parametrize("kind", ["folder", "webdataset", "parquet"])
def test_a_set_of_which_nothing_was_accepted_is_complete(model, tmp_path, kind):
    done = synthesize(
        plan(3), tmp_path / "set", model=model, guard=RejectAll(), attempts=1, store=kind
    )
    assert (done.counts.images, done.counts.rejected_rows) == (0, 3)
    assert [p.name for p in sorted((tmp_path / "set").iterdir())] == [
        "about.json",
        "chunks",
        "manifest.jsonl",
    ]


@pytest.mark.parametrize("kind", ["folder", "webdataset", "parquet"])
def test_vesalius_pairs_reads_the_set_with_all_that_is_said_of_it(model, tmp_path, kind):
    out = tmp_path / "set"
    synthesize(plan(), out, model=model, store=kind, chunk=8, guard=RejectOdd(), attempts=1)
    rows = [row for row in read_manifest(out / "manifest.jsonl") if row["file"]]
    options = PairsSettings(duplicates="keep", split="none")
    build_pairs([str(out)], tmp_path / "pairs.parquet", options, samples=0)
    table = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert 0 < len(table) == len(rows) < 20
    for pair, row in zip(table, rows, strict=True):
        assert (pair["caption"], pair["label"]) == (row["prompt"], row["label"])
        assert (pair["sex"], pair["synthetic"]) == (row["sex"], "true")
        assert (pair["seed"], pair["model_hash"]) == (str(row["seed"]), row["model_hash"])
        assert hashlib.sha256(pair["image"]["bytes"]).hexdigest() == row["sha256"]


@pytest.mark.parametrize("format", ["jpeg", "png16", "dicom"])
def test_other_formats(model, tmp_path, format):
    out = tmp_path / "set"
    synthesize(plan(3), out, model=model, format=format)
    for row in read_manifest(out / "manifest.jsonl"):
        assert read_provenance(out / row["file"])["seed"] == str(row["seed"])
    assert (out / "contact-sheet.png").is_file()


def test_a_set_takes_no_other_plan_and_no_other_settings(
    whole, model, tiny_flow, tiny_sd, tmp_path
):
    options = {"model": model, "chunk": 4, "batch_size": 4}
    before = files(whole)
    for change, message in [
        ({"model": str(tiny_sd)}, "another model"),
        ({"steps": 3}, "other settings"),
        ({"chunk": 5}, "another chunk size"),
        ({"store": "parquet"}, "another store"),
        ({"format": "jpeg"}, "another format"),
    ]:
        with pytest.raises(VesaliusError, match=message):
            synthesize(plan(), whole, **options | change)
    with pytest.raises(VesaliusError, match="another plan"):
        synthesize(plan(21), whole, **options)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").touch()
    with pytest.raises(VesaliusError, match="holds something else"):
        synthesize(plan(), tmp_path / "own", **options)
    assert files(whole) == before


@pytest.mark.parametrize(
    "counts",
    [None, [], 3, {}, {"rows": 20}, {"rows": "20", "images": 20, "rejected_images": 0, "rejected_rows": 0},
     {"rows": 20, "images": 20, "rejected_images": 0, "rejected_rows": 0, "more": 1}],
)  # fmt: skip
def test_counts_that_were_damaged_are_counted_again(whole, model, tmp_path, counts):
    out = shutil.copytree(whole, tmp_path / "set")
    about = json.loads((out / "about.json").read_text())
    (out / "about.json").write_text(json.dumps(about | {"counts": counts}))
    made = synthesize(plan(), out, model=model, chunk=4, batch_size=4)
    assert made.counts == Counts(20, 20, 0, 0)
    assert files(out) == files(whole)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"', "", "{"])
def test_a_record_of_a_set_that_is_no_object_is_one_line(whole, model, tmp_path, content):
    out = shutil.copytree(whole, tmp_path / "set")
    (out / "about.json").write_text(content)
    before = files(out)
    with pytest.raises(VesaliusError, match=r"about\.json") as raised:
        synthesize(plan(), out, model=model, chunk=4, batch_size=4)
    assert "\n" not in str(raised.value)
    assert files(out) == before


def test_precision_is_one_of_the_settings(model, tiny_flow, tmp_path):
    options = {"chunk": 4, "shard": "0/2"}
    synthesize(plan(), tmp_path / "set", model=model, **options)
    half = str(tiny_flow)
    with pytest.raises(VesaliusError, match=r"another dtype \(float32; now bfloat16\)"):
        synthesize(
            plan(),
            tmp_path / "set",
            model=half,
            dtype="bfloat16",
            chunk=4,
            shard="1/2",
            device="cpu",
        )


def _measures(monkeypatch, fast):
    monkeypatch.setattr(device, "cpu_has_fast_bfloat16", lambda: fast)


def test_auto_is_the_precision_that_the_set_was_begun_with(tiny_flow, tmp_path, monkeypatch):
    said: list[str] = []
    settings = SynthesizeSettings(model=str(tiny_flow), device="cpu", chunk=4, shard="0/2")
    _measures(monkeypatch, fast=True)
    engine.synthesize(plan(), tmp_path / "set", settings, on_message=said.append)
    _measures(monkeypatch, fast=False)
    settings = replace(settings, shard="1/2")
    engine.synthesize(plan(), tmp_path / "set", settings, on_message=said.append)
    assert json.loads((tmp_path / "set" / "about.json").read_text())["dtype"] == "bfloat16"
    assert len(read_manifest(tmp_path / "set" / "manifest.jsonl")) == 20
    assert said[-1] == "precision: bfloat16, as the set was begun with"
    with pytest.raises(VesaliusError, match=r"another dtype \(bfloat16; now float32\)"):
        (tmp_path / "set" / "chunks" / "000000.json").unlink()
        engine.synthesize(plan(), tmp_path / "set", replace(settings, dtype="float32", shard="0/1"))


def test_auto_yields_to_a_run_that_began_the_set_meanwhile(tiny_flow, tmp_path, monkeypatch):
    settings = SynthesizeSettings(model=str(tiny_flow), device="cpu", chunk=4, shard="0/2")
    first, loaded = [True], worker.loaded

    def while_another_begins(asked, model):
        made = loaded(asked, model)
        if first:
            first.clear()
            _measures(monkeypatch, fast=False)
            engine.synthesize(plan(), tmp_path / "set", replace(settings, shard="1/2"))
        return made

    monkeypatch.setattr(worker, "loaded", while_another_begins)
    _measures(monkeypatch, fast=True)
    engine.synthesize(plan(), tmp_path / "set", settings)
    assert json.loads((tmp_path / "set" / "about.json").read_text())["dtype"] == "float32"
    assert len(read_manifest(tmp_path / "set" / "manifest.jsonl")) == 20


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"model_hash": "feedfeedfeedfeed"}, {}, "row 7 of the plan is for the model feedfeed"),
        ({"width": 33, "height": 33}, {}, "row 7 of the plan: size 33x33"),
        ({"attributes": {"seed": "1"}}, {}, "an attribute 'seed'"),
        ({"attributes": {"image": "a"}}, {}, "an attribute 'image'"),
        ({}, {"store": "zip"}, "no store 'zip': choose one of folder, webdataset, parquet"),
        ({}, {"engine": "spark"}, "no engine 'spark'"),
        ({}, {"shard": "4/4"}, "the last of 4 is 3/4"),
        ({}, {"shard": "1"}, "give it as 0/4"),
        ({}, {"attempts": 0}, "attempts is 0"),
        ({}, {"chunk": 0}, "chunk is 0"),
        ({}, {"batch_size": 0}, "batch size is 0"),
        ({}, {"sampler": "fast"}, "no sampler is called"),
        ({}, {"format": "bmp"}, "format 'bmp'"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(model, tmp_path, row, options, message):
    rows = [PlanRow(**{"row": 7, "prompt": "lung", "label": "", "seed": 1} | row)]
    with pytest.raises(VesaliusError, match=message):
        synthesize(rows, tmp_path / "deep" / "set", **{"model": model} | options)
    assert not list(tmp_path.rglob("set"))


def test_a_plan_whose_rows_share_a_number_is_refused(model, tmp_path):
    rows = [PlanRow(1, "lung", "", 1), PlanRow(1, "lung", "", 2)]
    with pytest.raises(VesaliusError, match="the same number"):
        synthesize(rows, tmp_path / "set", model=model)


def test_one_run_a_shard_and_one_division_at_a_time(model, tmp_path):
    out = tmp_path / "set"
    with claimed(out, Shard(0, 2)):
        with pytest.raises(VesaliusError, match="another run is at work on it"):
            synthesize(plan(), out, model=model, shard="0/2")
        with pytest.raises(VesaliusError, match="another run has the shard 0/2"):
            synthesize(plan(), out, model=model, shard="1/3")
        done = synthesize(plan(), out, model=model, shard="1/2", chunk=4)
        assert (done.made, done.counts) == (8, None)
    assert synthesize(plan(), out, model=model, shard="0/2", chunk=4).counts.images == 20


def test_what_a_killed_run_left_is_swept_and_what_a_live_one_needs_is_not(model, tmp_path):
    out = tmp_path / "set"
    for name in (".work-1-of-3", ".work-0-of-2"):
        (out / name).mkdir(parents=True)
        (out / name / "half").write_bytes(b"torn")
        (out / name / claim.MARKER).touch()
    (out / ".work-0-of-9").mkdir()  # killed before it could lock it
    with claimed(out, Shard(1, 2)) as work:
        (work / "mine").write_bytes(b"")
        synthesize(plan(4), out, model=model, shard="0/2", chunk=4)
        assert (work / "mine").exists()
        assert [p.name for p in out.glob(".work*")] == [work.name]
        (out / ".work-0-of-2").mkdir()
    assert not list(out.glob(".work*"))


def test_torchrun_divides_further(model, tmp_path, monkeypatch):
    made = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        for shard in ("0/2", "1/2"):
            done = synthesize(plan(), tmp_path / "set", model=model, chunk=2, shard=shard)
            made.append(done.made)
    assert made == [6, 10, 16, 20]  # chunks 0, 4, 8, then 2, 6, and so on: none twice


def test_a_full_disk_is_told_and_what_is_complete_stays(model, tmp_path, monkeypatch):
    real, calls = stores.write_folder, []

    def full(stage, name, made):
        calls.append(name)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(stage, name, made)

    out = tmp_path / "set"
    with monkeypatch.context() as patch:
        patch.setattr(stores, "write_folder", full)
        with pytest.raises(VesaliusError, match="disk is full: free"):
            synthesize(plan(), out, model=model, chunk=4, batch_size=4)
    assert not list(out.glob(".*"))
    assert sorted(p.name for p in (out / "chunks").iterdir())[:2] == ["000000.json", "000001.json"]
    assert synthesize(plan(), out, model=model, chunk=4, batch_size=4).counts.images == 20


def test_denoising_waits_for_a_slow_disk(model, tmp_path, monkeypatch):
    drawn, ahead = [0], []

    def slow(*arguments):
        time.sleep(0.02)
        ahead.append(drawn[0] - 2 * len(ahead))
        return save(*arguments)

    save = worker.save_chunk
    monkeypatch.setattr(worker, "save_chunk", slow)
    monkeypatch.setattr(worker, "_THREADS", 1)

    def count(done, rows):
        drawn[0] = int(done)

    synthesize(
        plan(60), tmp_path / "set", model=model, chunk=2, batch_size=2, steps=1, on_progress=count
    )
    assert max(ahead) <= 2 * (worker._UNWRITTEN + 2)  # rows whose images are in memory


def test_what_the_generator_has_seen_is_on_record(tiny_flow, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "generator").symlink_to(tiny_flow)
    seen = [{"sha1": "b", "group": "p1"}, {"sha1": "a", "group": "p2"}]
    folder = tmp_path / "run2" / "generator"
    folder.parent.mkdir()
    subprocess.run(["cp", "-r", tiny_flow, folder], check=True)
    (folder.parent / "training_rows.json").write_text(json.dumps(seen))
    synthesize(plan(1), tmp_path / "set", model=str(folder), device="cpu", dtype="float32", steps=1)
    about = json.loads((tmp_path / "set" / "about.json").read_text())
    expected = hashlib.sha256(b"a\nb").hexdigest()
    assert about["training_rows"] == {"model": expected, "adapters": []}


def test_an_adapter_is_a_part_of_the_set(tiny_flow, tmp_path):
    generator = load_generator(tiny_flow, "cpu", "float32")
    folder = tmp_path / "adapter"
    folder.mkdir()
    file = folder / "pytorch_lora_weights.safetensors"
    add_lora(generator.unet, None, 1, 1.0)
    save_lora(file, lora_tensors(generator.unet, None), {"alpha": 1.0})
    (folder / "adapter.json").write_text('{"training_rows_sha256": "ab12"}')
    options = {"model": str(tiny_flow), "device": "cpu", "dtype": "float32", "steps": 1}
    synthesize(plan(1), tmp_path / "set", adapters=(f"{folder}:0.5",), **options)
    about = json.loads((tmp_path / "set" / "about.json").read_text())
    assert about["adapters"] == [f"{file_sha256(file)[:16]} * 0.5"]
    assert about["training_rows"] == {"model": None, "adapters": ["ab12"]}
    (row,) = read_manifest(tmp_path / "set" / "manifest.jsonl")
    assert "* 0.5" in row["adapters"]
    for adapters in ((), (str(folder),)):
        with pytest.raises(VesaliusError, match="other adapters"):
            synthesize(plan(1), tmp_path / "set", adapters=adapters, **options)


def test_a_private_model_takes_no_guard_and_its_card_goes_on(tiny_flow, tiny_pairs, tmp_path):
    generator = load_generator(tiny_flow, "cpu", "float32")
    folder = tmp_path / "adapter"
    folder.mkdir()
    add_lora(generator.unet, None, 1, 1.0)
    save_lora(folder, lora_tensors(generator.unet, None), {"alpha": 1.0})
    card = private_card(folder)
    options = {"model": str(tiny_flow), "adapters": (str(folder),), "device": "cpu"}
    options |= {"dtype": "float32", "steps": 1}
    with pytest.raises(VesaliusError, match=r"private.*Leave --guard out"):
        synthesize(plan(1), tmp_path / "set", guard=tiny_pairs, **options)
    assert not (tmp_path / "set").exists()
    synthesize(plan(1), tmp_path / "set", **options)
    about = json.loads((tmp_path / "set" / "about.json").read_text())
    assert cards_of_set(about) == [card]
    (part,) = [part for part in parts_of(about, [], []) if part.private]
    assert part.trained_on is None
    loaded = load(str(tiny_flow), "cpu", "float32", [str(folder)])
    with pytest.raises(VesaliusError, match="private"):
        synthesize(plan(1), tmp_path / "other", model=loaded, guard=RejectAll())
    # what was trained without noise guarantees nothing that a guard could void
    private_card(folder, epsilon=None)
    synthesize(plan(1), tmp_path / "other", guard=tiny_pairs, **options)


# Imports once, then forks a run for each line that it reads and kills it after so many seconds.
SERVER = """
import os, signal, sys, time
from vesalius.synthesize.engine import synthesize
from vesalius.synthesize import worker
from vesalius.synthesize.settings import SynthesizeSettings
plan, out, model = sys.argv[1:]
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        import torch
        torch.set_num_threads(1)
        options = dict(model=model, device="cpu", dtype="float32", chunk=4, batch_size=4)
        done = synthesize(plan, out, SynthesizeSettings(**options))
        os._exit(0 if done.counts else 1)
    end = time.monotonic() + float(line)
    code = None
    while code is None and time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if pid else time.sleep(0.002)
    if code is None:
        os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, flush=True)
"""


@pytest.mark.parametrize(
    ("kills", "count"),
    [(3, 48), pytest.param(40, 320, marks=[pytest.mark.slow, pytest.mark.ci])],
)
def test_random_kills_lose_nothing(tiny_flow, tmp_path, kills, count):
    rows = plan(count, steps=3)
    write_plan(rows, tmp_path / "plan.csv")
    arguments = [str(tmp_path / "plan.csv"), str(tmp_path / "set"), str(tiny_flow)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    rng, codes = random.Random(0), []
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as server:
        assert server.stdin
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        while 0 not in codes:
            patience = rng.uniform(0.05, 1.2) if len(codes) < kills else 300.0
            server.stdin.write(f"{patience}\n")
            server.stdin.flush()
            codes.append(int(server.stdout.readline()))
        server.stdin.close()
    assert set(codes) == {-9, 0}
    assert codes.count(-9) >= 3
    out = tmp_path / "set"
    made = read_manifest(out / "manifest.jsonl")
    assert [row["row"] for row in made] == [row.row for row in rows]
    assert {row["sha256"] for row in made} == {file_sha256(out / row["file"]) for row in made}
    assert len(list(out.rglob("*.png"))) == len(rows) + 1  # with the contact sheet
    assert not list(out.rglob(".*"))
    assert len(list((out / "chunks").iterdir())) == count // 4
