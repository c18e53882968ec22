from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from vesalius.data.splits import hold_out

groups = st.lists(st.integers(0, 30).map(str), min_size=1, max_size=200)


@given(groups, st.floats(0.05, 0.5))
def test_at_least_the_fraction_and_no_group_cut(names, fraction):
    held = hold_out(names, fraction)
    assert sum(held) >= fraction * len(names)
    sides = {(name, side) for name, side in zip(names, held, strict=True)}
    assert len(sides) == len(set(names))


@given(groups)
def test_no_more_than_the_fraction_and_one_group(names):
    largest = max(Counter(names).values())
    assert sum(hold_out(names, 0.1)) <= 0.1 * len(names) + largest


def test_the_order_of_rows_does_not_matter():
    names = [str(k % 17) for k in range(100)]
    held = {name for name, out in zip(names, hold_out(names, 0.2), strict=True) if out}
    again = {name for name, out in zip(names[::-1], hold_out(names[::-1], 0.2), strict=True) if out}
    assert held == again
