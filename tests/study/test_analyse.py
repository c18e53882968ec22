"""From a locked study to results: scripted readers answer it, and what comes out is what they are."""

import csv
import json
import sqlite3
import uuid
from dataclasses import replace

import pytest
from benchmarks.study.answering import answer_all
from benchmarks.study.drawn import ALL_TASKS
from benchmarks.study.scripted import Skill
from tests.study.keyed import keyed_study

from vesalius.errors import VesaliusError
from vesalius.study.analyse import analyse
from vesalius.study.database import Database, Given
from vesalius.study.export import export
from vesalius.study.layout import Layout


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """A small study with all tasks, read by three readers."""
    folder = keyed_study(tmp_path_factory.mktemp("study") / "s", tasks=ALL_TASKS)
    answer_all(folder, [Skill(d_prime=d) for d in (0, 1, 2)])
    return folder


def rows(folder, name):
    with (folder / "export" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_results_of_every_task(read):
    results = analyse(read, command="vesalius study analyse s")
    assert [each.task for each in results.found] == list(ALL_TASKS)
    document = json.loads((read / "results.json").read_text())
    assert {s["task"] for s in document["sentences"]} == {"", *ALL_TASKS}
    assert document["what"]["images"]["fake"] == 2
    assert len(document["what"]["sets"][0]["sha1"]) == 4 * 6 + 12
    page = (read / "report.html").read_text()
    for text in ("Real or synthetic?", "Words ticked as wrong", "R3",
                 "Images left out before the draw", "says nothing of how much images differ"):  # fmt: skip
        assert text in page
    assert "<script" not in page
    assert repr(results).startswith("Study in ")


def test_tables_for_other_programs(read):
    done = export(read)
    answers = rows(read, "answers.csv")
    assert done.answers == len(answers)
    assert {row["kind"] for row in answers} == {"scored", "repeat", "fake", "training"}
    first = next(row for row in answers if row["task"] == "turing" and row["kind"] == "scored")
    assert first["arm"] == first["truth"] == "real"
    assert first["correct"] in ("0", "1")
    assert 1 <= int(first["score"]) <= 6
    assert float(first["seconds"]) > 0
    known = {(row["file"], row["column"]) for row in rows(read, "columns.csv")}
    assert known == {
        (name, column)
        for name in ("answers.csv", "readers.csv", "imrmc.csv")
        for column in rows(read, name)[0]
    }
    imrmc = rows(read, "imrmc.csv")
    truth = {row["caseID"]: row["score"] for row in imrmc if row["readerID"] == "truth"}
    assert sorted(truth.values()) == ["0"] * 6 + ["1"] * 6
    assert len(imrmc) == 12 + 3 * 12
    assert {row["caseID"] for row in imrmc} == truth.keys()


def test_before_the_end_only_on_request(tmp_path):
    folder = keyed_study(tmp_path / "s")
    for step in (export, analyse):
        with pytest.raises(VesaliusError, match="3 of 3 readers have not ended"):
            step(folder)
    with pytest.raises(VesaliusError, match="nobody has answered"):
        analyse(folder, unfinished=True)
    assert not (folder / "results.json").exists()
    answer_all(folder, [Skill()])
    with Database(Layout(folder).database) as database:
        database.update_reader("R2", finished_at=None)
    told = []
    analyse(folder, unfinished=True, on_warning=told.append)
    assert "An interim look: 1 of 3" in told[0]
    with Database(Layout(folder).database) as database:
        kinds = [event.kind for event in database.events("")]
    assert kinds.count("unfinished") == 2


def test_what_changed_after_the_lock_is_refused(tmp_path):
    folder = keyed_study(tmp_path / "s")
    answer_all(folder, [Skill()])
    protocol = Layout(folder).protocol
    protocol.write_text(protocol.read_text().replace("margin: 0.1", "margin: 0.4"))
    with pytest.raises(VesaliusError, match=r"changed after it was locked: protocol\.yaml"):
        analyse(folder)


def test_a_database_of_another_version(tmp_path):
    folder = keyed_study(tmp_path / "s")
    with sqlite3.connect(Layout(folder).database) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(VesaliusError, match="version 9"):
        analyse(folder)


def test_two_readers_and_an_override_are_said_first(tmp_path):
    folder = keyed_study(tmp_path / "s", readers=2, despite="a pilot only")
    answer_all(folder, [Skill()])
    analyse(folder)
    page = (folder / "report.html").read_text()
    assert "a pilot only" in page
    assert "Two readers: what is found holds for these readers only" in page


def test_an_answer_that_was_taken_back(tmp_path):
    folder = keyed_study(tmp_path / "s")
    answer_all(folder, [Skill()])
    with Database(Layout(folder).database) as database:
        trial = next(database.trials("R1"))
        for value in ("", "real"):
            given = Given(str(uuid.uuid4()), value, 2 if value else None)
            database.record_answer(trial, given)
    export(folder)
    both = [row for row in rows(folder, "answers.csv") if row["trial"] == str(trial.id)]
    assert [(row["counts"], row["changes"]) for row in both] == [("0", "0"), ("1", "1")]
    assert both[1]["seconds"] == ""  # nothing was measured


def test_readers_of_one_task_only(tmp_path):
    """R1 has answered a task alone: the others' figures stand without, and R1's beside them."""
    folder = keyed_study(tmp_path / "s", tasks=("turing", "quality"))
    answer_all(folder, [Skill()], only={"R1": ("turing",)})
    results = analyse(folder)
    turing, quality = results.found
    assert turing.get("accuracy").readers == 3
    assert quality.get("mean rating", arm="real").readers == 2
    assert "R1 ended with" in (folder / "report.html").read_text()


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("d_prime", [0.0, 1.0, 2.0])
def test_skill_is_given_back(tmp_path, d_prime):
    folder = keyed_study(tmp_path / "s", readers=5, trials=60)
    answer_all(folder, [Skill(d_prime=d_prime)])
    figure = analyse(folder).found[0].get("d'")
    assert figure.low <= d_prime <= figure.high


def test_the_same_answers_give_the_same_results(read):
    one = analyse(read)
    assert replace(one, document={}) == replace(analyse(read), document={})
