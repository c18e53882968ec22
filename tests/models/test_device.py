"""Which number formats a device gets, and how a CPU is asked."""

import time

import pytest
import torch

from vesalius.models import device as devices


@pytest.fixture
def asked(monkeypatch):
    """A CPU with the instructions, and a function that says what the timed steps take."""
    devices.cpu_bfloat16_speed.cache_clear()
    monkeypatch.setattr(devices, "cpu_multiplies_bfloat16", lambda: True)
    calls = []

    def takes(plain, rounded):
        devices.cpu_bfloat16_speed.cache_clear()
        monkeypatch.setattr(devices, "time_cpu_steps", lambda: calls.append(1) or (plain, rounded))
        return calls

    yield takes
    devices.cpu_bfloat16_speed.cache_clear()


def test_a_cpu_computes_in_the_format_that_is_faster_and_is_asked_once(asked):
    cpu = torch.device("cpu")
    calls = asked(2.0, 1.0)
    assert [devices.pick_precision(cpu) for _ in range(2)] == ["bfloat16"] * 2
    assert devices.pick_formats(cpu).denoiser == torch.bfloat16  # sampling asks the same
    assert len(calls) == 1
    asked(1.0, 30.0)  # the instructions are there, and torch makes no use of them
    assert devices.pick_precision(cpu) == "float32"
    assert devices.pick_formats(cpu).denoiser == torch.float32
    assert len(calls) == 2


def test_a_cpu_without_the_instructions_is_not_timed(asked, monkeypatch):
    calls = asked(2.0, 1.0)
    monkeypatch.setattr(devices, "cpu_multiplies_bfloat16", lambda: False)
    assert devices.pick_precision(torch.device("cpu")) == "float32"
    assert not calls
    assert devices.pick_precision(torch.device("mps")) == "float32"


def test_the_timed_steps_leave_no_trace():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.inference_mode():  # a generator may be loaded there
        started = time.process_time()
        plain, rounded = devices.time_cpu_steps()
        taken = time.process_time() - started
    assert 0 < plain < 1
    assert 0 < rounded < 30
    # little more than the steps that are timed: they are no burden at every start
    assert taken < 10 * devices.TIMED_STEPS * (plain + rounded)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
