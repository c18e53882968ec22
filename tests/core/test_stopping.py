"""An interruption that a library takes for damage is an interruption all the same."""

import contextlib
import signal

import pytest
import torch
from safetensors.torch import save_file

from vesalius.core import stopping
from vesalius.core.tensors import read_tensors
from vesalius.errors import VesaliusError


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
    monkeypatch.setattr(stopping, "_asked", False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def file(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def told_as_damage(number):
    """What safetensors makes of a signal in the middle of its work: nothing is left of its cause."""

    def load(path, device="cpu"):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        raise ValueError("could not determine the shape of object type 'UntypedStorage'")

    return load


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_file_that_was_being_read_is_not_called_corrupt(number, file, monkeypatch):
    monkeypatch.setattr("safetensors.torch.load_file", told_as_damage(number))
    stopping.listen()
    with pytest.raises(KeyboardInterrupt):
        read_tensors(file)


def test_without_a_signal_it_is(file, monkeypatch):
    def load(path):
        raise ValueError("could not determine the shape")

    monkeypatch.setattr("safetensors.torch.load_file", load)
    stopping.listen()
    with pytest.raises(VesaliusError, match=r"corrupt \(could not determine the shape"):
        read_tensors(file)


@pytest.mark.parametrize("error", [VesaliusError("no"), ValueError("no")])
def test_the_command_ends_as_one_that_was_interrupted(error, run_cli, monkeypatch):
    def describe():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        raise error

    monkeypatch.setattr("vesalius.info.describe", describe)
    assert run_cli("info") == (130, "", "interrupted\n")


def test_an_ignored_ctrl_c_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopping.listen()
    signal.raise_signal(signal.SIGINT)
    assert not stopping.was_asked()
    signal.signal(signal.SIGINT, signal.default_int_handler)
