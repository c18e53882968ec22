"""What the tests of training share."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # line_method.py, which subprocesses run by its path


@pytest.fixture(autouse=True)
def _few_timed_steps(monkeypatch):
    """A dry run of a tiny model takes one step, not seconds of them."""
    monkeypatch.setattr("vesalius.train.timing.STEP_SECONDS", 0.0)
