"""Numbers, times and names in messages."""

import pytest

from vesalius.core.words import about, did_you_mean, duration, plural


def test_one_is_not_several():
    said = [plural(1, "caption"), plural(1200, "caption"), plural(0, "class", "classes")]
    assert said == ["1 caption", "1,200 captions", "0 classes"]


def test_durations_are_read_at_a_glance():
    assert [duration(s) for s in (0.4, 59, 200, 7300)] == ["0 s", "59 s", "3 min 20 s", "2 h 1 min"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (42, "42 s"), (59, "1 min"), (150, "2.5 min"), (5400, "1.5 h"), (7e4, "19 h")],
)
def test_an_estimate_has_no_more_digits_than_it_knows(seconds, said):
    assert about(seconds) == said


def test_only_a_near_name_is_meant():
    known = ["augment-lora", "cytodiff", "mini"]
    assert did_you_mean("augment_lora", known) == ": did you mean augment-lora?"
    assert did_you_mean("Mini", known) == ": did you mean mini?"
    assert did_you_mean("foo", known) == ""
