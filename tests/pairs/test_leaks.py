from hypothesis import given
from hypothesis import strategies as st

from vesalius.images.duplicates import Duplicate
from vesalius.pairs.leaks import find_leaks, longest_chain, safe_groups
from vesalius.pairs.splits import assign

KEYS = [f"{name}.png" for name in "abcdef"]
SPLITS = ["train", "train", "train", "val", "val", "test"]
ALONE = list("uvwxyz")  # every row a patient of its own
SAME = ["x"] * 6


def leaks(labels=SAME, groups=ALONE, splits=SPLITS, duplicates=()):
    found = find_leaks(KEYS, labels, groups, splits, list(duplicates))
    return [(leak.kind, leak.severity, leak.rows) for leak in found]


def test_a_clean_table_has_no_leaks():
    assert leaks() == []


def test_a_patient_on_two_sides_is_an_error_that_says_how_many_rows_are_where():
    groups = ["p", "p", "v", "p", "x", "z"]
    (leak,) = find_leaks(KEYS, SAME, groups, SPLITS, [])
    assert (leak.kind, leak.severity, leak.rows) == ("group", "error", (0, 1, 3))
    assert leak.message == "the group p: 2 in train, 1 in val"


def test_copies_across_splits_are_told_by_kind_and_sure_ones_are_errors():
    pairs = [
        Duplicate(0, 3, "near", 0.95),
        Duplicate(0, 5, "near", 0.95, turned=True),
        Duplicate(1, 4, "pixels", 1.0),
        Duplicate(2, 5, "bytes", 1.0),
        Duplicate(1, 5, "embedding", 0.99),
    ]
    assert leaks(duplicates=pairs) == [
        ("bytes", "error", (2, 5)),
        ("pixels", "error", (1, 4)),
        ("embedding", "warning", (1, 5)),
        ("near", "warning", (0, 3)),
        ("turned", "warning", (0, 5)),
    ]


def test_a_leak_names_both_rows_and_where_they_are():
    (leak,) = find_leaks(KEYS, SAME, ALONE, SPLITS, [Duplicate(0, 3, "bytes", 1.0)])
    assert leak.message == "the same file: a.png (train) and d.png (val)"


def test_one_picture_under_two_labels_is_found_inside_a_split_too():
    labels = ["benign", "malignant", None, "x", "x", "x"]
    pairs = [Duplicate(0, 2, "near", 0.95), Duplicate(1, 2, "near", 0.95)]
    assert leaks(labels, duplicates=pairs) == [("labels", "warning", (0, 1))]
    (leak,) = find_leaks(KEYS, labels, ALONE, SPLITS, pairs)
    assert leak.message == "one picture under two labels: a.png (benign) and b.png (malignant)"


def test_several_findings_in_another_order_are_the_same_label():
    labels = ["edema|effusion", "effusion|edema", *"xxxx"]
    assert leaks(labels, duplicates=[Duplicate(0, 1, "bytes", 1.0)]) == []


def test_patients_that_share_a_picture_become_one_group_under_the_smallest_name():
    pairs = [Duplicate(1, 3, "near", 0.95), Duplicate(0, 3, "near", 0.95)]
    assert safe_groups(["c", "b", "c", "a", "d", "e"], pairs) == ["a", "a", "a", "a", "d", "e"]


@given(
    st.lists(st.integers(0, 30).map(str), min_size=2, max_size=80).flatmap(
        lambda groups: st.tuples(
            st.just(groups),
            st.lists(st.tuples(*[st.integers(0, len(groups) - 1)] * 2), max_size=30),
        )
    )
)
def test_a_split_drawn_on_safe_groups_does_not_leak(table):
    groups, pairs = table
    duplicates = [Duplicate(min(p), max(p), "near", 1.0) for p in pairs if p[0] != p[1]]
    united = safe_groups(groups, duplicates)
    labels = ["x"] * len(groups)
    splits = assign(united, labels, {"val": 0.2, "test": 0.2})
    assert (
        find_leaks([str(k) for k in range(len(groups))], labels, groups, splits, duplicates) == []
    )


def test_groups_united_too_far_are_reported():
    groups = [str(k) for k in range(40)]
    chain = [Duplicate(k, k + 1, "near", 0.95) for k in range(9)]
    found = longest_chain(groups, safe_groups(groups, chain))
    assert found is not None
    assert (found.group, found.groups, found.rows, found.share) == ("0", 10, 10, 0.25)
    assert longest_chain(groups, safe_groups(groups, chain[:1])) is None


def test_a_patient_with_many_images_is_no_chain():
    groups = ["big"] * 30 + [str(k) for k in range(70)]
    assert longest_chain(groups, safe_groups(groups, [])) is None


def test_rows_that_are_not_used_are_on_no_side():
    splits = ["train", "unused", "train", "val", "unused", "test"]
    pairs = [Duplicate(0, 1, "bytes", 1.0), Duplicate(3, 4, "near", 0.9)]
    assert leaks(groups=["p", "p", "q", "r", "r", "t"], splits=splits, duplicates=pairs) == []
