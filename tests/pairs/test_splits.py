import contextlib
import hashlib
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vesalius.errors import VesaliusError
from vesalius.pairs.splits import (
    assign,
    few_shots,
    folds,
    fraction_of,
    normalise_split,
    parse_split,
)

groups = st.lists(st.integers(0, 30).map(str), min_size=1, max_size=200)
# each group keeps one label: a patient has one diagnosis
rows = st.lists(st.integers(0, 60), min_size=1, max_size=200).map(
    lambda numbers: ([str(n) for n in numbers], ["abc"[n % 7 % 3] for n in numbers])
)
# rows of one group differ in their labels, some have several or none
mixed = st.lists(
    st.tuples(st.integers(0, 30).map(str), st.sampled_from(["a", "b", "a|b", "c|d", "d", None])),
    min_size=1,
    max_size=150,
).map(lambda pairs: ([group for group, _ in pairs], [label for _, label in pairs]))
FRACTIONS = {"val": 0.1, "test": 0.2}


def classes(labels):
    return {name for label in labels if label for name in label.split("|")}


def held_out(names, fraction):
    parts = assign(names, [None] * len(names), {"val": fraction}, stratify=False)
    return [part == "val" for part in parts]


@given(groups, st.floats(0.05, 0.5))
def test_at_least_the_fraction_and_no_group_cut(names, fraction):
    held = held_out(names, fraction)
    assert sum(held) >= fraction * len(names)
    sides = {(name, side) for name, side in zip(names, held, strict=True)}
    assert len(sides) == len(set(names))


@given(groups)
def test_no_more_than_the_fraction_and_one_group(names):
    largest = max(Counter(names).values())
    assert sum(held_out(names, 0.1)) <= 0.1 * len(names) + largest


def test_the_order_of_rows_does_not_matter():
    names = [str(k % 17) for k in range(100)]
    held = {name for name, out in zip(names, held_out(names, 0.2), strict=True) if out}
    again = {name for name, out in zip(names[::-1], held_out(names[::-1], 0.2), strict=True) if out}
    assert held == again


@given(groups, st.floats(0.01, 0.9))
def test_one_fraction_without_strata_is_what_the_shipped_models_were_held_out_by(names, fraction):
    expected: set[str] = set()
    for name in sorted(set(names), key=lambda name: hashlib.sha256(f"0/{name}".encode()).digest()):
        if sum(name in expected for name in names) >= fraction * len(names):
            break
        expected.add(name)
    assert held_out(names, fraction) == [name in expected for name in names]


@given(mixed)
def test_no_split_cuts_a_group_whatever_its_labels(table):
    names, labels = table
    assert len(set(zip(names, assign(names, labels, FRACTIONS), strict=True))) == len(set(names))


@given(mixed)
def test_the_split_does_not_depend_on_the_order_of_rows(table):
    names, labels = table
    one = dict(zip(names, assign(names, labels, FRACTIONS), strict=True))
    other = dict(zip(names, assign(names[::-1], labels[::-1], FRACTIONS)[::-1], strict=True))
    assert one == other


@given(rows)
def test_a_class_with_enough_groups_is_in_every_split(table):
    names, labels = table
    splits = assign(names, labels, FRACTIONS)
    for label in set(labels):
        held = {name for name, its in zip(names, labels, strict=True) if its == label}
        reached = {split for split, its in zip(splits, labels, strict=True) if its == label}
        assert len(reached) == 3 if len(held) >= 3 else "train" in reached


@given(rows, rows)
def test_added_rows_move_no_more_than_their_number_and_a_few_groups(table, added):
    names, labels = table
    new = [f"new {name}" for name in added[0]]
    before = assign(names, labels, FRACTIONS)
    after = assign(names + new, labels + added[1], FRACTIONS)
    moved, more = Counter(), Counter(added[1])
    largest = max(Counter(names + new).values())
    for label, one, other in zip(labels, before, after[: len(names)], strict=True):
        moved[label] += one != other
    for label, count in moved.items():
        # two boundaries, each shifted by the rows added and by up to a group for each split
        assert count <= (2 * (more[label] + 3 * largest) if more[label] else 0)


