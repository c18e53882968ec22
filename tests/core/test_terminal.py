"""What is seen of a long command, on a terminal or in a log file."""

import pytest

from vesalius.core import terminal


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_each_half_minute(clock, capsys):
    with terminal.image_progress("reading") as update:
        for done in range(0, 101, 5):
            update(done, 100)
            clock[0] += 5
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["reading: 30/100  1.0 img/s  1 min 10 s left",
                     "reading: 60/100  1.0 img/s  40 s left",
                     "reading: 90/100  1.0 img/s  10 s left"]  # fmt: skip


def test_a_log_of_a_training_too(clock, capsys):
    with terminal.training_progress("lora", 0, 4000) as update:
        for seen in (10, 2000, 2010, 4000):
            update(seen, "loss 0.1")
            clock[0] += 20
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["lora: 2,010 of 4,000 images seen  loss 0.1  40 s left"]
