"""Numbers as pages write them."""

from vesalius.report.words import percent, sentence, short, signed, tail


def test_numbers_have_three_digits_that_count():
    numbers = [0, 0.00123, 0.5, 12.345, 1234.5, 65_000_000, None]
    assert [short(n) for n in numbers] == ["0", "0.00123", "0.5", "12.3", "1,234", "65.0 M", "–"]


def test_a_share_is_never_rounded_to_nothing_or_all():
    shares = [percent(share) for share in (0, 0.001, 0.5, 0.999, 1)]
    assert shares == ["0 %", "under 1 %", "50 %", "over 99 %", "100 %"]


def test_a_rounded_zero_has_no_sign():
    assert [signed(v) for v in (0.0004, -0.0004, 0.01, None)] == ["0.000", "0.000", "+0.010", "–"]


def test_sentences_and_ends_of_names():
    assert sentence("rows look alike") == "Rows look alike."
    assert tail("a-long-name-001.png") == "…-name-001.png"
