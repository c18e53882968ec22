"""Places lie where their numbers are; scales have round ticks, whatever the values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vesalius.report.plots import (
    Series,
    bars,
    interval_plot,
    roc_points,
    round_scale,
    round_step,
    stack,
)
from vesalius.statistics.figure import Figure, measured, missing


def figures(value=12.0, *, of="all", reference="held_out", **more):
    figure = Figure(
        "fid", value, value - 2, value + 2, n=8, n_real=9, floor=10.0, floor_n=4,
        at_floor_n=value + 1,
    )  # fmt: skip
    row = measured("fidelity", figure, of=of, extractor="inception", reference=reference)
    return row.as_dict() | more


def test_marks_lie_where_their_numbers_are():
    rows = [("all", [Series(figures(12.0), 0, "a"), Series(figures(2.0), 1, "b", hollow=True)])]
    plot = interval_plot("FID", "", rows)
    assert plot is not None
    assert [label for _, label in plot.ticks] == ["0", "5", "10", "15"]
    first, second = plot.rows[0].marks
    assert (first.x, first.low, first.high) == (80.0, pytest.approx(66.67), pytest.approx(93.33))
    assert first.at_floor_n == pytest.approx(86.67)
    assert second.hollow
    assert plot.rows[0].floors == [pytest.approx(66.67)]
    assert "real against real 10 at n = 4, where the set has 13" in first.title


def test_a_plot_without_a_value_is_none():
    lost = missing("fidelity", "fid", "needs 2 images").as_dict()
    assert interval_plot("FID", "", [("all", [Series(lost, 0, "a")])]) is None


def test_a_curve_starts_below_and_ends_above():
    assert roc_points([[0, 0], [0.5, 0.9], [1, 1]]) == "0.0,100.0 50.0,10.0 100.0,0.0"


def test_classes_without_a_figure_are_named_once_below_the_plot():
    lost = [missing("fidelity", "fid", "needs 2 images", of=of).as_dict() for of in ("b", "c")]
    rows = [("a", [Series(figures(), 0, "s")]), *((f["of"], [Series(f, 0, "s")]) for f in lost)]
    plot = interval_plot("FID", "", rows)
    assert [row.name for row in plot.rows] == ["a"]
    assert plot.left_out == ["Not measured for b, c: needs 2 images."]


def test_shares_are_written_as_counts_and_in_percent():
    share = measured("privacy", Figure("copies", 0.0031, 0.0009, 0.0113, n=640)).as_dict()
    plot = interval_plot("Copies", "", [("structure", [Series(share, 0, "s")])], shares=True)
    assert [t.value for t in plot.rows[0].texts] == ["2 of 640, 0.3 % (0.1 to 1.1)"]
    assert plot.ticks[-1][1] == "1.5 %"


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_a_scale_holds_both_ends_in_few_round_ticks(low, span):
    span = span if span > 1e-6 else 0.0
    ticks = round_scale(low, low + span).ticks
    slack = 1e-6 * max(1, span)  # far under a pixel
    assert ticks[0] <= low + slack and ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 7


def test_values_that_are_all_the_same_have_a_scale():
    nothing = measured("privacy", Figure("copies", 0.0, n=5)).as_dict()
    plot = interval_plot("Copies", "", [("all", [Series(nothing, 0, "a")])])
    assert plot.rows[0].marks[0].x == 0.0


def test_steps_are_round():
    assert [round_step(span, 5) for span in (14, 5, 0.0113, 0)] == [5, 1, 0.005, 1]
    assert [round_step(span, 20) for span in (15, 30, 900)] == [1, 2, 50]


def test_bars_and_stacks_fill_their_box():
    assert [bar[1:4:2] for bar in bars([1, 4, 0])] == [(75, 25), (0, 100), (100, 0)]
    row = {"train": 6, "val": 0, "test": 2}
    assert stack(row, list(row), 16) == [("train", 0, 37.5), ("test", 37.5, 12.5)]


def test_the_line_to_compare_with_lies_where_its_number_is():
    below = measured("memorising", Figure("fid", -1.55, n=5)).as_dict()
    plot = interval_plot("FID less FID", "", [("all", [Series(below, 0, "a")])], guide=0.0)
    assert plot is not None and plot.guide is not None
    assert dict(plot.ticks)[plot.guide] == "0"
    assert plot.rows[0].marks[0].x < plot.guide


def test_an_axis_of_shares_ends_at_one():
    assert round_scale(0.93, 0.999, 0.005, end=1.0).ticks[-1] == 1
    assert round_scale(1.0, 1.0, 0.005, end=1.0).ticks == (0.0, 1.0)
    assert round_scale(0.2, 1.7, end=1.0).ticks[-1] == 2  # not a share after all
