"""Every reader's order: balanced, counterbalanced, and the same each time."""

import math
from collections import Counter
from itertools import pairwise

import pytest

from vesalius.study.design import Case, lay_out, williams
from vesalius.study.protocol import Protocol

ANCHORS = {k: f"grade {k}" for k in range(1, 6)}
LABELS = ["a", "b"]


def protocol(tasks, readers=4, **changes):
    values = {
        "turing": {"fakes": 5},
        "pair": {"fakes": 2, "same": 0.1},
        "quality": {"anchors": ANCHORS, "fakes": 3},
        "alignment": {"anchors": ANCHORS},
        "diagnosis": {"labels": LABELS},
    }
    return Protocol.model_validate(
        {
            "title": "t",
            "question": "q",
            "seed": 3,
            "readers": readers
            if isinstance(readers, list)
            else [{"name": f"R{k}"} for k in range(readers)],
            "tasks": [{"task": t, "question": "?", "trials": 40, **values[t]} for t in tasks],
            "pixels": {"width": 8, "height": 8},
            "consent": "c",
        }
        | changes
    )


def cases(task, trials=40):
    """Half real; of a pair the other one from two sets."""
    if task == "pair":
        some = [
            Case((f"r{k}", f"s{k}"), f"synthetic:{k % 2}", "scored", label=LABELS[k // 2 % 2])
            for k in range(trials)
        ]
        some += [Case((f"r{90 + k}", f"r{95 + k}"), "real", "same") for k in range(4)]
        some += [Case((f"r{80 + k}", f"f{k}"), "fake", "fake") for k in range(2)]
        return some
    made = []
    for k in range(trials):
        arm = "real" if k % 2 else "synthetic"
        truth = {"turing": arm, "diagnosis": LABELS[k // 2 % 2]}.get(task, "")
        made.append(Case((f"{arm[0]}{k}",), arm, "scored", truth, LABELS[k // 2 % 2]))
    if task in ("turing", "quality"):
        made += [Case((f"f{k}",), "fake", "fake", "synthetic") for k in range(5)]
    return [*made, *(Case((f"t{k}",), "real", "training") for k in range(6))]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_williams_squares_balance_what_comes_before(size):
    orders = williams(size)
    assert all(sorted(order) == list(range(size)) for order in orders)
    follows = Counter((a, b) for order in orders for a, b in pairwise(order))
    assert len(follows) == size * (size - 1)
    assert len(set(follows.values())) <= 1


def test_the_order_is_a_function_of_seed_and_reader():
    tasks = ["turing", "pair"]
    asked = protocol(tasks)
    trials = lay_out(asked, {t: cases(t) for t in tasks})
    assert trials == lay_out(asked, {t: cases(t) for t in tasks})
    other = protocol(tasks, seed=4)
    assert trials != lay_out(other, {t: cases(t) for t in tasks})
    assert [t.trial for t in trials] == list(range(1, len(trials) + 1))
    by_reader = {n: [t for t in trials if t.reader == n] for n in ("R0", "R1")}
    assert [t.position for t in by_reader["R1"]] == list(range(len(by_reader["R1"])))
    assert by_reader["R0"][0].task != by_reader["R1"][0].task
    # a reader's order does not depend on how many others there are
    fewer = lay_out(protocol(tasks, readers=1), {t: cases(t) for t in tasks})
    assert fewer == by_reader["R0"]


def test_arms_are_balanced_all_along_and_repeats_are_late():
    trials = lay_out(protocol(["turing"]), {"turing": cases("turing")})
    for name in ("R0", "R1", "R2"):
        mine = [t for t in trials if t.reader == name]
        assert [t.phase for t in mine[:6]] == ["training"] * 6
        block = [t for t in mine if t.phase == "reading"]
        assert Counter(t.kind for t in block) == {"scored": 40, "fake": 5, "repeat": 4}
        balance = 0
        for trial in (t for t in block if t.kind == "scored"):
            balance += 1 if trial.truth == "real" else -1
            assert abs(balance) <= 4  # half of the largest block
        position = {t.trial: t.position for t in block}
        items = {t.trial: t.items for t in block}
        for trial in (t for t in block if t.kind == "repeat"):
            assert trial.position - position[trial.repeat_of] >= math.ceil(len(block) / 3)
            assert items[trial.repeat_of] == trial.items
        repeated = Counter(t.truth for t in block if t.kind == "repeat")
        assert repeated == {"real": 2, "synthetic": 2}


def test_sides_are_balanced_and_reversed_for_the_next_reader():
    trials = lay_out(protocol(["pair"], training=0), {"pair": cases("pair")})
    sides = {}
    for name in ("R0", "R1"):
        mine = [t for t in trials if t.reader == name and t.kind in ("scored", "fake")]
        for arm in (0, 1):
            own = [t for t in mine if t.kind == "scored" and int(t.items.split("s")[1].split(",")[0]) % 2 == arm]  # fmt: skip
            assert Counter(t.truth for t in own) == {"left": 10, "right": 10}
            labels = Counter(
                (t.truth, int(t.items.split("s")[1].split(",")[0]) // 2 % 2) for t in own
            )
            assert set(labels.values()) == {5}  # no label tells the side
        sides[name] = {frozenset(t.items.split(",")): t.truth for t in mine}
    assert sides["R0"].keys() == sides["R1"].keys()
    assert all(sides["R1"][pair] != side for pair, side in sides["R0"].items())
    for trial in trials:
        left, right = trial.items.split(",")
        if trial.kind == "same":
            assert trial.truth == ""
        else:
            assert (left if trial.truth == "left" else right).startswith("r")


def test_a_preference_has_no_right_answer():
    asked = protocol(["pair"])
    preferred = asked.tasks[0].model_copy(update={"compare": "preference"})
    asked = asked.model_copy(update={"tasks": (preferred,)})
    some = [*cases("pair"), Case(("r70", "s70"), "synthetic:0", "training")]
    trials = lay_out(asked, {"pair": some})
    assert {t.kind for t in trials} == {"training", "scored", "repeat", "same", "fake"}
    assert {t.truth for t in trials} == {""}


def test_an_unaware_phase_comes_first_with_one_half_and_without_fakes():
    tasks = ["turing", "quality", "diagnosis"]
    asked = protocol(tasks, unaware_first=True)
    trials = lay_out(asked, {t: cases(t) for t in tasks})
    halves = {}
    for name in ("R0", "R1"):
        mine = [t for t in trials if t.reader == name]
        first = [t for t in mine if t.phase == "unaware"]
        aware = [t.position for t in mine if t.task == "turing" or t.phase == "reading"]
        assert max(t.position for t in first) < min(aware)
        assert {t.task for t in first} == {"quality", "diagnosis"}
        assert {t.kind for t in first} == {"scored", "repeat"}
        for task in ("quality", "diagnosis"):
            scored = [t for t in mine if t.task == task and t.kind == "scored"]
            assert Counter(t.phase for t in scored) == {"unaware": 20, "reading": 20}
            assert len({t.items for t in scored}) == 40
            half = [t for t in scored if t.phase == "unaware"]
            assert Counter(t.items[0] for t in half) == {"r": 10, "s": 10}
            labels = Counter((t.items[0], int(t.items[1:]) // 2 % 2) for t in half)
            assert set(labels.values()) == {5}
        halves[name] = {t.items for t in first if t.kind == "scored" and t.task == "quality"}
    assert not halves["R0"] & halves["R1"]


def test_a_task_of_a_specialty_is_for_its_readers():
    readers = [{"name": "A"}, {"name": "B", "specialty": "retina"}]
    asked = protocol(["turing", "quality"], readers=readers)
    asked = asked.model_copy(
        update={
            "tasks": (asked.tasks[0], asked.tasks[1].model_copy(update={"specialty": "retina"}))
        }
    )
    trials = lay_out(asked, {t: cases(t) for t in ("turing", "quality")})
    assert {t.task for t in trials if t.reader == "A"} == {"turing"}
    assert {t.task for t in trials if t.reader == "B"} == {"turing", "quality"}


@pytest.mark.parametrize("trials", [2, 4, 6, 10])
def test_small_tasks_have_an_order_too(trials):
    asked = protocol(["turing"])
    task = asked.tasks[0].model_copy(update={"trials": trials, "repeats": 0.5})
    asked = asked.model_copy(update={"tasks": (task,)})
    laid = lay_out(asked, {"turing": cases("turing", trials)})
    block = [t for t in laid if t.reader == "R0" and t.phase == "reading"]
    where = {t.trial: t.position for t in block}
    for trial in (t for t in block if t.kind == "repeat"):
        assert trial.position - where[trial.repeat_of] >= math.ceil(len(block) / 3)
