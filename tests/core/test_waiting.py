"""What is said of a wait, and what a collector leaves alone."""

import gc
import time

import pytest

from vesalius.core import waiting


def test_a_long_wait_is_named_and_a_short_one_is_not(monkeypatch):
    monkeypatch.setattr(waiting, "QUIET_SECONDS", 0.05)
    said = []
    with waiting.loading("a model", said.append):
        time.sleep(0.2)
    with waiting.told("reading", said.append) as begun:
        begun()
        time.sleep(0.1)
    assert said == ["loading a model ..."]


def test_no_garbage_is_collected_while_loading_even_where_that_fails():
    assert gc.isenabled()
    with pytest.raises(ValueError, match="broken"), waiting.no_collecting():
        assert not gc.isenabled()
        raise ValueError("broken")
    assert gc.isenabled()
