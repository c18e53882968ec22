import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.statistics.preferences import Choice, davidson, worths

PUDDINGS = """12:19/22/16 13:16/19/12 23:19/19/10 14:18/23/13 24:23/19/9 34:19/20/15 15:13/19/18
25:16/20/12 35:16/15/17 45:17/14/16 16:18/21/12 26:22/20/12 36:13/18/10 46:14/19/18 56:11/21/12"""


def puddings():
    wins, ties = np.zeros((2, 6, 6))
    for part in PUDDINGS.split():
        pair, counts = part.split(":")
        i, j = (int(c) - 1 for c in pair)
        wins[i, j], wins[j, i], tied = map(int, counts.split("/"))
        ties[i, j] = ties[j, i] = tied
    return wins, ties


def test_davidsons_puddings():
    found = davidson(*puddings())
    pi = [0.138803, 0.173001, 0.161747, 0.165373, 0.158685, 0.202389]
    assert found.values == pytest.approx(pi, abs=1e-6)
    assert found.nu == pytest.approx(0.746823, abs=1e-6)
    assert found.log_likelihood == pytest.approx(-809.70951, abs=1e-5)


def test_two_kinds_without_ties_are_shares():
    found = davidson([[0, 3], [1, 0]], np.zeros((2, 2)), ("a", "b"))
    assert found.values == pytest.approx([0.75, 0.25]) and found.nu == 0
    assert found.log_likelihood == pytest.approx(3 * np.log(0.75) + np.log(0.25))


def test_a_kind_that_never_won_has_no_worth():
    with pytest.raises(VesaliusError, match="never won"):
        davidson([[0, 3], [0, 0]], np.zeros((2, 2)), ("a", "b"))


def choices(readers=5, cases=60, *, left=0.5, a=0.5, tie=0.2, seed=0):
    """Readers differ in how they like `a`; `left` is the chance that the left side is chosen."""
    rng = np.random.default_rng(seed)
    made = []
    for reader in range(readers):
        likes = a + 0.1 * (reader / max(1, readers - 1) - 0.5)
        for case in range(cases):
            sides = ("a", "b") if (reader + case) % 2 else ("b", "a")
            weigh = [(likes if kind == "a" else 1 - likes) for kind in sides]
            chance = weigh[0] * left / (weigh[0] * left + weigh[1] * (1 - left))
            chosen = "left" if rng.random() < chance else "right"
            chosen = None if rng.random() < tie else chosen
            made.append(Choice(f"r{reader}", case, *sides, chosen))
    return made


def test_worths_find_what_was_drawn():
    found = worths(choices(a=0.7))
    assert found.names == ("a", "b") and found.scope == "readers and cases"
    assert found.low[0] < 0.7 < found.high[0] and found.low[0] > 0.5
    assert repr(found).startswith("a 0.699 (")


def test_two_readers_have_worths_of_these_readers_only():
    assert worths(choices(readers=2)).scope == "these readers only"


def test_intervals_are_wider_where_readers_differ():
    """Of 60 cases each, all readers choose `a` in 36, or the five in 16 to 56."""

    def reach(counts):
        rows = [
            Choice(f"r{j}", k, "a", "b", "left" if (k + 12 * j) % 60 < count else "right")
            for j, count in enumerate(counts)
            for k in range(60)
        ]
        found = worths(rows)
        assert found.values[0] == pytest.approx(0.6)
        return found.high[0] - found.low[0]

    alike = reach([36] * 5)
    assert alike < 0.15  # 3.92 sqrt(0.24 / 300) = 0.11
    assert reach([56, 46, 36, 26, 16]) > 3 * alike


def test_pairs_of_one_kind_say_nothing_of_worths():
    same = [Choice("r0", f"same {k}", "a", "a", "left") for k in range(10)]
    rows = choices()
    assert worths([*rows, *same]).values == pytest.approx(worths(rows).values)
    with pytest.raises(VesaliusError, match="two kinds"):
        worths(same)
