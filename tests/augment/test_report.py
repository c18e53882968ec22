"""The page says first whether it helped, hides no doubt, and needs no other file."""

import json
import re

import pytest
from tests.small import HOSTILE, check_page

from vesalius.augment.choose import Choice
from vesalius.augment.report import LINKS, held_out_loss, meaning, training_seed
from vesalius.augment.steps import STEPS
from vesalius.core.words import visible
from vesalius.report.augment import augment_page


@pytest.fixture(scope="module")
def parts(straight):
    out, record, _ = straight
    answer = json.loads((out / "utility" / "results.json").read_text())
    evidence = json.loads((out / "evidence" / "metrics.json").read_text())
    return record, answer, evidence


def render(*documents, training_seed=0):
    return augment_page(
        *documents,
        meaning="",
        method="LoRA",
        steps={step.name: step.title for step in STEPS},
        links=LINKS,
        training_seed=training_seed,
    )


def text_of(page):
    body = page[page.index("<body>") :]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_the_first_sentence_is_the_verdict(straight, parts):
    page = (straight[0] / "report.html").read_text()
    record = parts[0]
    before, _, _ = text_of(page).partition(record["verdict"]["headline"].replace('"', "&#34;"))
    assert len(before) < 160  # nothing but the heading stands before it


def test_it_needs_no_other_file_and_its_links_lead_somewhere(straight):
    out, record, _ = straight
    page = (out / "report.html").read_text()
    assert not re.search(r'<script|<link|(src|href)="https?:', page)
    links = re.findall(r'href="([^"#]+)"', page)
    assert links and all((out / link).is_file() for link in links)
    kept = {"train", "synthetic"}
    classes = len(record["division"]["images"]["train"]) - 1
    assert len(re.findall("data:image/jpeg", page)) == classes * len(kept)


def test_every_step_can_be_repeated(straight, parts):
    page = text_of((straight[0] / "report.html").read_text())
    record = parts[0]
    for step in STEPS:
        assert record["commands"][step.name].split()[1] in page
    assert record["input"]["sha256"] in page and record["model"]["hash"] in page
    assert "torch" in page and "seed" in page.lower()


def test_the_commands_are_ones_that_exist(parts, run_cli):
    from typer.main import get_command

    from vesalius import cli

    every = get_command(cli.app).commands
    for command in parts[0]["commands"].values():
        words = command.split()
        known = {name for p in every[words[1]].params for name in (*p.opts, *p.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known


def test_what_is_not_proven_stands_above_everything_else(parts):
    record, answer, evidence = parts
    doubt = {"what": "generator", "status": "unproven", "message": "it has <b>seen</b> test images"}
    doubted = record | {"checks": [*record["checks"], doubt]}
    page = render(doubted, answer, evidence)
    head = page[: page.index("<main>")]
    assert "Not proven" in head and "&lt;b&gt;seen" in head
    checked = page[page.index("What was checked</h2>") :]
    assert checked.index("Not proven") < checked.index("Holds")
    assert "Not proven" not in render(record, answer, evidence)


def test_what_is_unfair_stands_above_the_evidence(parts):
    record, answer, evidence = parts
    unfair = {"severity": "unfair", "synthetic": "set", "message": "JPEG against PNG"}
    page = render(record, answer, evidence | {"findings": [unfair]})
    assert page.index("How good the") < page.index("JPEG against PNG") < page.index("What is good")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("helped", "another laboratory"),
        ("no more than a baseline", "prefer it"),
        ("not shown", "no proof that they do nothing"),
        ("harmed", "without them"),
    ],
)
def test_each_answer_says_what_it_does_not_mean(answer, said):
    assert said in meaning({"answer": answer, "baseline": "real, oversampled"})


def test_the_page_says_what_ran_not_what_was_asked(parts):
    record, answer, evidence = parts
    asked = record | {"settings": record["settings"] | {"tune": "ful", "seeds": 99}}
    page = text_of(render(asked, answer, evidence, training_seed=7))
    assert answer["classifier"]["classifier"] in page and "99 seeds" not in page
    assert "7 for training" in page
    assert f"{answer['settings']['seeds']} seeds an arm" in page


def test_a_value_of_the_recipe_sets_the_seed_of_training():
    choice = Choice("lora", "", ["optimisation.seed=0", "optimisation.seed=5"])
    assert training_seed(choice) == 5
    assert training_seed(Choice("none", "")) is None


def test_a_damaged_log_gives_the_losses_that_are_whole(tmp_path):
    log = tmp_path / "run" / "lora" / "log.jsonl"
    log.parent.mkdir(parents=True)
    lines = [b'{"validation": {"loss": 0.5}}', b'{"validation": true}', b"3", b"\xff{", b'["a"]']
    lines += [b'{"validation": {"loss": "x"}}', b'{"validation": {"loss": 0.4}}', b'{"seen_im']
    log.write_bytes(b"\n".join(lines))
    assert held_out_loss(tmp_path, "lora") == {"first": 0.5, "best": 0.4}
    log.write_bytes(b"\xff")
    assert held_out_loss(tmp_path, "lora") is None


def test_names_that_mean_harm_are_text_on_the_page_of_the_whole_way(parts):
    documents = json.dumps(parts)
    for name, hostile in zip(("cyst", "nodule", "scar"), HOSTILE, strict=False):
        documents = documents.replace(name, json.dumps(hostile)[1:-1])
    record, answer, evidence = json.loads(documents)
    record["command"] = f"vesalius augment {' '.join(HOSTILE)}"
    record["model"]["name"] = HOSTILE[3]
    shown = [*HOSTILE[:2], visible(record["command"])]
    check_page(render(record, answer, evidence), *shown)
