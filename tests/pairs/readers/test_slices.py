from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vesalius.errors import VesaliusError
from vesalius.pairs.readers.slices import choose

counts = st.integers(0, 300)
whole = st.integers(1, 400)


@pytest.mark.parametrize(
    ("spec", "count", "expected"),
    [
        ("all", 3, [0, 1, 2]),
        ("middle", 19, [9]),
        ("middle", 0, []),
        ("middle:4", 10, [3, 4, 5, 6]),
        ("middle:9", 4, [0, 1, 2, 3]),
        ("every:4", 10, [0, 4, 8]),
        ("2..4", 10, [2, 3, 4]),
        ("0..1", 10, [0, 1]),
        ("8..40", 10, [8, 9]),
        ("12..40", 10, []),
        ("0.0..1.0", 4, [0, 1, 2, 3]),
        ("0.3..0.7", 10, [3, 4, 5, 6]),
        ("0..0.5", 4, [0, 1]),
        (".5..1", 4, [2, 3]),
    ],
)
def test_each_way_of_choosing_takes_the_slices_that_its_documentation_says(spec, count, expected):
    assert choose(spec, count) == expected


@given(
    spec=st.one_of(
        st.just("all"),
        st.just("middle"),
        whole.map(lambda size: f"middle:{size}"),
        whole.map(lambda size: f"every:{size}"),
        st.tuples(whole, whole).map(lambda ends: f"{min(ends)}..{max(ends)}"),
        st.tuples(st.integers(0, 49), st.integers(50, 99)).map(lambda e: f"0.{e[0]:02}..0.{e[1]}"),
    ),
    count=counts,
)
def test_slices_exist_keep_their_order_and_come_once(spec, count):
    chosen = choose(spec, count)
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(count))


@given(size=whole, count=st.integers(1, 300))
def test_as_many_slices_are_left_out_on_either_side_of_the_middle(size, count):
    chosen = choose(f"middle:{size}", count)
    assert len(chosen) == min(size, count)
    assert 0 <= (count - 1 - chosen[-1]) - chosen[0] <= 1


@given(count=counts)
def test_neighbouring_fractions_share_no_slice_and_lose_none(count):
    parts = [choose(spec, count) for spec in ("0.0..0.337", "0.337..0.661", "0.661..1.0")]
    assert [index for part in parts for index in part] == list(range(count))


NOT_UNDERSTOOD = """
some middle: middle:0 middle:x every every:0 every:-1 5 5.. ..5 7..5 0.7..0.3 0.5..1.5 -1..5 a..b
1..2..3 all:2 nan..1.0 ٣..٥ 1_0..20
"""


@pytest.mark.parametrize("spec", ["", *NOT_UNDERSTOOD.split()])
def test_a_choice_that_is_not_understood_is_told_in_one_line(spec):
    for count in (0, 10):
        with pytest.raises(VesaliusError, match="should be all, middle") as caught:
            choose(spec, count)
        assert "\n" not in str(caught.value)


@given(spec=st.text(max_size=12))
def test_any_text_gives_slices_or_a_plain_error(spec):
    with suppress(VesaliusError):
        assert set(choose(spec, 7)) <= set(range(7))