def test_a_tenth_more_rows_moves_hardly_any_of_the_old_ones():
    names = [f"patient {k // 3}" for k in range(6000)]
    labels = ["abcdefgh"[k // 3 % 8] for k in range(6000)]
    before = assign(names[:5454], labels[:5454], FRACTIONS)
    after = assign(names, labels, FRACTIONS)
    moved = sum(one != other for one, other in zip(before, after[:5454], strict=True))
    assert moved / 5454 < 0.02


def test_the_fractions_are_met_in_every_class():
    names = [str(k) for k in range(1000)]
    labels = ["common" if k % 10 else "rare" for k in range(1000)]
    table = Counter(zip(labels, assign(names, labels, FRACTIONS), strict=True))
    assert table["rare", "val"] == 10 and table["rare", "test"] == 20
    assert table["common", "val"] == 90 and table["common", "test"] == 180


def test_groups_whose_split_is_fixed_keep_it_and_count_for_its_fraction():
    names = [str(k) for k in range(1000)]
    labels = ["common" if k % 10 else "rare" for k in range(1000)]
    fixed = dict.fromkeys(names[:150], "test")  # 15 rare ones, 135 common
    drawn = assign(names, labels, FRACTIONS, fixed=fixed)
    assert drawn[:150] == ["test"] * 150
    table = Counter(zip(labels, drawn, strict=True))
    assert table["rare", "val"] == 10 and table["rare", "test"] == 20
    assert table["common", "val"] == 90 and table["common", "test"] == 180


@pytest.mark.parametrize(
    "fractions", [{"val": 0.5, "test": 0.5}, {"val": 0.0}, {"val": float("nan")}, {"train": 0.5}]
)
def test_fractions_that_make_no_split_are_refused(fractions):
    with pytest.raises(VesaliusError, match="split"):
        assign(["a", "b"], ["x", "y"], fractions)


def test_a_split_is_read_as_users_write_it():
    assert parse_split("val=0.1,test=0.2") == FRACTIONS
    assert parse_split(" validation = 0.1 ") == {"val": 0.1}
    assert parse_split("none") == {}


@pytest.mark.parametrize(
    "spec",
    ["", "val", "val=", "val=x", "val=.1,dev=.1", "train=.8", "val=.9,test=.1", "val=-1", "fold=1"],
)
def test_a_split_that_is_written_wrongly_is_named_in_one_line(spec):
    with pytest.raises(VesaliusError) as error:
        parse_split(spec)
    assert "\n" not in str(error.value)


@given(st.text(max_size=20))
def test_any_text_is_a_split_or_an_error_for_users(spec):
    with contextlib.suppress(VesaliusError):
        assert sum(parse_split(spec).values()) < 1


def test_the_usual_names_of_splits_are_known():
    names = ["Training", "valid", "dev", "Testing", "holdout", "unlabeled"]
    assert [normalise_split(n) for n in names] == ["train", "val", "val", "test", "test", None]


@given(rows, st.integers(2, 4))
def test_folds_cut_no_group_and_hold_every_class(table, k):
    names, labels = table
    try:
        fold = folds(names, labels, k)
    except VesaliusError:
        assert min(len({n for n, its in zip(*table, strict=True) if its == x}) for x in labels) < k
        return
    assert len(set(zip(names, fold, strict=True))) == len(set(names))
    assert {(x, i) for x in set(labels) for i in range(k)} == set(zip(labels, fold, strict=True))


def test_folds_are_of_one_size_although_patients_are_not():
    names = [str(k) for k in range(60) for _ in range(1 + k % 7)]
    labels = ["ab"[int(name) % 2] for name in names]
    sizes = Counter(folds(names, labels, 5)).values()
    assert max(sizes) - min(sizes) <= 2


def test_a_class_too_small_for_the_folds_is_named():
    with pytest.raises(VesaliusError, match="class 'rare' has 2 groups"):
        folds([str(k) for k in range(20)], ["rare"] * 2 + ["common"] * 18, 5)
    with pytest.raises(VesaliusError, match="whole set has 1 group"):
        folds(["a", "a", "a"], [None] * 3, 2)
    with pytest.raises(VesaliusError, match="2 or more"):
        folds(["a", "b"], [None] * 2, 1)


@given(rows, st.integers(1, 10))
def test_few_shots_are_as_many_as_asked_for(table, k):
    names, labels = table
    chosen = Counter(x for x, out in zip(labels, few_shots(names, labels, k), strict=True) if out)
    assert chosen == {label: min(k, count) for label, count in Counter(labels).items()}


@given(mixed, st.integers(1, 8), st.integers(1, 8))
def test_fewer_shots_are_among_more_of_them(table, k, more):
    small, large = few_shots(*table, k), few_shots(*table, k + more)
    assert all(out <= wider for out, wider in zip(small, large, strict=True))


def test_few_shots_break_into_as_few_groups_as_they_can():
    names = [str(k // 4) for k in range(80)]
    chosen = few_shots(names, ["a"] * 80, 10)
    sizes = Counter(name for name, out in zip(names, chosen, strict=True) if out)
    assert sorted(sizes.values()) == [2, 4, 4]


@given(mixed, st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_small_fraction_is_within_a_larger_one_and_has_every_class(table, one, other):
    names, labels = table
    small, large = (fraction_of(names, labels, share) for share in sorted((one, other)))
    assert all(out <= wider for out, wider in zip(small, large, strict=True))
    assert sum(small) >= min(one, other) * len(names)
    reached = {label for label, out in zip(labels, small, strict=True) if out}
    assert classes(reached) == classes(labels)


def test_a_fraction_takes_whole_groups():
    names = [str(k // 4) for k in range(400)]
    chosen = fraction_of(names, ["ab"[k // 4 % 2] for k in range(400)], 0.1)
    assert sum(chosen) == 40
    assert len(set(zip(names, chosen, strict=True))) == 100
    with pytest.raises(VesaliusError, match="at most 1"):
        fraction_of(names, [None] * 400, 0)


def test_a_large_patient_is_not_spent_on_a_small_split():
    groups = ["large"] * 22 + ["small"] * 11
    for seed in range(8):
        drawn = assign(groups, [None] * 33, {"val": 0.1}, seed=seed)
        assert {group for group, name in zip(groups, drawn, strict=True) if name == "val"} == {
            "small"
        }


def test_many_groups_are_split_in_no_time():
    groups = [f"patient {k}" for k in range(100_000)]
    started = time.perf_counter()
    assert assign(groups, ["a"] * 100_000, {"val": 0.1}).count("val") == 10_000
    # the patients that nobody knows, all called alike, are passed over at every step
    sizes = {"unknown": 60_000}
    many = [group for group in ["unknown", *groups] for _ in range(sizes.get(group, 1))]
    for seed in range(3):
        drawn = assign(many, ["a"] * len(many), {"val": 0.1}, seed=seed)
        assert drawn.count("val") == len(many) // 10
        assert drawn[0] == "train"
    assert time.perf_counter() - started < 5
