"""A clock that is set back or forward, as by a time server, changes nothing that is made or said."""

import itertools
import json
import time

import pytest
import torch

from vesalius.core import terminal
from vesalius.core.tensor_store import keys_of, open_store
from vesalius.core.words import about, duration
from vesalius.synthesize.engine import synthesize
from vesalius.synthesize.plan import PlanRow
from vesalius.synthesize.settings import SynthesizeSettings

HOUR = 3600.0


@pytest.fixture(params=["back", "forward", "to and fro"])
def jumping(request, monkeypatch):
    """The time of day jumps by an hour each time that it is asked."""
    real, calls = time.time, itertools.count()

    def told():
        number = next(calls)
        jump = {"back": -number, "forward": number, "to and fro": (-1) ** number}[request.param]
        return real() + HOUR * jump

    monkeypatch.setattr(time, "time", told)
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * told()))


@pytest.mark.usefixtures("jumping")
def test_progress_never_runs_backwards(capsys):
    with terminal.image_progress("reading") as update:
        for done in range(5):
            update(done, 4)
    with terminal.training_progress("lora", 0, 40) as update:
        for seen in range(0, 41, 10):
            update(seen, "loss 0.1")
    assert "-" not in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [-HOUR, -1e-9, 0.0])
def test_a_rate_over_no_time_or_less_is_no_rate(seconds):
    assert terminal.say_rate(5, seconds) == ""
    assert terminal.say_rate(0, 5.0) == ""


@pytest.mark.usefixtures("jumping")
def test_what_was_encoded_is_found_again(tmp_path):
    for number in range(2):
        store = open_store(tmp_path, {"encoder": "e"}, keys_of(["a", "b"]))
        assert len(store.missing()) == (0 if number else 2)
        store.fill(lambda k: {"x": torch.zeros(len(k), 2)}, 1)


@pytest.mark.usefixtures("jumping")
def test_a_set_is_made_in_parts_and_whole(tiny_flow, tmp_path):
    rows = [PlanRow(k, "chest x-ray, nodule", "nodule", k, steps=1) for k in range(4)]
    for shard in ("0/2", "1/2"):
        settings = SynthesizeSettings(
            model=str(tiny_flow), chunk=1, shard=shard, device="cpu", dtype="float32"
        )
        synthesize(rows, tmp_path / "set", settings)
    assert len((tmp_path / "set" / "manifest.jsonl").read_text().splitlines()) == 4
    assert json.loads((tmp_path / "set" / "about.json").read_text())["counts"]["images"] == 4


def test_times_in_words_are_never_negative():
    assert not duration(0.0).startswith("-") and not about(0.0).startswith("-")
