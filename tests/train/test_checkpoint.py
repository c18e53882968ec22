import errno
import json
import os
import shutil

import pytest
import torch
from line_method import Line, plan
from safetensors import SafetensorError
from torch import nn

from vesalius.errors import VesaliusError
from vesalius.train import checkpoint
from vesalius.train.checkpoint import newest_checkpoint, save_checkpoint
from vesalius.train.loop import open_run, take_step, train
from vesalius.train.session import Session

TENSORS = {"model.w": torch.arange(4.0)}


def write(folder, seen, keep=2):
    return save_checkpoint(folder, TENSORS, {"seen_images": seen}, {}, keep)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def cut(path, bytes_left):
    path.write_bytes(path.read_bytes()[:bytes_left])


def test_the_last_ones_are_kept_and_what_a_kill_left_is_cleared(tmp_path):
    (tmp_path / ".0000000008.0a1b2c3d.tmp").mkdir()
    for seen in (8, 16, 24):
        write(tmp_path, seen)
    assert names(tmp_path) == ["0000000016", "0000000024"]


def test_the_new_one_stands_before_the_old_one_goes(tmp_path, monkeypatch):
    write(tmp_path, 8, keep=1)
    monkeypatch.setattr(
        checkpoint, "remove", lambda path: seen.append((path.name, names(tmp_path)))
    )
    seen = []
    write(tmp_path, 16, keep=1)
    assert seen == [("0000000008", ["0000000008", "0000000016"])]


@pytest.mark.parametrize("harm", ["half the tensors", "an empty file", "no state", "half a state"])
def test_a_torn_checkpoint_is_passed_over_for_the_one_before(tmp_path, harm):
    write(tmp_path, 8)
    torn = write(tmp_path, 16)
    if harm == "half the tensors":
        cut(torn / "state.safetensors", -8)
    elif harm == "an empty file":
        cut(torn / "state.safetensors", 0)
    elif harm == "no state":
        (torn / "state.json").unlink()
    else:
        cut(torn / "state.json", 20)
    warnings = []
    newest = newest_checkpoint(tmp_path, warnings.append)
    assert newest is not None
    assert newest.state["seen_images"] == 8
    assert ["torn" in text for text in warnings] == [True]
    # going on from there, the torn one is no reason to delete a good one
    write(tmp_path, 12)
    assert names(tmp_path) == ["0000000008", "0000000012"]


def test_without_a_whole_checkpoint_nothing_is_trained(tmp_path):
    shutil.rmtree(write(tmp_path, 8) / "state.json", ignore_errors=True)
    for path in tmp_path.glob("*/state.json"):
        path.unlink()
    with pytest.raises(VesaliusError, match=r"torn .* no other: train into another --out"):
        newest_checkpoint(tmp_path)


def test_a_full_disk_is_told_and_the_last_good_one_stays(tmp_path, monkeypatch):
    train(Line(), plan(seen_images=80), tmp_path)
    # as safetensors says it when a small tmpfs is full
    told = "Error while serializing: I/O error: " + os.strerror(errno.ENOSPC) + " (os error 28)"

    def full(*_):
        raise SafetensorError(told)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(VesaliusError, match=r"the disk is full: free \d+ MB"):
        train(Line(), plan(), tmp_path, Session(resume=True))
    assert names(tmp_path / "checkpoints") == ["0000000080"]
    monkeypatch.undo()
    train(Line(), plan(), tmp_path, Session(resume=True))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lr": 0.01}, "made with optimisation.lr 0.05, now it is 0.01"),
        ({"batch": 16}, "optimisation.batch 8"),
        ({"ema_half_life_images": 0}, "ema_half_life_images"),
    ],
)
def test_another_recipe_does_not_go_on_with_a_run(tmp_path, changes, told):
    train(Line(), plan(seen_images=80), tmp_path)
    before = (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(VesaliusError, match=told):
        train(Line(), plan(**changes), tmp_path, Session(resume=True))
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_another_model_method_or_set_does_not_go_on_with_a_run(tmp_path):
    train(Line(), plan(seen_images=80), tmp_path)
    wider, renamed, other, set_up = Line(), Line(), Line(), Line()
    wider.module.last = nn.Linear(4, 2)
    with pytest.raises(VesaliusError, match=r"another model: last.bias is \[1\] there, \[2\] here"):
        train(wider, plan(), tmp_path, Session(resume=True))
    renamed.name = "curve"
    with pytest.raises(VesaliusError, match="made with method line, now it is curve"):
        train(renamed, plan(), tmp_path, Session(resume=True))
    other.row_weights = torch.ones(7, dtype=torch.float64)
    with pytest.raises(VesaliusError, match="made with training rows 40"):
        train(other, plan(), tmp_path, Session(resume=True))
    set_up.settings = {"caption_dropout": 0.1}
    with pytest.raises(VesaliusError, match="made with caption_dropout None, now it"):
        train(set_up, plan(), tmp_path, Session(resume=True))


def test_a_longer_run_goes_on_with_a_shorter_one(tmp_path):
    train(Line(), plan(seen_images=80), tmp_path)
    train(Line(), plan(seen_images=160, checkpoint_images=40), tmp_path, Session(resume=True))
    assert names(tmp_path / "checkpoints") == ["0000000120", "0000000160"]


def test_restored_tensors_lie_in_memory_as_the_weights_do(tmp_path):
    """Fused steps refuse moments that are laid out otherwise."""

    class Pictures(Line):
        def __init__(self):
            super().__init__()
            self.module = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)

        def loss(self, rows, draw):
            return {"loss": self.module(torch.randn(len(rows), 3, 8, 8, generator=draw)).mean()}

        def validate(self, module):
            return {"loss": module.weight.square().mean().item()}

        def save(self, module, folder):
            folder.mkdir()

    train(Pictures(), plan(seen_images=80), tmp_path)
    run = open_run(Pictures(), plan(), tmp_path, Session(resume=True))
    weight = run.weights["weight"]
    moments = [run.optimiser.state[weight][key] for key in ("exp_avg", "exp_avg_sq")]
    for value in (weight, run.averages[16]["weight"], *moments):
        assert value.is_contiguous(memory_format=torch.channels_last)
    take_step(run)


def test_the_state_is_strict_json(tmp_path):
    train(Line(), plan(seen_images=8, validate_images=8), tmp_path)
    text = (tmp_path / "checkpoints" / "0000000008" / "state.json").read_text()
    state = json.loads(text, parse_constant=pytest.fail)
    assert state["state"]["best_seen_images"] == 8
