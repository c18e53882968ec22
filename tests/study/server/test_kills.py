"""The server is killed again and again while readers answer."""

import pytest


@pytest.mark.slow
@pytest.mark.ci
def test_no_acknowledged_answer_is_lost_or_there_twice():
    from benchmarks.study.kills import kill_often

    figures = kill_often(kills=8, readers=5, seed=1, trials=300)
    assert figures["acknowledged"] > 20
    assert (figures["lost"], figures["twice"]) == (0, 0)
